-- A journal: one row for each outcome, nothing is ever changed. Amounts are in pence.
-- Not unique by order: that an order is authorised once is the saga's promise, and for the audit to prove.
CREATE TABLE IF NOT EXISTS payments (
    order_id      TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('authorised', 'declined', 'voided')),
    authorisation TEXT,
    amount        BIGINT NOT NULL DEFAULT 0,
    reason        TEXT
);

CREATE INDEX IF NOT EXISTS payments_by_order ON payments (order_id);
