-- `request` is the order as the customer sent it; a second request with the same order_id must equal it. Amounts are in pence.
CREATE TABLE IF NOT EXISTS orders (
    order_id    TEXT PRIMARY KEY,
    workflow_id TEXT NOT NULL UNIQUE,
    request     TEXT NOT NULL,
    total       BIGINT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('placed', 'confirmed', 'cancelled')),
    parcel      TEXT
);
