-- Moments are ISO 8601 text in UTC, which sorts as time does. Lists and maps are JSON text.

CREATE TABLE saga_migration (
    number  INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    applied TEXT NOT NULL
);

CREATE TABLE saga_topics (
    saga       TEXT PRIMARY KEY,
    partitions INTEGER NOT NULL,
    topic_ids  TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;

CREATE TABLE saga_lane (
    saga    TEXT NOT NULL,
    lane    INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    batch   INTEGER NOT NULL,
    offsets TEXT NOT NULL,
    clean   INTEGER NOT NULL,
    PRIMARY KEY (saga, lane)
) WITHOUT ROWID;

-- The workflow comes first in every key, so that a person may ask for it without knowing its saga.
CREATE TABLE saga_workflow (
    workflow_id TEXT NOT NULL,
    saga        TEXT NOT NULL,
    version     INTEGER NOT NULL,
    lane        INTEGER NOT NULL,
    status      TEXT NOT NULL,
    sequence    INTEGER NOT NULL,
    deadline    TEXT,
    opened      TEXT NOT NULL,
    closed      TEXT,
    gates       TEXT,
    error       TEXT,
    traceparent TEXT,
    tracestate  TEXT,
    steps       TEXT,
    PRIMARY KEY (workflow_id, saga),
    CHECK ((closed IS NULL) = (steps IS NULL))
) WITHOUT ROWID;

CREATE TABLE saga_fence (
    workflow_id TEXT NOT NULL,
    saga        TEXT NOT NULL,
    step        TEXT NOT NULL,
    status      TEXT NOT NULL,
    event       TEXT,
    result      BLOB,
    pending     INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    due         TEXT,
    error       TEXT,
    changed     TEXT,
    expires     TEXT,
    PRIMARY KEY (workflow_id, saga, step)
) WITHOUT ROWID;

CREATE INDEX saga_fence_expires ON saga_fence (saga, expires) WHERE expires IS NOT NULL;

CREATE INDEX saga_workflow_deadline ON saga_workflow (saga, deadline)
WHERE deadline IS NOT NULL AND closed IS NULL AND error IS NULL;

CREATE INDEX saga_fence_due ON saga_fence (saga, due) WHERE due IS NOT NULL;

CREATE INDEX saga_fence_running ON saga_fence (saga, workflow_id) WHERE status IN ('running', 'compensating');

CREATE TABLE saga_inbox (
    workflow_id      TEXT NOT NULL,
    saga             TEXT NOT NULL,
    id               TEXT NOT NULL,
    step             TEXT NOT NULL,
    status           TEXT NOT NULL,
    type             TEXT NOT NULL,
    payload          BLOB,
    state            TEXT NOT NULL CHECK (state IN ('recorded', 'handled')),
    cause            TEXT,
    traceparent      TEXT,
    tracestate       TEXT,
    topic            TEXT NOT NULL,
    record_partition INTEGER NOT NULL,
    record_offset    INTEGER NOT NULL,
    received         TEXT,
    PRIMARY KEY (workflow_id, saga, id)
) WITHOUT ROWID;

-- id, aggregatetype (the topic), aggregateid (the workflow), type and payload are what Debezium's outbox event router reads.
CREATE TABLE saga_outbox (
    id            TEXT NOT NULL,
    aggregatetype TEXT NOT NULL,
    aggregateid   TEXT NOT NULL,
    type          TEXT NOT NULL,
    payload       BLOB NOT NULL,
    saga          TEXT NOT NULL,
    lane          INTEGER NOT NULL,
    sequence      INTEGER NOT NULL,
    headers       TEXT NOT NULL,
    created       TEXT NOT NULL,
    published     TEXT,
    record_offset INTEGER,
    handled       TEXT,
    PRIMARY KEY (aggregateid, saga, sequence)
);

CREATE INDEX saga_outbox_pending ON saga_outbox (saga, lane, aggregateid, sequence) WHERE published IS NULL;
