"""Affect: end-to-end multimodal emotion recognition (Tzirakis et al., 2017) on TensorFlow and Keras 3.

Nothing is imported here: `import affect` must stay instant, and a caller who wants only the metrics must not pay
for TensorFlow.
"""

__version__ = "0.1.0"
