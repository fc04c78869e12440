"""Whole fleets under seeded trouble: a seed is the same run every time. Begin with `simulation`."""
