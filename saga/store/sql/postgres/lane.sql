-- name: partitions
SELECT partitions, registered, participant FROM saga_topics WHERE saga = %(saga)s;

-- name: record_partitions
INSERT INTO saga_topics (saga, partitions) VALUES (%(saga)s, %(partitions)s) ON CONFLICT (saga) DO NOTHING;

-- name: author
SELECT participant FROM saga_topics WHERE saga = %(saga)s;

-- name: record_author
UPDATE saga_topics SET participant = %(participant)s::text, registered = %(registered)s::boolean
WHERE saga = %(saga)s
  AND (participant IS DISTINCT FROM %(participant)s::text OR registered IS DISTINCT FROM %(registered)s::boolean);

-- name: lane
SELECT epoch, batch, clean FROM saga_lane WHERE saga = %(saga)s AND lane = %(lane)s FOR UPDATE;

-- name: lanes
SELECT saga, lane, epoch, batch, offsets::text, acks::text, gaps::text, trials::text, pruned, clean FROM saga_lane ORDER BY saga, lane;

-- name: batches
SELECT lane, epoch, batch FROM saga_lane WHERE saga = %(saga)s;

-- name: end_overstayed
-- A session that overstayed holds row locks of a transaction which the raised epoch has already condemned. The idle timeout
-- does not end one that the server believes to be busy: a client that stopped while it was sending, or a runaway statement.
SELECT pg_terminate_backend(session.pid)
FROM saga_lane AS held JOIN pg_stat_activity AS session ON session.pid = held.backend
WHERE held.saga = %(saga)s AND held.lane = %(lane)s AND NOT held.clean AND session.pid <> pg_backend_pid()
  AND session.datname = current_database() AND session.usename = current_user
  AND session.application_name = current_setting('application_name')
  AND session.xact_start < clock_timestamp() - %(idle)s::interval;

-- name: claim
INSERT INTO saga_lane (saga, lane, epoch, batch, offsets, clean, backend)
VALUES (%(saga)s, %(lane)s, 1, 0, '{}', false, pg_backend_pid())
ON CONFLICT (saga, lane) DO UPDATE SET epoch = saga_lane.epoch + 1, clean = false, backend = excluded.backend
RETURNING epoch, batch, offsets::text, acks::text, gaps::text, trials::text, pruned;

-- name: release
UPDATE saga_lane SET clean = true, trials = '{}'
WHERE saga = %(saga)s AND lane = %(lane)s AND epoch = %(epoch)s AND batch >= %(committed)s;

-- name: count
-- Divides by zero as `advance` does.
WITH mine AS (
    UPDATE saga_lane SET trials = %(trials)s::json WHERE saga = %(saga)s AND lane = %(lane)s AND epoch = %(epoch)s
    RETURNING epoch
)
SELECT 1 / count(*) FROM mine;

-- name: advance
-- Divides by zero where the epoch is not ours, or a failover has lost what had been confirmed, so that the COMMIT sent along with
-- it is never carried out.
WITH mine AS (
    UPDATE saga_lane
    SET batch = %(batch)s, offsets = %(offsets)s::json, acks = %(acks)s::json, gaps = %(gaps)s::json,
        pruned = greatest(pruned, %(pruned)s::timestamptz), backend = pg_backend_pid()
    WHERE saga = %(saga)s AND lane = %(lane)s AND epoch = %(epoch)s AND batch >= %(committed)s
    RETURNING epoch
)
SELECT 1 / count(*) FROM mine;
