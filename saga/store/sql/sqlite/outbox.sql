-- name: save_outbox
INSERT INTO saga_outbox (id, aggregatetype, aggregateid, type, payload, saga, lane, sequence, headers, created)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: mark
UPDATE saga_outbox SET published = ?1, record_offset = ?2 WHERE aggregateid = ?3 AND saga = ?4 AND sequence = ?5;

-- name: clean
DELETE FROM saga_outbox WHERE aggregateid = ?1 AND saga = ?2 AND sequence = ?3;

-- name: again
UPDATE saga_outbox SET published = NULL, record_offset = NULL
WHERE aggregateid = ?1 AND saga = ?2 AND sequence = ?3 AND record_offset = ?4;

-- name: clean_before
DELETE FROM saga_outbox WHERE rowid IN (
    SELECT rowid FROM saga_outbox
    WHERE saga = ?1 AND lane = ?2 AND aggregatetype = ?3 AND record_offset < ?4 ORDER BY record_offset LIMIT ?5
);

-- name: unhandled
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, x'' AS payload, created, published, record_offset
FROM saga_outbox
WHERE saga = ?1 AND lane = ?2 AND record_offset IS NOT NULL AND (aggregatetype, record_offset) > (?3, ?4)
ORDER BY aggregatetype, record_offset LIMIT ?5;

-- name: outstanding
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, x'' AS payload, created, published, record_offset
FROM saga_outbox WHERE created < ?1 ORDER BY created, aggregateid, sequence LIMIT ?2;

-- name: backlog
SELECT count(*) FROM (SELECT 1 FROM saga_outbox WHERE saga = ?1 AND published IS NULL LIMIT ?2);

-- name: waiting
SELECT lane, count(*), min(created) FROM saga_outbox WHERE saga = ?1 AND published IS NULL GROUP BY lane;

-- name: pending
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, payload, created
FROM (
    SELECT *, sum(length(payload)) OVER (ORDER BY aggregateid, sequence) AS reach
    FROM (
        SELECT * FROM saga_outbox
        WHERE saga = ?1 AND lane = ?2 AND published IS NULL AND id NOT IN (SELECT value FROM json_each(?3))
        ORDER BY aggregateid, sequence LIMIT ?4
    )
)
WHERE reach - length(payload) < ?5
ORDER BY aggregateid, sequence;

-- name: outbox_of_workflow
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, payload, created, published, record_offset
FROM saga_outbox WHERE saga = ?1 AND aggregateid = ?2 ORDER BY sequence;
