"""Indexes: caches that propose neighbours. `base` is the contract, one file a kind."""
