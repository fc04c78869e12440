-- The checks are what makes an overdraft impossible, whatever two transactions read before they wrote.
CREATE TABLE accounts (
    account TEXT PRIMARY KEY,
    balance BIGINT NOT NULL CHECK (balance >= 0),
    held    BIGINT NOT NULL DEFAULT 0 CHECK (held >= 0)
);

-- Not unique: that nothing is entered twice is the saga's promise, and for the audit to prove.
CREATE TABLE entries (
    workflow TEXT NOT NULL,
    step     TEXT NOT NULL,
    act      TEXT NOT NULL,
    account  TEXT NOT NULL,
    balance  BIGINT NOT NULL,
    held     BIGINT NOT NULL
);
