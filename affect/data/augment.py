"""Training-time augmentation of face crops (paper section 4), as a pure function of a seed.

In: uint8 [time, size, size, 3] RGB. Out: the same shape and dtype. Order as in the paper: enlarge, random crop,
saturation, brightness, clip.
"""

import tensorflow as tf

from affect.config import AugmentConfig

_GREY_WEIGHTS = (0.299, 0.587, 0.114)


def augment_window(crops: tf.Tensor, config: AugmentConfig, seed: tf.Tensor) -> tf.Tensor:
    """Augments the crops of one window.

    Args:
      crops: uint8 [time, size, size, 3].
      config: what to change; `scope` "frame" draws per frame, "window" once for all frames.
      seed: int [2]; equal seeds give equal results.

    Returns:
      uint8 [time, size, size, 3].
    """
    time, size = tf.shape(crops)[0], crops.shape[1]
    draws = time if config.scope == "frame" else 1
    seeds = tf.unstack(tf.random.split(seed, 5))

    pictures = _random_crop(crops, config.resize, size, draws, seeds[0], seeds[1])
    if config.saturation > 0.0:
        # Saturation in HSV is a blend of every pixel with a grey one; blending with its luma is ten times faster.
        factor = _uniform(seeds[2], draws, 1.0 - config.saturation, 1.0 + config.saturation)
        grey = tf.tensordot(pictures, tf.constant(_GREY_WEIGHTS), axes=1)[..., None]
        pictures = grey + (pictures - grey) * factor
    pictures += _uniform(seeds[3], draws, -255.0 * config.brightness, 255.0 * config.brightness)
    if config.flip:
        mirrored = tf.random.stateless_uniform([], seeds[4]) < 0.5
        pictures = tf.where(mirrored, pictures[:, :, ::-1], pictures)
    return tf.cast(tf.round(tf.clip_by_value(pictures, 0.0, 255.0)), tf.uint8)


def _random_crop(crops, resize, size, draws, top_seed, left_seed) -> tf.Tensor:
    """Enlarges to [resize, resize] and cuts [size, size] back, float32; one interpolation does both."""
    if resize == size:
        return tf.cast(crops, tf.float32)
    top, left = (
        tf.cast(tf.random.stateless_uniform([draws], seed, 0, resize - size + 1, tf.int32), tf.float32)
        for seed in (top_seed, left_seed)
    )
    # Row i of the cut is row top + i of the enlarged picture, whose centre lies at this row of the original;
    # crop_and_resize takes the first and the last such row, as parts of size - 1, and black beyond [0, 1].
    first = tf.stack([top, left], axis=1) + 0.5
    rows = (tf.concat([first, first + float(size - 1)], axis=1) * (size / resize) - 0.5) / float(size - 1)
    boxes = tf.broadcast_to(tf.clip_by_value(rows, 0.0, 1.0), [tf.shape(crops)[0], 4])
    return tf.image.crop_and_resize(crops, boxes, tf.range(tf.shape(crops)[0]), [size, size])


def _uniform(seed: tf.Tensor, draws, low: float, high: float) -> tf.Tensor:
    """Float32 [draws, 1, 1, 1] in [low, high)."""
    return tf.random.stateless_uniform([draws, 1, 1, 1], seed, low, high)
