"""Converts corpora to shards: corpus readers, the gold standard, the writer and the inspector."""

import affect  # noqa: F401  sets options of TensorFlow, which must happen before TensorFlow is imported
