-- participant: whose database this is, as the last worker said that took a lane.
ALTER TABLE saga_topics ADD COLUMN participant text;
