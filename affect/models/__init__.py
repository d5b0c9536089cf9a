"""Networks that turn batches into predictions, written in `keras.ops` and `keras.layers` only."""
