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

-- name: backlog
SELECT count(*) FROM (SELECT FROM saga_outbox WHERE saga = %(saga)s AND published IS NULL LIMIT %(limit)s) AS pending;

-- name: pending
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, payload, created
FROM saga_outbox
WHERE saga = %(saga)s AND lane = %(lane)s AND published IS NULL
ORDER BY aggregateid, sequence
LIMIT %(limit)s;

-- name: outbox_of_workflow
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers, payload, created
FROM saga_outbox WHERE saga = %(saga)s AND aggregateid = %(id)s ORDER BY sequence;
