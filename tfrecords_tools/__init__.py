"""A corpus on disk to shards: corpus readers, the gold standard, the writer and the inspector."""
