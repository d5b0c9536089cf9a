"""Appearance features: LGBP-TOP, local binary patterns of Gabor pictures on three orthogonal planes.

Almaev and Valstar (2013), as in AVEC 2016. Face crops go in, grey and reduced to `SIZE` pixels; a few values per crop
come out:

1. 18 Gabor filters (3 wavelengths, 6 orientations); magnitudes, 8 bit.
2. Local binary patterns (8 neighbours, 59 uniform bins) of every inner pixel on the planes XY, XT and YT. The
   neighbours in time are the given crops before and after; the first and the last crop stand in for missing ones.
3. Histograms in 4 x 4 cells: 18 x 3 x 16 x 59 = 50 976 values per crop.
4. Principal components, fitted on train only, of the histograms of `VOLUME_CROPS` crops together: as many as explain
   98 % of the variance. AVEC ends with 84. On the demo's synthetic corpus, 84 explain 83 % and about 320 explain 98 %.

The projection is linear, so the mean over a volume can be taken after it, on a few values instead of 50 976.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from sklearn.decomposition import PCA

SIZE = 50  # 48 inner pixels: 4 x 4 cells of 12 pixels
VOLUME_CROPS = 5
_WAVELENGTHS_PIXELS = (4.0, 4.0 * 2**0.5, 8.0)
_ORIENTATIONS = 6
_MAGNITUDE_SCALE = 4.0  # a full-scale grating of 8 bit gives 255
_GRID = 4
_BINS = 59
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # neighbours, in circular order
# The planes, as axes of arrays [filter, y, x, time].
_PLANES = {"XY": (1, 2), "XT": (3, 2), "YT": (3, 1)}
_EXPLAINED_VARIANCE = 0.98
_BLOCK_CROPS = 64  # bounds the memory


@dataclass(frozen=True)
class Components:
    """Principal components of the histograms.

    Attributes:
      mean: float32 [histogram].
      directions: float32 [histogram, components].
    """

    mean: np.ndarray
    directions: np.ndarray

    @classmethod
    def fit(cls, histograms: np.ndarray, limit: int | None = None) -> "Components":
        """Fits the components on histograms [samples, histogram]; the sign of each is fixed by its largest entry.

        Args:
          histograms: float32 [samples, histogram], at least two samples.
          limit: largest number of components, even if they explain less than 98 %; None sets no limit.
        """
        most = len(histograms) - 1
        # The randomised decomposition is faster if few components are wanted.
        pca = PCA(min(limit, most), svd_solver="randomized", random_state=0) if limit else PCA(most, svd_solver="full")
        pca.fit(histograms)
        count = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), _EXPLAINED_VARIANCE)) + 1
        return cls(pca.mean_, np.ascontiguousarray(pca.components_[:count].T))

    def describe(self, crops: np.ndarray) -> np.ndarray:
        """Returns the values of consecutive crops, uint8 [crops, SIZE, SIZE], as float32 [crops, components]."""
        if len(crops) == 0:
            return np.empty((0, self.directions.shape[1]), np.float32)
        padded = np.concatenate([crops[:1], crops, crops[-1:]])
        blocks = [
            (histograms(gabor_magnitudes(padded[start : start + _BLOCK_CROPS + 2])) - self.mean) @ self.directions
            for start in range(0, len(crops), _BLOCK_CROPS)
        ]
        return np.concatenate(blocks)


def reduced(crops: np.ndarray) -> np.ndarray:
    """Returns RGB crops, uint8 [crops, height, width, 3], in grey and reduced to uint8 [crops, SIZE, SIZE]."""
    grey = (cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops)
    pictures = [cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for picture in grey]
    return np.array(pictures, np.uint8).reshape(-1, SIZE, SIZE)


def gabor_magnitudes(crops: np.ndarray) -> np.ndarray:
    """Returns the magnitudes of the Gabor filters' responses, uint8 [filters, height, width, crops].

    Args:
      crops: uint8 [crops, height, width], at most 512.
    """
    # Crops are the channels of one picture: OpenCV filters each channel on its own.
    channels = np.ascontiguousarray(crops.transpose(1, 2, 0), dtype=np.float32)
    magnitudes = [
        cv2.magnitude(*(cv2.filter2D(channels, cv2.CV_32F, kernel) for kernel in pair)) for pair in gabor_kernels()
    ]
    scaled = [cv2.convertScaleAbs(magnitude, alpha=_MAGNITUDE_SCALE) for magnitude in magnitudes]
    return np.stack(scaled).reshape(len(scaled), *channels.shape)


def gabor_kernels() -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the real and the imaginary part of each filter; a uniformly grey picture has response 0."""
    kernels = []
    for wavelength in _WAVELENGTHS_PIXELS:
        sigma = wavelength / 2.0
        edge = 2 * round(2.5 * sigma) + 1
        for index in range(_ORIENTATIONS):
            real, imaginary = (
                cv2.getGaborKernel((edge, edge), sigma, index * np.pi / _ORIENTATIONS, wavelength, 1.0, phase)
                for phase in (0.0, -np.pi / 2)
            )
            envelope = 2.0 * np.pi * sigma**2  # the sum of the Gaussian
            kernels.append(((real - real.mean()) / envelope, imaginary / envelope))
    return kernels


