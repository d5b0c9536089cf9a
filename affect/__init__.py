"""Affect: end-to-end multimodal emotion recognition (Tzirakis et al., 2017) on TensorFlow and Keras 3.

Nothing is imported here: `import affect` must stay instant, and a caller who wants only the metrics must not pay
for TensorFlow.
"""

import os
import platform

# TensorFlow reads this when it is first imported. Its start-up notices (CUDA plug-ins registered twice, instruction
# sets) bury our own lines; real errors reach Python as exceptions. TF_CPP_MIN_LOG_LEVEL=0 brings them back.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# On x86 TensorFlow turns oneDNN on by itself only for processors with AVX-512 VNNI; with AVX2 alone it still halves
# the video network's training step (0.58 s to 0.26 s, two cores of
# an AMD EPYC, 800 frames).
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
