"""The participant's database: one port, three adapters, one conformance suite. Begin with `port`."""
