-- name: bury
INSERT INTO saga_dead_letter
    (saga, topic, record_partition, record_offset, record_key, value, headers, reason, error, workflow_id, version, recorded,
     state, changed, changed_by, note)
VALUES (%(saga)s, %(topic)s, %(partition)s, %(offset)s, %(key)s, %(value)s, %(headers)s, %(reason)s, %(error)s,
        %(workflow_id)s, %(version)s, %(recorded)s, %(state)s, %(changed)s, %(changed_by)s, %(note)s)
ON CONFLICT (saga, topic, record_partition, record_offset) DO UPDATE
    SET reason = excluded.reason, error = excluded.error, workflow_id = excluded.workflow_id, version = excluded.version,
        state = excluded.state
    WHERE saga_dead_letter.state = 'requeued' OR saga_dead_letter.reason = 'unknown-version' AND saga_dead_letter.state = 'waiting';

-- name: exhume
DELETE FROM saga_dead_letter
WHERE saga = %(saga)s AND topic = %(topic)s AND record_partition = %(partition)s AND record_offset = %(offset)s;

-- name: recalled
SELECT * FROM (
    SELECT saga, topic, record_partition, record_offset, record_key, value, headers, reason, error, workflow_id, version,
           recorded, state, changed, changed_by, note
    FROM saga_dead_letter
    WHERE saga = %(saga)s AND state = 'requeued' AND record_partition = ANY(%(lanes)s::integer[])
    UNION ALL
    SELECT saga, topic, record_partition, record_offset, record_key, value, headers, reason, error, workflow_id, version,
           recorded, state, changed, changed_by, note
    FROM saga_dead_letter
    WHERE saga = %(saga)s AND state = 'waiting' AND reason = 'unknown-version'
      AND version = ANY(%(versions)s::integer[]) AND record_partition = ANY(%(lanes)s::integer[])
) AS letters
ORDER BY recorded, topic, record_partition, record_offset LIMIT %(limit)s;

-- name: letters
SELECT saga, topic, record_partition, record_offset, record_key, value, headers, reason, error, workflow_id, version,
       recorded, state, changed, changed_by, note
FROM saga_dead_letter
WHERE (%(saga)s::text IS NULL OR saga = %(saga)s) AND (%(topic)s::text IS NULL OR topic = %(topic)s)
  AND (%(partition)s::integer IS NULL OR record_partition = %(partition)s)
  AND (%(offset)s::bigint IS NULL OR record_offset = %(offset)s)
  AND (%(reason)s::text IS NULL OR reason = %(reason)s) AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(workflow_id)s::text IS NULL OR workflow_id = %(workflow_id)s)
ORDER BY recorded, saga, topic, record_partition, record_offset LIMIT %(limit)s;

-- name: settle
UPDATE saga_dead_letter SET state = %(state)s, changed = %(changed)s, changed_by = %(changed_by)s, note = %(note)s
WHERE saga = %(saga)s AND topic = %(topic)s AND record_partition = %(partition)s AND record_offset = %(offset)s
    AND state = %(seen)s;

-- name: forget
DELETE FROM saga_dead_letter
WHERE (saga, topic, record_partition, record_offset) IN (
    SELECT saga, topic, record_partition, record_offset FROM saga_dead_letter
    WHERE saga = %(saga)s AND changed < %(before)s AND state IN ('discarded', 'exported')
    ORDER BY changed, topic, record_partition, record_offset LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING record_offset;
