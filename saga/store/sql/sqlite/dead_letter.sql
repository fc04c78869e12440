-- name: bury
INSERT INTO saga_dead_letter
    (saga, topic, record_partition, record_offset, record_key, value, headers, reason, error, workflow_id, version, recorded,
     state, changed, changed_by, note)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (saga, topic, record_partition, record_offset) DO UPDATE
    SET reason = excluded.reason, error = excluded.error, workflow_id = excluded.workflow_id, version = excluded.version,
        state = excluded.state
    WHERE saga_dead_letter.state = 'requeued' OR saga_dead_letter.reason = 'unknown-version' AND saga_dead_letter.state = 'waiting';

-- name: exhume
DELETE FROM saga_dead_letter WHERE saga = ? AND topic = ? AND record_partition = ? AND record_offset = ?;

-- name: recalled
SELECT * FROM (
    SELECT saga, topic, record_partition, record_offset, record_key, value, headers, reason, error, workflow_id, version,
           recorded, state, changed, changed_by, note
    FROM saga_dead_letter
    WHERE saga = ?1 AND state = 'requeued' AND record_partition IN (SELECT value FROM json_each(?2))
    UNION ALL
    SELECT saga, topic, record_partition, record_offset, record_key, value, headers, reason, error, workflow_id, version,
           recorded, state, changed, changed_by, note
    FROM saga_dead_letter
    WHERE saga = ?1 AND state = 'waiting' AND reason = 'unknown-version'
      AND version IN (SELECT value FROM json_each(?3)) AND record_partition IN (SELECT value FROM json_each(?2))
)
ORDER BY recorded, topic, record_partition, record_offset LIMIT ?4;

-- name: letters
SELECT saga, topic, record_partition, record_offset, record_key, value, headers, reason, error, workflow_id, version,
       recorded, state, changed, changed_by, note
FROM saga_dead_letter
WHERE (?1 IS NULL OR saga = ?1) AND (?2 IS NULL OR topic = ?2) AND (?3 IS NULL OR record_partition = ?3)
  AND (?4 IS NULL OR record_offset = ?4) AND (?5 IS NULL OR reason = ?5) AND (?6 IS NULL OR state = ?6)
  AND (?7 IS NULL OR workflow_id = ?7)
ORDER BY recorded, saga, topic, record_partition, record_offset LIMIT ?8;

-- name: settle
UPDATE saga_dead_letter SET state = ?, changed = ?, changed_by = ?, note = ?
WHERE saga = ? AND topic = ? AND record_partition = ? AND record_offset = ? AND state = ?;

-- name: forget
DELETE FROM saga_dead_letter
WHERE (saga, topic, record_partition, record_offset) IN (
    SELECT saga, topic, record_partition, record_offset FROM saga_dead_letter
    WHERE saga = ? AND changed < ? AND state IN ('discarded', 'exported')
    ORDER BY changed, topic, record_partition, record_offset LIMIT ?
);
