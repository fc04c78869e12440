-- name: save_outbox
INSERT INTO saga_outbox (id, aggregatetype, aggregateid, type, payload, saga, lane, sequence, headers, created)
SELECT *
FROM unnest(
    %(id)b::text[], %(topic)b::text[], %(workflow_id)b::text[], %(type)b::text[], %(payload)b::bytea[], %(saga)b::text[],
    %(lane)b::integer[], %(sequence)b::bigint[], %(headers)b::text[], %(created)b::text[]::timestamptz[]
);

-- name: mark
UPDATE saga_outbox AS o SET published = %(published)s::timestamptz, record_offset = report.record_offset
FROM unnest(%(saga)b::text[], %(workflow_id)b::text[], %(sequence)b::bigint[], %(offset)b::bigint[])
    AS report (saga, workflow_id, sequence, record_offset)
WHERE o.aggregateid = report.workflow_id AND o.saga = report.saga AND o.sequence = report.sequence;

-- name: clean
DELETE FROM saga_outbox AS o
USING unnest(%(saga)b::text[], %(workflow_id)b::text[], %(sequence)b::bigint[], %(offset)b::bigint[])
    AS report (saga, workflow_id, sequence, record_offset)
WHERE o.aggregateid = report.workflow_id AND o.saga = report.saga AND o.sequence = report.sequence;

-- name: clean_before
DELETE FROM saga_outbox WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM saga_outbox
    WHERE saga = %(saga)s AND lane = %(lane)s AND aggregatetype = %(topic)s AND record_offset < %(offset)s
    ORDER BY record_offset LIMIT %(limit)s
));

-- name: again
UPDATE saga_outbox AS o SET published = NULL, record_offset = NULL
FROM unnest(%(saga)b::text[], %(workflow_id)b::text[], %(sequence)b::bigint[], %(offset)b::bigint[])
    AS report (saga, workflow_id, sequence, record_offset)
WHERE o.aggregateid = report.workflow_id AND o.saga = report.saga AND o.sequence = report.sequence
  AND o.record_offset = report.record_offset;

-- name: unhandled
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, ''::bytea, created, published, record_offset
FROM saga_outbox
WHERE saga = %(saga)s AND lane = %(lane)s AND record_offset IS NOT NULL
  AND (aggregatetype, record_offset) > (%(topic)s::text, %(offset)s::bigint)
ORDER BY aggregatetype, record_offset
LIMIT %(limit)s;

-- name: outstanding
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, ''::bytea, created, published, record_offset
FROM saga_outbox WHERE created < %(before)s::timestamptz ORDER BY created, aggregateid, sequence LIMIT %(limit)s;

-- name: backlog
SELECT count(*) FROM (SELECT FROM saga_outbox WHERE saga = %(saga)s AND published IS NULL LIMIT %(limit)s) AS pending;

-- name: waiting
SELECT lane, count(*), min(created) FROM saga_outbox WHERE saga = %(saga)s AND published IS NULL GROUP BY lane;

-- name: pending
-- NOT IN is a look into a hash table however many are known; NOT EXISTS becomes a loop over all of them for each row.
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, payload, created
FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY aggregateid, sequence) AS reach
    FROM (
        SELECT * FROM saga_outbox
        WHERE saga = %(saga)s AND lane = %(lane)s AND published IS NULL AND id NOT IN (SELECT unnest(%(known)b::text[]))
        ORDER BY aggregateid, sequence LIMIT %(limit)s
    ) AS first
) AS sized
WHERE reach - octet_length(payload) < %(most_bytes)s
ORDER BY aggregateid, sequence;

-- name: outbox_of_workflow
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, payload, created, published, record_offset
FROM saga_outbox WHERE saga = %(saga)s AND aggregateid = %(id)s ORDER BY sequence;
