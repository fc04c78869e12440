-- Records that could not be taken in, as they were consumed. headers is a JSON list of [name, hexadecimal or null].
CREATE TABLE saga_dead_letter (
    saga             TEXT NOT NULL,
    topic            TEXT NOT NULL,
    record_partition INTEGER NOT NULL,
    record_offset    INTEGER NOT NULL,
    record_key       BLOB,
    value            BLOB,
    headers          TEXT NOT NULL,
    reason           TEXT NOT NULL,
    error            TEXT NOT NULL,
    workflow_id      TEXT,
    version          INTEGER,
    recorded         TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('waiting', 'requeued', 'discarded', 'exported')),
    changed          TEXT,
    changed_by       TEXT,
    note             TEXT,
    PRIMARY KEY (saga, topic, record_partition, record_offset)
);

CREATE INDEX saga_dead_letter_requeued ON saga_dead_letter (saga, record_partition) WHERE state = 'requeued';

CREATE INDEX saga_dead_letter_version ON saga_dead_letter (saga, version, record_partition)
WHERE state = 'waiting' AND reason = 'unknown-version';

CREATE INDEX saga_dead_letter_workflow ON saga_dead_letter (workflow_id) WHERE workflow_id IS NOT NULL;

-- What was being tried when a process died, and how often: a JSON object of counts.
ALTER TABLE saga_lane ADD COLUMN trials TEXT NOT NULL DEFAULT '{}';
