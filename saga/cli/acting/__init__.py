"""Commands with which a person acts on workflows; the store of a step's owner may refuse them."""
