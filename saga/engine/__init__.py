"""The runtime inside a service: threads that own lanes. Begin with `worker`, the heart is `processor`."""
