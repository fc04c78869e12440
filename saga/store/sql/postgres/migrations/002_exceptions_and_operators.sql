-- exceptions: steps whose compensation was passed over or stated by hand. interventions: what operators did.
-- unwind_by: when the initiator raises the alarm about an unwinding that lasts too long.

ALTER TABLE saga_workflow ADD COLUMN exceptions json, ADD COLUMN interventions json, ADD COLUMN unwind_by timestamptz;

CREATE INDEX saga_workflow_unwind_by ON saga_workflow (saga, unwind_by) WHERE unwind_by IS NOT NULL AND closed IS NULL;

CREATE INDEX saga_workflow_exceptions ON saga_workflow (saga, workflow_id) WHERE exceptions IS NOT NULL;
