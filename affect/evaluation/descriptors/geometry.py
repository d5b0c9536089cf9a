"""Geometric features: where the face is, how large it is, and how it moves.

AVEC 2016 has 316 values from 49 facial landmarks. Shards hold no landmarks, only the square that each face crop was cut
from. So these features describe the movement of the head, but nothing inside the face.
"""

import numpy as np

from affect.evaluation.descriptors.functionals import interpolate_missing

NAMES = ("x", "y", "log_edge", "x_velocity", "y_velocity", "log_edge_velocity", "speed", "distance")


def geometric_descriptors(squares: np.ndarray, found: np.ndarray, frame_rate_hz: float) -> np.ndarray:
    """Returns the descriptors of the face box in every frame; they do not depend on the size of the picture.

    Args:
      squares: [frames, 3], left, top and edge of the crops in pixels of the source picture.
      found: bool [frames]; where it is False, the square is interpolated between those of found faces.
      frame_rate_hz: frames per second.

    Returns:
      float64 [frames, 8], columns `NAMES`: centre of the box relative to its median place, in median edges; logarithm
      of the edge relative to the median edge; their velocities per second; the speed of the centre, and its distance
      from the median place. All are 0 if no face was found.
    """
    known = np.flatnonzero(found)
    if len(known) == 0:
        return np.zeros((len(squares), len(NAMES)))
    squares = squares.astype(np.float64)
    # The edge is interpolated as a logarithm, so that it stays positive.
    centre, log_edge = squares[:, :2] + squares[:, 2:] / 2, np.log(np.maximum(squares[:, 2:], 1.0))
    box = interpolate_missing(np.concatenate([centre, log_edge], axis=1)[known], known, len(squares))
    box -= np.median(box[known], axis=0)
    box[:, :2] /= np.exp(np.median(log_edge[known]))
    velocity = np.gradient(box, axis=0) * frame_rate_hz if len(box) > 1 else np.zeros_like(box)
    lengths = [np.hypot(pair[:, 0], pair[:, 1])[:, np.newaxis] for pair in (velocity, box)]
    return np.concatenate([box, velocity, *lengths], axis=1)
