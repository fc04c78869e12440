"""Choreography sagas over Kafka."""
