"""Package metadata; every tool (ruff, pytest, import-linter) is configured in pyproject.toml.

TensorFlow is left open upwards on purpose: tensorflow-io's compiled file systems stop at TensorFlow
2.17.1, so only the extra `io` carries that bound, never the library itself.
"""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).with_name("README.md")

# Marker shared by everything that only exists up to Python 3.12.
UP_TO_PYTHON_312 = "python_version < '3.13'"

setup(
    name="affect",
    version="0.1.0",
    description="End-to-end multimodal emotion recognition (Tzirakis et al., 2017) on TensorFlow and Keras 3",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["affect", "affect.*", "tfrecords_tools", "tfrecords_tools.*"]),
    package_data={"affect.evaluation": ["*.html.j2"]},
    install_requires=[
        "tensorflow>=2.16",
        "keras>=3.6",
        "tensorboard>=2.16",  # TensorFlow 2.21 no longer installs it
        "setuptools<81",  # TensorBoard up to 2.20 starts with pkg_resources, which 81 dropped
        "numpy>=1.26",
        "scipy>=1.11",
        "h5py>=3.10",
        "absl-py>=2.1",
        "scikit-learn>=1.4",
        "scikit-image>=0.22",  # the synthetic corpus warps its public-domain portrait
        "pandas>=2.1",
        "polars>=1.0",  # reads a 7501 x 633 ARFF in half of pandas' time
        "av>=14",  # tells how a telephone's pictures are to be turned
        "soundfile>=0.12",
        "soxr>=0.4",
        "opencv-python-headless>=4.9,<5",  # 5.0 dropped the Haar cascades
        "matplotlib>=3.8",
        "Jinja2>=3.1",
        "tqdm>=4.66",
    ],
    extras_require={
        "io": [
            f"tensorflow>=2.16,<2.18; {UP_TO_PYTHON_312}",
            f"tensorflow-io>=0.37.1; {UP_TO_PYTHON_312}",
        ],
        "gpu": ["tensorflow[and-cuda]>=2.16"],
        "faces": ["mtcnn>=1.0"],
        "baseline": ["librosa>=0.10"],
        "dev": ["mtcnn>=1.0", "pytest>=8", "pytest-xdist>=3.5", "ruff>=0.6", "import-linter>=2.1"],
        # An S3 server on this machine, to test what `io` reads and writes.
        "io_tests": ["moto[s3]>=5", "flask>=3", "flask-cors>=4"],
    },
)
