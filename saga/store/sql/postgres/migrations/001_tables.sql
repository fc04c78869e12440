-- Ids are compared byte by byte (COLLATE "C"), so that rows are locked and published in one order on every server.
-- JSON columns are of type json, which keeps the text as it was written.

CREATE TABLE saga_migration (
    number  integer PRIMARY KEY,
    name    text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE saga_topics (
    saga       text COLLATE "C" PRIMARY KEY,
    partitions integer NOT NULL,
    topic_ids  json NOT NULL DEFAULT '{}'
);

-- backend is the server process of the owner's session as of its last claim or commit.
CREATE TABLE saga_lane (
    saga    text COLLATE "C" NOT NULL,
    lane    integer NOT NULL,
    epoch   bigint NOT NULL,
    batch   bigint NOT NULL,
    offsets json NOT NULL,
    clean   boolean NOT NULL,
    backend integer NOT NULL,
    PRIMARY KEY (saga, lane)
) WITH (fillfactor = 20);

-- The workflow comes first in every key, so that a person may ask for it without knowing its saga.
CREATE TABLE saga_workflow (
    workflow_id text COLLATE "C" NOT NULL,
    saga        text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    lane        integer NOT NULL,
    status      text NOT NULL,
    sequence    bigint NOT NULL,
    deadline    timestamptz,
    opened      timestamptz NOT NULL,
    closed      timestamptz,
    gates       json,
    error       text,
    traceparent text,
    tracestate  text,
    steps       json,
    PRIMARY KEY (workflow_id, saga),
    CHECK ((closed IS NULL) = (steps IS NULL))
) WITH (fillfactor = 80);

CREATE TABLE saga_fence (
    workflow_id text COLLATE "C" NOT NULL,
    saga        text COLLATE "C" NOT NULL,
    step        text COLLATE "C" NOT NULL,
    status      text NOT NULL,
    event       text,
    result      bytea,
    pending     boolean NOT NULL,
    refused     boolean NOT NULL,
    attempt     integer NOT NULL,
    due         timestamptz,
    error       text,
    changed     timestamptz,
    expires     timestamptz,
    PRIMARY KEY (workflow_id, saga, step)
) WITH (fillfactor = 80);

CREATE INDEX saga_fence_expires ON saga_fence (saga, expires) WHERE expires IS NOT NULL;

CREATE INDEX saga_workflow_deadline ON saga_workflow (saga, deadline)
WHERE deadline IS NOT NULL AND closed IS NULL AND error IS NULL;

CREATE INDEX saga_fence_due ON saga_fence (saga, due) WHERE due IS NOT NULL;

CREATE INDEX saga_fence_running ON saga_fence (saga, workflow_id) WHERE status IN ('running', 'compensating');

CREATE TABLE saga_inbox (
    workflow_id      text COLLATE "C" NOT NULL,
    saga             text COLLATE "C" NOT NULL,
    id               text COLLATE "C" NOT NULL,
    step             text NOT NULL,
    status           text NOT NULL,
    type             text NOT NULL,
    payload          bytea,
    state            text NOT NULL CHECK (state IN ('recorded', 'handled')),
    cause            text,
    traceparent      text,
    tracestate       text,
    topic            text NOT NULL,
    record_partition integer NOT NULL,
    record_offset    bigint NOT NULL,
    received         timestamptz,
    PRIMARY KEY (workflow_id, saga, id)
);

-- id, aggregatetype (the topic), aggregateid (the workflow), type and payload are what Debezium's outbox event router reads.
CREATE TABLE saga_outbox (
    id            text NOT NULL,
    aggregatetype text NOT NULL,
    aggregateid   text COLLATE "C" NOT NULL,
    type          text NOT NULL,
    payload       bytea NOT NULL,
    saga          text COLLATE "C" NOT NULL,
    lane          integer NOT NULL,
    sequence      bigint NOT NULL,
    headers       text NOT NULL,
    created       timestamptz NOT NULL,
    published     timestamptz,
    record_offset bigint,
    handled       timestamptz,
    PRIMARY KEY (aggregateid, saga, sequence)
);

CREATE INDEX saga_outbox_pending ON saga_outbox (saga, lane, aggregateid, sequence) WHERE published IS NULL;
