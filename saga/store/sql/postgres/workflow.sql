-- name: lock_name
-- Whoever asks for one workflow alone may be about to open it, and a row that is not there cannot be locked.
SELECT pg_advisory_xact_lock(hashtextextended(%(saga)s::text || '/' || %(id)s::text, 0));

-- name: load_workflows
SELECT workflow_id, version, lane, status, sequence, deadline, opened, closed, gates::text, error, traceparent, tracestate,
       steps::text, exceptions::text, interventions::text, unwind_by
FROM saga_workflow WHERE workflow_id = ANY(%(ids)b::text[]) AND saga = %(saga)s
ORDER BY workflow_id

-- name: locked
FOR UPDATE

-- name: load_fences
SELECT workflow_id, step, status, event, result, pending, refused, attempt, due, error, changed, expires
FROM saga_fence WHERE workflow_id = ANY(%(ids)b::text[]) AND saga = %(saga)s;

-- name: load_inbox
SELECT workflow_id, id, step, status, type, payload, state, cause, traceparent, tracestate, topic, record_partition,
       record_offset, received
FROM saga_inbox WHERE workflow_id = ANY(%(ids)b::text[]) AND saga = %(saga)s;

-- name: load_unpublished
-- Spelt so that the index of pending rows does not qualify: with many of them pending, it would be read whole.
SELECT aggregateid, id
FROM saga_outbox
WHERE aggregateid = ANY(%(ids)b::text[]) AND saga = %(saga)s AND coalesce(published, '-infinity') = '-infinity';

-- name: running
SELECT w.workflow_id
FROM saga_fence AS f JOIN saga_workflow AS w USING (workflow_id, saga)
WHERE f.saga = %(saga)s AND f.status IN ('running', 'compensating') AND w.lane = %(lane)s
GROUP BY w.workflow_id, w.opened ORDER BY w.opened, w.workflow_id;

-- name: parked
SELECT topic, record_offset FROM saga_inbox
WHERE saga = %(saga)s AND record_partition = %(lane)s AND state = 'recorded'
UNION ALL
SELECT topic, record_offset FROM saga_dead_letter
WHERE saga = %(saga)s AND record_partition = %(lane)s AND state = 'waiting' AND reason = 'unknown-version';

-- name: due
-- Here and below the limit is inside too, so that the index of moments is read no further: after an outage all may be due at once.
SELECT lane, workflow_id
FROM (
    SELECT w.lane, w.workflow_id, f.due
    FROM saga_fence AS f JOIN saga_workflow AS w USING (workflow_id, saga)
    WHERE f.saga = %(saga)s AND f.due <= %(now)s::timestamptz AND w.lane = ANY(%(lanes)s::integer[])
      AND w.version = ANY(%(versions)s::integer[])
    ORDER BY f.due, f.workflow_id LIMIT %(limit)s
) AS first
GROUP BY lane, workflow_id ORDER BY min(due), workflow_id;

-- name: expired
SELECT lane, workflow_id
FROM (
    (SELECT w.lane, w.workflow_id, f.expires AS moment
    FROM saga_fence AS f JOIN saga_workflow AS w USING (workflow_id, saga)
    WHERE f.saga = %(saga)s AND f.expires <= %(now)s::timestamptz AND w.lane = ANY(%(lanes)s::integer[])
      AND w.version = ANY(%(versions)s::integer[])
    ORDER BY f.expires, f.workflow_id LIMIT %(limit)s)
    UNION ALL
    (SELECT lane, workflow_id, deadline
    FROM saga_workflow
    WHERE cardinality(%(deadlines)s::integer[]) > 0 AND saga = %(saga)s AND deadline <= %(now)s::timestamptz
      AND closed IS NULL AND error IS NULL AND lane = ANY(%(lanes)s::integer[]) AND version = ANY(%(deadlines)s::integer[])
    ORDER BY deadline, workflow_id LIMIT %(limit)s)
    UNION ALL
    (SELECT lane, workflow_id, unwind_by
    FROM saga_workflow
    WHERE cardinality(%(deadlines)s::integer[]) > 0 AND saga = %(saga)s AND unwind_by <= %(now)s::timestamptz
      AND closed IS NULL AND lane = ANY(%(lanes)s::integer[]) AND version = ANY(%(deadlines)s::integer[])
    ORDER BY unwind_by, workflow_id LIMIT %(limit)s)
) AS late
GROUP BY lane, workflow_id ORDER BY min(moment), workflow_id LIMIT %(limit)s;

