"""Arrays to shards to batches: the one schema, the manifest, and the tf.data pipeline over them."""
