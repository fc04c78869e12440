-- name: save_outbox
INSERT INTO saga_outbox (id, aggregatetype, aggregateid, type, payload, saga, lane, sequence, headers, created)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: mark
UPDATE saga_outbox SET published = ?1, record_offset = ?2 WHERE aggregateid = ?3 AND saga = ?4 AND sequence = ?5;

-- name: backlog
SELECT count(*) FROM (SELECT 1 FROM saga_outbox WHERE saga = ?1 AND published IS NULL LIMIT ?2);

-- name: pending
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, payload, created
FROM saga_outbox WHERE saga = ?1 AND lane = ?2 AND published IS NULL ORDER BY aggregateid, sequence LIMIT ?3;

-- name: outbox_of_workflow
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, payload, created
FROM saga_outbox WHERE saga = ?1 AND aggregateid = ?2 ORDER BY sequence;
