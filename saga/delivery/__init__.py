"""From the outbox to the topics, in order, until everybody has acknowledged. Begin with `relay`."""