-- name: sagas_of_workflow
SELECT saga FROM saga_workflow WHERE workflow_id = %(id)s ORDER BY saga;

-- name: page
SELECT workflow_id FROM saga_workflow
WHERE saga = %(saga)s AND workflow_id > %(after)s ORDER BY workflow_id LIMIT %(limit)s;

-- name: search
SELECT w.saga,
       coalesce(w.closed, greatest(
           w.opened,
           (SELECT max(i.received) FROM saga_inbox AS i WHERE i.workflow_id = w.workflow_id AND i.saga = w.saga),
           (SELECT max(f.changed) FROM saga_fence AS f
            WHERE f.workflow_id = w.workflow_id AND f.saga = w.saga AND f.error IS NULL)
       )) AS moved,
       w.workflow_id, w.version, w.lane, w.status, w.sequence, w.deadline, w.opened, w.closed, w.gates::text, w.error,
       w.traceparent, w.tracestate, w.steps::text, w.exceptions::text, w.interventions::text, w.unwind_by
FROM saga_workflow AS w
WHERE (%(saga)s::text IS NULL OR w.saga = %(saga)s::text)
  AND (%(version)s::integer IS NULL OR w.version = %(version)s::integer)
  AND (%(status)s::text IS NULL OR w.status = %(status)s::text)
  AND (NOT %(with_exceptions)s::boolean OR w.exceptions IS NOT NULL)

-- name: latest
ORDER BY w.opened DESC, w.workflow_id, w.saga LIMIT %(limit)s;

-- name: longest_open
AND w.closed IS NULL
ORDER BY moved, w.opened DESC, w.workflow_id, w.saga LIMIT %(limit)s;

-- name: longest_parked
AND w.closed IS NULL
AND (w.workflow_id, w.saga) IN (SELECT f.workflow_id, f.saga FROM saga_fence AS f WHERE f.error IS NOT NULL)
ORDER BY moved, w.opened DESC, w.workflow_id, w.saga LIMIT %(limit)s;

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
        WHERE o.saga = %(saga)s AND o.published IS NULL AND v.version = %(version)s)
FROM saga_workflow AS w
WHERE w.saga = %(saga)s AND w.version = %(version)s AND w.closed IS NULL;

-- name: open_workflow
INSERT INTO saga_workflow
    (saga, workflow_id, version, lane, status, sequence, deadline, opened, closed, gates, error, traceparent, tracestate, steps,
     exceptions, interventions, unwind_by)
SELECT %(saga)s, *
FROM unnest(
    %(workflow_id)b::text[], %(version)b::integer[], %(lane)b::integer[], %(status)b::text[], %(sequence)b::bigint[],
    %(deadline)b::text[]::timestamptz[], %(opened)b::text[]::timestamptz[], %(closed)b::text[]::timestamptz[],
    %(gates)b::text[]::json[], %(error)b::text[], %(traceparent)b::text[], %(tracestate)b::text[], %(steps)b::text[]::json[],
    %(exceptions)b::text[]::json[], %(interventions)b::text[]::json[], %(unwind_by)b::text[]::timestamptz[]
)

