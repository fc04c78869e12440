"""What a service declares, and the ways in; nothing here runs by itself. Begin with `participant`, the heart is `ledger`."""
