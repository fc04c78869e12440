-- Workflows that were closed long ago are looked for every minute, and deleted.
CREATE INDEX saga_workflow_closed ON saga_workflow (saga, lane, closed) WHERE closed IS NOT NULL;

-- When the last of those was closed that are gone: what is older and of no workflow here may have been handled.
ALTER TABLE saga_lane ADD COLUMN pruned timestamptz;
