"""Batches to predictions: the networks, in `keras.ops` and `keras.layers` only."""
