"""Package metadata and console commands; every tool is configured in pyproject.toml.

TensorFlow has no upper bound on purpose. tensorflow-io's compiled file systems only load up to TensorFlow 2.17.1, so
only the extra `io` carries that bound.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
README = HERE / "README.md"

# The version is defined in affect/__init__.py only. It is read as text, because importing needs the dependencies.
(VERSION,) = re.findall(r'^__version__ = "(.+)"$', (HERE / "affect/__init__.py").read_text(encoding="utf-8"), re.M)

# tensorflow-io has no wheels for Python 3.13.
UP_TO_PYTHON_312 = "python_version < '3.13'"

COMMANDS = {
    "affect-synthetic": "tfrecords_tools.synthetic.__main__",
    "affect-make-tfrecords": "tfrecords_tools.make_tfrecords",
    "affect-inspect-tfrecords": "tfrecords_tools.inspect_tfrecords",
    "affect-train": "affect.learning.train_command",
    "affect-eval": "affect.evaluation.eval_command",
    "affect-baseline": "affect.evaluation.baseline",
    "affect-report": "affect.evaluation.report",
    "affect-analysis": "affect.evaluation.analysis",
    "affect-export": "affect.serving.export",
    "affect-predict": "affect.serving.predict",
    "affect-describe": "affect.models.describe",
}

setup(
    name="affect",
    version=VERSION,
    description="End-to-end multimodal emotion recognition (Tzirakis et al., 2017) on TensorFlow and Keras 3",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["affect", "affect.*", "tfrecords_tools", "tfrecords_tools.*"]),
    package_data={
        "affect": ["py.typed"],
        "tfrecords_tools": ["py.typed"],
        "affect.evaluation.introspection": ["*.html.j2"],
        "affect.evaluation.reporting": ["*.html.j2"],
        "affect.serving": ["*.md.j2"],
    },
    entry_points={"console_scripts": [f"{name}={module}:command" for name, module in COMMANDS.items()]},
    install_requires=[
        "tensorflow>=2.16",
        "keras>=3.6",
        "tensorboard>=2.16",  # TensorFlow 2.21 no longer installs it
        "setuptools<81",  # TensorBoard up to 2.20 imports pkg_resources, which setuptools 81 removed
        "numpy>=1.26",
        "scipy>=1.11",
        "h5py>=3.10",
        "absl-py>=2.1",
        "msgspec>=0.19",
        "scikit-learn>=1.4",
        "scikit-image>=0.22",  # the synthetic corpus warps the public-domain portrait that it ships
        "pandas>=2.1",
        "av>=16",  # the first release that says whether a packet has side data
        "soundfile>=0.12",
        "soxr>=0.4",
        "opencv-python-headless>=4.9,<5",  # 5.0 removed the Haar cascades
        "mtcnn>=1.0",  # finds faces in batches of pictures; its weights are in its wheel
        "matplotlib>=3.8",
        "Jinja2>=3.1",
        "tqdm>=4.66",
    ],
    # Extras are named with hyphens: pip 23.2, which comes with Python 3.11, does not find names with underscores.
    extras_require={
        "io": [
            f"tensorflow>=2.16,<2.18; {UP_TO_PYTHON_312}",
            f"tensorflow-io>=0.37.1; {UP_TO_PYTHON_312}",
        ],
        "gpu": ["tensorflow[and-cuda]>=2.16"],
        # The handcrafted features and the analysis. opensmile is used where it is installed, and never required: its
        # licence allows non-commercial research only.
        "baseline": ["librosa>=0.10.2"],
        # Exports for ONNX Runtime. onnx 1.19.0 needs ml_dtypes 0.5 without saying so; TensorFlow 2.17 excludes it.
        "onnx": ["onnx>=1.17,!=1.19.0", "onnxruntime>=1.20", "tf2onnx>=1.17"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "import-linter>=2.1",
            "basedpyright>=1.30",
            "codespell>=2.3",
            "audmetric>=1.2",  # the field's own CCC, to check ours against
        ],
        # An S3 server on this machine, to test what `io` reads and writes.
        "io-tests": ["moto[s3]>=5", "flask>=3", "flask-cors>=4"],
        # JAX needs NumPy 2, and TensorFlow up to 2.17 needs NumPy 1: not together with `io`.
        "jax-tests": ["jax>=0.10"],
    },
)
