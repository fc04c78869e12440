"""Events on the wire: schemas, classes, headers, bytes, the registry. Begin with `message`, the envelope."""
