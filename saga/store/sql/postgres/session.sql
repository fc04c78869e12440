-- name: configure
-- The engine's statements always take an index: a plan made while a table was empty reads it whole, and the driver keeps it
-- until the next ANALYZE, however many rows there are by then. Handlers get what the database was set up with.
SELECT current_setting('synchronous_commit'),
       set_config('lock_timeout', %(lock_timeout)s, false),
       set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, false),
       set_config('tcp_keepalives_idle', '5', false),
       set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('tcp_user_timeout', '10000', false),
       set_config('saga.enable_seqscan', current_setting('enable_seqscan'), false),
       set_config('saga.jit', current_setting('jit'), false),
       set_config('enable_seqscan', 'off', false),
       set_config('jit', 'off', false);

-- name: timeline
-- The control file tells it as well, but only after the next checkpoint. A replica that may be about to take over is on none yet.
SELECT CASE WHEN pg_is_in_recovery() THEN 'in recovery' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END;

-- name: identity
SELECT current_database(), to_regclass('saga_outbox')::oid;

-- name: wait_up_to
SELECT set_config('lock_timeout', %(milliseconds)s::text, %(locally)s::boolean);

-- name: for_handlers
-- With the next it finds a transaction that was ended inside its block: the setting goes with it, and a sentence is no number.
SELECT set_config('saga.unit', '1', true),
       set_config('enable_seqscan', current_setting('saga.enable_seqscan'), true),
       set_config('jit', current_setting('saga.jit'), true);

-- name: for_whole_tables
SELECT set_config('enable_seqscan', 'on', true);

-- name: for_engine
SELECT coalesce(nullif(current_setting('saga.unit', true), ''), 'the transaction was ended inside its block')::integer,
       set_config('enable_seqscan', 'off', true),
       set_config('jit', 'off', true);

-- name: listen
LISTEN saga_outbox;

-- name: notify
SELECT pg_notify('saga_outbox', %(saga)s::text || '/' || %(lane)s::integer);
