"""Kafka, and what stands in for it, behind one port that says nothing of Kafka. Begin with `port`."""