def histograms(magnitudes: np.ndarray) -> np.ndarray:
    """Returns the histograms of the local binary patterns of each crop except the first and the last.

    Args:
      magnitudes: uint8 [filters, height, width, crops].

    Returns:
      float32 [crops - 2, filters * planes * cells * bins], each histogram with sum 1. Cells go row by row; the last bin
      counts the patterns that are not uniform.
    """
    filters, height, width, crops = (edge - offset for edge, offset in zip(magnitudes.shape, (0, 2, 2, 2), strict=True))
    cells = _cells(height)[:, np.newaxis] * _GRID + _cells(width)
    pixels = np.bincount(cells.ravel(), minlength=_GRID**2)
    place = np.arange(filters)[:, np.newaxis, np.newaxis] * _GRID**2 + cells  # [filters, height, width]
    place = place[..., np.newaxis] + np.arange(crops) * filters * _GRID**2
    counts = []
    for axes in _PLANES.values():
        bins = _UNIFORM[_patterns(magnitudes, axes)]
        index = (place * _BINS + bins).ravel()
        count = np.bincount(index, minlength=crops * filters * _GRID**2 * _BINS)
        counts.append(count.reshape(crops, filters, _GRID**2, _BINS))
    shares = np.stack(counts, axis=2) / pixels[:, np.newaxis]
    return shares.reshape(crops, -1).astype(np.float32)


def _patterns(values: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
    """Returns the local binary pattern of every inner voxel: bit k is set if neighbour k is not smaller."""
    inner = [slice(None), slice(1, -1), slice(1, -1), slice(1, -1)]
    centre = values[tuple(inner)]
    patterns = np.zeros(centre.shape, np.uint8)
    for bit, offsets in enumerate(_RING):
        place = list(inner)
        for axis, offset in zip(axes, offsets, strict=True):
            place[axis] = slice(1 + offset, values.shape[axis] - 1 + offset)
        patterns |= (values[tuple(place)] >= centre).view(np.uint8) << np.uint8(bit)
    return patterns


def _cells(edge: int) -> np.ndarray:
    """Returns the row or column of the grid that each pixel lies in, [edge]."""
    return np.arange(edge) * _GRID // edge


def _uniform_bins() -> np.ndarray:
    """Returns the bin of each of the 256 patterns: one per uniform pattern (at most two changes around the ring)."""
    patterns = np.arange(256, dtype=np.uint8)
    bits = np.unpackbits(patterns[:, np.newaxis], axis=1)
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    return np.where(uniform, np.cumsum(uniform) - 1, _BINS - 1)


_UNIFORM = _uniform_bins()
