"""Stored arrays to batches: the schema of the shards, their manifest, and the tf.data pipeline that reads them."""
