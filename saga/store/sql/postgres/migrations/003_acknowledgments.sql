-- acks is what the lane's owner keeps of others' acknowledgments, gaps the spans of each topic that were never taken in.
ALTER TABLE saga_lane ADD COLUMN acks json NOT NULL DEFAULT '{}';
ALTER TABLE saga_lane ADD COLUMN gaps json NOT NULL DEFAULT '{}';

CREATE INDEX saga_inbox_recorded ON saga_inbox (saga, record_partition) WHERE state = 'recorded';

CREATE INDEX saga_outbox_unhandled ON saga_outbox (saga, lane, aggregatetype, record_offset) WHERE record_offset IS NOT NULL;
