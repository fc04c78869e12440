"""Commands that run a participant, and lay what it needs."""
