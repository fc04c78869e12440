-- Not unique by order: that an order is dispatched once is the saga's promise, and for the audit to prove.
CREATE TABLE IF NOT EXISTS parcels (
    parcel   TEXT NOT NULL,
    order_id TEXT NOT NULL,
    courier  TEXT NOT NULL,
    country  TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS parcels_by_order ON parcels (order_id);
