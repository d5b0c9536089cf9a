"""A corpus on disk to shards: corpus readers, the gold standard, the writer and the inspector."""

import affect  # noqa: F401  its settings for TensorFlow must be made before TensorFlow is imported
