-- How many workflows are parked is asked every second: beyond a bound nothing more is taken in.

CREATE INDEX saga_fence_parked ON saga_fence (saga, workflow_id) WHERE error IS NOT NULL;
