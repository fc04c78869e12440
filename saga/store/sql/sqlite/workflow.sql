-- name: load_workflows
SELECT w.workflow_id, w.version, w.lane, w.status, w.sequence, w.deadline, w.opened, w.closed, w.gates, w.error,
       w.traceparent, w.tracestate, w.steps, w.exceptions, w.interventions, w.unwind_by
FROM json_each(?2) AS ids CROSS JOIN saga_workflow AS w ON w.workflow_id = ids.value AND w.saga = ?1;

-- name: load_fences
SELECT f.workflow_id, f.step, f.status, f.event, f.result, f.pending, f.refused, f.attempt, f.due, f.error, f.changed,
       f.expires
FROM json_each(?2) AS ids CROSS JOIN saga_fence AS f ON f.workflow_id = ids.value AND f.saga = ?1;

-- name: load_inbox
SELECT i.workflow_id, i.id, i.step, i.status, i.type, i.payload, i.state, i.cause, i.traceparent, i.tracestate, i.topic,
       i.record_partition, i.record_offset, i.received
FROM json_each(?2) AS ids CROSS JOIN saga_inbox AS i ON i.workflow_id = ids.value AND i.saga = ?1;

-- name: load_unpublished
SELECT o.aggregateid, o.id
FROM json_each(?2) AS ids CROSS JOIN saga_outbox AS o ON o.aggregateid = ids.value AND o.saga = ?1
WHERE o.published IS NULL;

-- name: running
SELECT w.workflow_id
FROM saga_fence AS f JOIN saga_workflow AS w ON w.workflow_id = f.workflow_id AND w.saga = f.saga
WHERE f.saga = ?1 AND f.status IN ('running', 'compensating') AND w.lane = ?2
GROUP BY w.workflow_id ORDER BY w.opened, w.workflow_id;

-- name: parked
SELECT topic, record_offset FROM saga_inbox WHERE saga = ?1 AND record_partition = ?2 AND state = 'recorded'
UNION ALL
SELECT topic, record_offset FROM saga_dead_letter
WHERE saga = ?1 AND record_partition = ?2 AND state = 'waiting' AND reason = 'unknown-version';

-- name: due
-- Here and below the limit is inside too, so that the index of moments is read no further: after an outage all may be due at once.
SELECT lane, workflow_id FROM (
    SELECT w.lane, w.workflow_id, f.due
    FROM saga_fence AS f JOIN saga_workflow AS w ON w.workflow_id = f.workflow_id AND w.saga = f.saga
    WHERE f.saga = ?1 AND f.due <= ?3 AND w.lane IN (SELECT value FROM json_each(?2))
      AND w.version IN (SELECT value FROM json_each(?5))
    ORDER BY f.due, f.workflow_id LIMIT ?4
)
GROUP BY lane, workflow_id ORDER BY min(due), workflow_id;

-- name: expired
SELECT lane, workflow_id FROM (
    SELECT * FROM (
        SELECT w.lane, w.workflow_id, f.expires AS moment
        FROM saga_fence AS f JOIN saga_workflow AS w ON w.workflow_id = f.workflow_id AND w.saga = f.saga
        WHERE f.saga = ?1 AND f.expires <= ?3 AND w.lane IN (SELECT value FROM json_each(?2))
          AND w.version IN (SELECT value FROM json_each(?5))
        ORDER BY f.expires, f.workflow_id LIMIT ?4
    )
    UNION ALL
    SELECT * FROM (
        SELECT lane, workflow_id, deadline FROM saga_workflow
        WHERE ?6 <> '[]' AND saga = ?1 AND deadline <= ?3 AND closed IS NULL AND error IS NULL
          AND lane IN (SELECT value FROM json_each(?2)) AND version IN (SELECT value FROM json_each(?6))
        ORDER BY deadline, workflow_id LIMIT ?4
    )
    UNION ALL
    SELECT * FROM (
        SELECT lane, workflow_id, unwind_by FROM saga_workflow
        WHERE ?6 <> '[]' AND saga = ?1 AND unwind_by <= ?3 AND closed IS NULL
          AND lane IN (SELECT value FROM json_each(?2)) AND version IN (SELECT value FROM json_each(?6))
        ORDER BY unwind_by, workflow_id LIMIT ?4
    )
)
GROUP BY lane, workflow_id ORDER BY min(moment), workflow_id LIMIT ?4;

-- name: sagas_of_workflow
SELECT saga FROM saga_workflow WHERE workflow_id = ?1 ORDER BY saga;

