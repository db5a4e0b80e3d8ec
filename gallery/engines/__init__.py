"""Engines: a store and an index in step. `base` is the contract, one file a kind."""
