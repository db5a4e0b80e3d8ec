"""Stores: the only truth of a gallery and its one commit point. `base` is the contract, one file a kind."""
