-- The check is what makes an over-reservation impossible, whatever two transactions read before they wrote.
CREATE TABLE IF NOT EXISTS items (
    sku      TEXT PRIMARY KEY,
    on_hand  BIGINT NOT NULL CHECK (on_hand >= 0),
    reserved BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0)
);

-- Not unique by order and item: that an order is reserved once is the saga's promise, and for the audit to prove.
CREATE TABLE IF NOT EXISTS reservations (
    order_id TEXT NOT NULL,
    sku      TEXT NOT NULL REFERENCES items (sku),
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    status   TEXT NOT NULL CHECK (status IN ('reserved', 'released'))
);

CREATE INDEX IF NOT EXISTS reservations_by_order ON reservations (order_id);
