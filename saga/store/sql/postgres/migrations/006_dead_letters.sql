-- Records that could not be taken in, as they were consumed. headers is a JSON list of [name, hexadecimal or null].
CREATE TABLE saga_dead_letter (
    saga             text COLLATE "C" NOT NULL,
    topic            text COLLATE "C" NOT NULL,
    record_partition integer NOT NULL,
    record_offset    bigint NOT NULL,
    record_key       bytea,
    value            bytea,
    headers          text NOT NULL,
    reason           text NOT NULL,
    error            text NOT NULL,
    workflow_id      text COLLATE "C",
    version          integer,
    recorded         timestamptz NOT NULL,
    state            text NOT NULL CHECK (state IN ('waiting', 'requeued', 'discarded', 'exported')),
    changed          timestamptz,
    changed_by       text,
    note             text,
    PRIMARY KEY (saga, topic, record_partition, record_offset)
);

CREATE INDEX saga_dead_letter_requeued ON saga_dead_letter (saga, record_partition) WHERE state = 'requeued';

CREATE INDEX saga_dead_letter_version ON saga_dead_letter (saga, version, record_partition)
WHERE state = 'waiting' AND reason = 'unknown-version';

CREATE INDEX saga_dead_letter_workflow ON saga_dead_letter (workflow_id) WHERE workflow_id IS NOT NULL;

-- What was being tried when a process died, and how often: a JSON object of counts.
ALTER TABLE saga_lane ADD COLUMN trials json NOT NULL DEFAULT '{}';
