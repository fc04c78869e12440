-- What was discarded or exported long ago is looked for every few seconds, and deleted.
CREATE INDEX saga_dead_letter_given_up ON saga_dead_letter (saga, changed) WHERE state IN ('discarded', 'exported');

-- A lane's row has the ids of its topics.
ALTER TABLE saga_topics DROP COLUMN topic_ids;
