-- registered: whether the last worker that took a lane has the ids of schemas from a registry, as all have to who write events here.
ALTER TABLE saga_topics ADD COLUMN registered boolean NOT NULL DEFAULT false;