-- name: page
SELECT workflow_id FROM saga_workflow WHERE saga = ?1 AND workflow_id > ?2 ORDER BY workflow_id LIMIT ?3;

-- name: search
SELECT w.saga,
       CASE WHEN w.closed IS NOT NULL THEN w.closed ELSE max(
           w.opened,
           coalesce((SELECT max(i.received) FROM saga_inbox AS i WHERE i.workflow_id = w.workflow_id AND i.saga = w.saga), ''),
           coalesce((SELECT max(f.changed) FROM saga_fence AS f
                     WHERE f.workflow_id = w.workflow_id AND f.saga = w.saga AND f.error IS NULL), '')
       ) END AS moved,
       w.workflow_id, w.version, w.lane, w.status, w.sequence, w.deadline, w.opened, w.closed, w.gates, w.error,
       w.traceparent, w.tracestate, w.steps, w.exceptions, w.interventions, w.unwind_by
FROM saga_workflow AS w
WHERE (?1 IS NULL OR w.saga = ?1) AND (?2 IS NULL OR w.version = ?2) AND (?3 IS NULL OR w.status = ?3)
  AND (NOT ?4 OR w.exceptions IS NOT NULL)

-- name: latest
ORDER BY w.opened DESC, w.workflow_id, w.saga LIMIT ?5;

-- name: longest_open
AND w.closed IS NULL
ORDER BY moved, w.opened DESC, w.workflow_id, w.saga LIMIT ?5;

-- name: longest_parked
AND w.closed IS NULL
AND (w.workflow_id, w.saga) IN (SELECT f.workflow_id, f.saga FROM saga_fence AS f WHERE f.error IS NOT NULL)
ORDER BY moved, w.opened DESC, w.workflow_id, w.saga LIMIT ?5;

-- name: left
SELECT count(*),
       coalesce(sum(CASE WHEN EXISTS (
           SELECT 1 FROM saga_fence AS f WHERE f.workflow_id = w.workflow_id AND f.saga = w.saga AND f.error IS NOT NULL
       ) THEN 1 ELSE 0 END), 0),
       coalesce(sum(CASE WHEN w.deadline IS NOT NULL OR EXISTS (
           SELECT 1 FROM saga_fence AS f
           WHERE f.workflow_id = w.workflow_id AND f.saga = w.saga AND (f.due IS NOT NULL OR f.expires IS NOT NULL)
       ) THEN 1 ELSE 0 END), 0),
       (SELECT count(*) FROM saga_outbox AS o JOIN saga_workflow AS v ON v.workflow_id = o.aggregateid AND v.saga = o.saga
        WHERE o.saga = ?1 AND o.published IS NULL AND v.version = ?2)
FROM saga_workflow AS w
WHERE w.saga = ?1 AND w.version = ?2 AND w.closed IS NULL;

-- name: save_workflow
INSERT OR REPLACE INTO saga_workflow
    (workflow_id, saga, version, lane, status, sequence, deadline, opened, closed, gates, error, traceparent, tracestate, steps,
     exceptions, interventions, unwind_by)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: save_fence
INSERT OR REPLACE INTO saga_fence
    (workflow_id, saga, step, status, event, result, pending, refused, attempt, due, error, changed, expires)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: save_received
INSERT OR REPLACE INTO saga_inbox
    (workflow_id, saga, id, step, status, type, payload, state, cause, traceparent, tracestate, topic,
     record_partition, record_offset, received)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: drop_fences
DELETE FROM saga_fence WHERE saga = ?1 AND workflow_id IN (SELECT value FROM json_each(?2));

-- name: drop_inbox
DELETE FROM saga_inbox WHERE saga = ?1 AND workflow_id IN (SELECT value FROM json_each(?2));

-- name: prunable
SELECT workflow_id, closed FROM saga_workflow AS w
WHERE saga = ?1 AND lane = ?2 AND closed < ?3
  AND NOT EXISTS (SELECT 1 FROM saga_outbox WHERE aggregateid = w.workflow_id AND saga = w.saga)
ORDER BY closed LIMIT ?4;

-- name: prune
DELETE FROM saga_workflow WHERE saga = ?1 AND workflow_id IN (SELECT value FROM json_each(?2));

-- name: count_parked
SELECT count(*)
FROM (SELECT DISTINCT workflow_id FROM saga_fence WHERE saga = ?1 AND error IS NOT NULL LIMIT ?2);
