-- name: configure
SELECT current_setting('synchronous_commit'),
       set_config('lock_timeout', %(lock_timeout)s, false),
       set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, false),
       set_config('tcp_keepalives_idle', '5', false),
       set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('tcp_user_timeout', '10000', false);

-- name: identity
SELECT current_database(), to_regclass('saga_outbox')::oid;

-- name: wait_up_to
SELECT set_config('lock_timeout', %(milliseconds)s::text, %(locally)s::boolean);

-- name: begin_unit
-- The next two find a transaction that was ended inside its block: the setting goes with it, and a sentence is no number.
SELECT set_config('saga.unit', '1', true);

-- name: still_open
SELECT coalesce(nullif(current_setting('saga.unit', true), ''), 'the transaction was ended inside its block')::integer;

-- name: listen
LISTEN saga_outbox;

-- name: notify
SELECT pg_notify('saga_outbox', %(saga)s::text || '/' || %(lane)s::integer);