-- name: or_replace
ON CONFLICT (workflow_id, saga) DO UPDATE SET
    version = excluded.version, lane = excluded.lane, status = excluded.status, sequence = excluded.sequence,
    deadline = excluded.deadline, opened = excluded.opened, closed = excluded.closed, gates = excluded.gates,
    error = excluded.error, traceparent = excluded.traceparent, tracestate = excluded.tracestate, steps = excluded.steps,
    exceptions = excluded.exceptions, interventions = excluded.interventions, unwind_by = excluded.unwind_by

-- name: save_fence
INSERT INTO saga_fence
    (saga, workflow_id, step, status, event, result, pending, refused, attempt, due, error, changed, expires)
SELECT %(saga)s, *
FROM unnest(
    %(workflow_id)b::text[], %(step)b::text[], %(status)b::text[], %(event)b::text[], %(result)b::bytea[],
    %(pending)b::boolean[], %(refused)b::boolean[], %(attempt)b::integer[], %(due)b::text[]::timestamptz[],
    %(error)b::text[], %(changed)b::text[]::timestamptz[], %(expires)b::text[]::timestamptz[]
)
ON CONFLICT (workflow_id, saga, step) DO UPDATE SET
    status = excluded.status, event = excluded.event, result = excluded.result, pending = excluded.pending,
    refused = excluded.refused, attempt = excluded.attempt, due = excluded.due, error = excluded.error,
    changed = excluded.changed, expires = excluded.expires;

-- name: save_received
INSERT INTO saga_inbox
    (saga, workflow_id, id, step, status, type, payload, state, cause, traceparent, tracestate, topic, record_partition,
     record_offset, received)
SELECT %(saga)s, *
FROM unnest(
    %(workflow_id)b::text[], %(id)b::text[], %(step)b::text[], %(status)b::text[], %(type)b::text[], %(payload)b::bytea[],
    %(state)b::text[], %(cause)b::text[], %(traceparent)b::text[], %(tracestate)b::text[], %(topic)b::text[],
    %(partition)b::integer[], %(offset)b::bigint[], %(received)b::text[]::timestamptz[]
)
ON CONFLICT (workflow_id, saga, id) DO UPDATE SET
    step = excluded.step, status = excluded.status, type = excluded.type, payload = excluded.payload,
    state = excluded.state, cause = excluded.cause, traceparent = excluded.traceparent, tracestate = excluded.tracestate,
    topic = excluded.topic, record_partition = excluded.record_partition, record_offset = excluded.record_offset,
    received = excluded.received;

-- name: drop_fences
DELETE FROM saga_fence WHERE saga = %(saga)s AND workflow_id = ANY(%(ids)b::text[]);

-- name: drop_inbox
DELETE FROM saga_inbox WHERE saga = %(saga)s AND workflow_id = ANY(%(ids)b::text[]);

-- name: prune
-- No row where the epoch is not ours: then nothing of it is to be committed.
WITH gone AS (
    DELETE FROM saga_workflow
    WHERE saga = %(saga)s AND workflow_id IN (
        SELECT w.workflow_id FROM saga_workflow AS w
        WHERE w.saga = %(saga)s AND w.lane = %(lane)s AND w.closed < %(before)s::timestamptz
          AND NOT EXISTS (SELECT FROM saga_outbox AS o WHERE o.aggregateid = w.workflow_id AND o.saga = w.saga)
        ORDER BY w.closed LIMIT %(limit)s FOR UPDATE OF w SKIP LOCKED
    )
    RETURNING closed
), latest AS (
    SELECT count(*) AS gone, max(closed) AS closed FROM gone
)
UPDATE saga_lane SET pruned = greatest(pruned, latest.closed) FROM latest
WHERE saga = %(saga)s AND lane = %(lane)s AND epoch = %(epoch)s
RETURNING latest.gone, latest.closed;

-- name: count_parked
SELECT count(*)
FROM (SELECT DISTINCT workflow_id FROM saga_fence WHERE saga = %(saga)s AND error IS NOT NULL LIMIT %(limit)s) AS parked;
