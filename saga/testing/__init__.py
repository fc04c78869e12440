"""For the tests of services: a whole fleet in one thread, recorded workflows, seeded trouble. Begin with `harness`."""
