"""How contracts may change, decided by rules and told in sentences; no service needs it to run. Begin with `change`."""
