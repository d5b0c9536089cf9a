"""Video frames of one real face, warped: valence moves mouth and brows, speech moves the jaw, the head moves randomly.

In: valence and mouth opening per frame and a seeded generator. Out: RGB frames [240, 320, 3]. The face is NASA's
public-domain portrait of Eileen Collins, which scikit-image ships as `skimage.data.astronaut`; every "speaker" is a
warped and tinted version of it. Light and head position change more than the expression does, so that a network must
learn to ignore them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data
from scipy.ndimage import gaussian_filter1d

HEIGHT, WIDTH = 240, 320
# Position in pixels of the 320 x 240 picture in the 512 x 512 portrait, and of the face's centre (x, y) in the picture.
CUT_TOP, CUT_LEFT = 8, 65
FACE_CENTRE = (224.0 - CUT_LEFT, 118.0 - CUT_TOP)


@dataclass(frozen=True)
class Bump:
    """A smooth local displacement.

    Attributes:
      centre: x, y in the portrait, in pixels.
      reach: standard deviation of the Gaussian by which it decreases with distance, in pixels.
      direction: x, y of a displacement by 1.
    """

    centre: tuple[float, float]
    reach: float
    direction: tuple[float, float]


SMILE = (Bump((202, 140), 9, (-0.5, -1.0)), Bump((246, 138), 9, (0.5, -1.0)), Bump((224, 150), 10, (0.0, 0.5)))
BROWS = (Bump((213, 91), 9, (-0.3, -1.0)), Bump((239, 92), 9, (0.3, -1.0)))
JAW = (Bump((224, 162), 17, (0.0, 1.0)),)
SHAPES = (  # identity: nose, cheeks, chin, eye distance
    (Bump((224, 122), 14, (0.0, 1.0)),),
    (Bump((188, 130), 16, (-1.0, 0.0)), Bump((262, 130), 16, (1.0, 0.0))),
    (Bump((224, 172), 14, (0.0, 1.0)),),
    (Bump((202, 100), 12, (-1.0, 0.0)), Bump((246, 101), 12, (1.0, 0.0))),
)


@dataclass(frozen=True)
class Face:
    """What differs between speakers.

    Attributes:
      shape_px: displacement of each of `SHAPES` in pixels.
      tint: factor per colour channel.
      contrast: factor.
      expressiveness: factor of the displacements that valence causes.
      mirrored: whether left and right are swapped.
    """

    shape_px: tuple[float, ...]
    tint: tuple[float, float, float]
    contrast: float
    expressiveness: float
    mirrored: bool


def draw_face(rng: np.random.Generator) -> Face:
    """Draws a random speaker's face."""
    return Face(
        shape_px=tuple(rng.uniform(-2.0, 2.0, size=len(SHAPES)).tolist()),
        tint=tuple(rng.uniform(0.8, 1.15, size=3).tolist()),
        contrast=rng.uniform(0.75, 1.1),
        expressiveness=rng.uniform(0.85, 1.15),
        mirrored=bool(rng.integers(2)),
    )


def show(face: Face, valence: np.ndarray, opening: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields uint8 RGB [240, 320, 3], one picture per frame of `valence`.

    Args:
      face: the speaker.
      valence: [frames] in [-1, 1].
      opening: [frames] in [0, 1], how far speech opens the mouth.
      rng: generator for head motion and light.
    """
    portrait = skimage.data.astronaut()[CUT_TOP : CUT_TOP + HEIGHT, CUT_LEFT : CUT_LEFT + WIDTH]
    portrait = np.clip((portrait - 128.0) * face.contrast + 128.0, 0.0, 255.0).astype(np.uint8)
    identity = sum(_field(bumps) * push for bumps, push in zip(SHAPES, face.shape_px, strict=True))
    movable = np.stack([_field(bumps).ravel() for bumps in (SMILE, BROWS, JAW)])
    strength = face.expressiveness * valence
    pushes = np.stack([12.0 * strength, 8.0 * strength, 5.0 * opening], axis=1).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).astype(np.float32)
    head, light = _head_motion(valence.size, rng), _light(valence.size, rng)
    flat = np.broadcast_to(np.array(face.tint, np.float32), (HEIGHT, WIDTH, 3))
    slope = flat * np.linspace(-1.0, 1.0, WIDTH, dtype=np.float32)[None, :, None]

    for k in range(valence.size):
        # remap takes the position that each pixel comes from, so displacements are subtracted.
        source = cv2.transform(grid, head[k]) - identity - (pushes[k] @ movable).reshape(grid.shape)
        # OpenCV's stubs do not know that the second map may be absent.
        picture = cv2.remap(  # pyright: ignore[reportCallIssue]
            portrait,
            source,
            None,  # pyright: ignore[reportArgumentType]
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        shade = cv2.addWeighted(flat, light[k, 0], slope, light[k, 1], 0.0)
        picture = cv2.multiply(picture, shade, dtype=cv2.CV_8U)
        yield cv2.flip(picture, 1) if face.mirrored else picture


def _field(bumps: tuple[Bump, ...]) -> np.ndarray:
    """Returns the displacement (x, y) of every pixel by a push of 1, [240, 320, 2]."""
    x, y = np.meshgrid(np.arange(WIDTH) + CUT_LEFT, np.arange(HEIGHT) + CUT_TOP)
    field = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    for bump in bumps:
        squared = (x - bump.centre[0]) ** 2 + (y - bump.centre[1]) ** 2
        field += np.exp(-squared / (2.0 * bump.reach**2))[..., None] * np.array(bump.direction, np.float32)
    return field


def _head_motion(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Returns affine maps from picture to portrait, [frames, 2, 3]: the head sways, tilts and leans forward."""
    sway_x, sway_y, tilt, lean = (_wander(frames, 20, rng) for _ in range(4))
    maps = np.empty((frames, 2, 3))
    for k in range(frames):
        maps[k] = cv2.getRotationMatrix2D(FACE_CENTRE, 4.0 * tilt[k], 1.0 + 0.05 * lean[k])
        maps[k, :, 2] += (9.0 * sway_x[k], 5.0 * sway_y[k])
    return maps


def _light(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Returns gain and left-to-right slope of the light, [frames, 2]."""
    return np.stack([1.0 + 0.12 * _wander(frames, 40, rng), 0.12 * _wander(frames, 60, rng)], axis=1)


def _wander(frames: int, sigma_frames: float, rng: np.random.Generator) -> np.ndarray:
    """Returns low-passed Gaussian noise with standard deviation 1, clipped to [-2.5, 2.5], [frames]."""
    noise = gaussian_filter1d(rng.standard_normal(frames + 8 * int(sigma_frames)), sigma_frames, mode="wrap")
    return np.clip((noise / noise.std())[:frames], -2.5, 2.5)
