"""Affect: end-to-end multimodal emotion recognition (Tzirakis et al., 2017) on TensorFlow and Keras 3.

Nothing heavy is imported here: `import affect` must be instant, and programs that use only the metrics must not have to
load TensorFlow.
"""

import os
import platform

# TensorFlow reads these variables when it is first imported. Its start-up notices (CUDA plug-ins registered twice,
# instruction sets) bury our own messages; real errors reach Python as exceptions. TF_CPP_MIN_LOG_LEVEL=0 shows them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# On x86 TensorFlow enables oneDNN by default only on processors with AVX-512 VNNI. With AVX2 alone it still halves the
# time of the video network's training step (0.58 s to 0.26 s for 800 frames on two cores of an AMD EPYC).
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.2.0"
