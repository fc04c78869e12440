-- name: save_outbox
INSERT INTO saga_outbox (id, aggregatetype, aggregateid, type, payload, saga, lane, sequence, headers, created)
SELECT *
FROM unnest(
    %(id)b::text[], %(topic)b::text[], %(workflow_id)b::text[], %(type)b::text[], %(payload)b::bytea[], %(saga)b::text[],
    %(lane)b::integer[], %(sequence)b::bigint[], %(headers)b::text[]::json[], %(created)b::text[]::timestamptz[]
)
ON CONFLICT (id) DO UPDATE SET
    aggregatetype = excluded.aggregatetype, aggregateid = excluded.aggregateid, type = excluded.type,
    payload = excluded.payload, saga = excluded.saga, lane = excluded.lane, sequence = excluded.sequence,
    headers = excluded.headers, created = excluded.created, published = NULL, record_offset = NULL, handled = NULL;

-- name: mark
UPDATE saga_outbox AS o SET published = %(published)s::timestamptz, record_offset = report.record_offset
FROM unnest(%(id)b::text[], %(offset)b::bigint[]) AS report (id, record_offset)
WHERE o.id = report.id;

-- name: backlog
SELECT count(*) FROM (SELECT FROM saga_outbox WHERE saga = %(saga)s AND published IS NULL LIMIT %(limit)s) AS pending;

-- name: pending
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers::text, payload, created
FROM saga_outbox
WHERE saga = %(saga)s AND lane = %(lane)s AND published IS NULL
ORDER BY aggregateid, sequence
LIMIT %(limit)s;

-- name: outbox_of_workflow
SELECT id, saga, lane, aggregatetype, aggregateid, type, sequence, headers::text, payload, created
FROM saga_outbox WHERE saga = %(saga)s AND aggregateid = %(id)s ORDER BY sequence;
