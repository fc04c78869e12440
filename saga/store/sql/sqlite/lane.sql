-- name: partitions
SELECT partitions, registered, participant FROM saga_topics WHERE saga = ?1;

-- name: record_partitions
INSERT INTO saga_topics (saga, partitions) VALUES (?1, ?2);

-- name: record_author
UPDATE saga_topics SET participant = ?2, registered = ?3 WHERE saga = ?1 AND (participant IS NOT ?2 OR registered <> ?3);

-- name: lane
SELECT epoch, batch, offsets, acks, gaps, trials, pruned, clean FROM saga_lane WHERE saga = ?1 AND lane = ?2;

-- name: lanes
SELECT saga, lane, epoch, batch, offsets, acks, gaps, trials, pruned, clean FROM saga_lane ORDER BY saga, lane;

-- name: claim
INSERT INTO saga_lane (saga, lane, epoch, batch, offsets, clean) VALUES (?1, ?2, 1, 0, '{}', 0)
ON CONFLICT (saga, lane) DO UPDATE SET epoch = epoch + 1, clean = 0;

-- name: release
UPDATE saga_lane SET clean = 1, trials = '{}' WHERE saga = ?1 AND lane = ?2 AND epoch = ?3 AND batch >= ?4;

-- name: advance
UPDATE saga_lane
SET batch = ?4, offsets = ?5, acks = ?6, gaps = ?7, pruned = coalesce(max(pruned, ?8), pruned, ?8)
WHERE saga = ?1 AND lane = ?2 AND epoch = ?3 AND batch >= ?9;

-- name: batches
SELECT lane, epoch, batch FROM saga_lane WHERE saga = ?1;

-- name: pruned
UPDATE saga_lane SET pruned = coalesce(max(pruned, ?4), pruned, ?4) WHERE saga = ?1 AND lane = ?2 AND epoch = ?3;

-- name: count
UPDATE saga_lane SET trials = ?4 WHERE saga = ?1 AND lane = ?2 AND epoch = ?3;

-- name: take_write_lock
DELETE FROM saga_topics WHERE FALSE;
