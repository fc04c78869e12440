"""What a saga is, and what a participant does with a fact: pure functions, no I/O. Begin with `decide`."""
