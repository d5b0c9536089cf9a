"""Affect: end-to-end multimodal emotion recognition (Tzirakis et al., 2017) on TensorFlow and Keras 3.

Nothing is imported here: `import affect` must stay instant, and a caller who wants only the metrics must not pay
for TensorFlow.
"""

import os

# TensorFlow reads this when it is first imported. Its start-up notices (CUDA plug-ins registered twice, instruction
# sets) bury our own lines; real errors reach Python as exceptions. TF_CPP_MIN_LOG_LEVEL=0 brings them back.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
