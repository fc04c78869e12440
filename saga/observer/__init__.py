"""A saga as its topics tell it, for people to look at. Nobody's progress depends on it."""
