"""Augmentation of face crops during training (paper section 4), as a pure function of a seed.

Input and output are uint8 [time, size, size, 3] RGB. The order is the paper's: enlarge, random crop, saturation,
brightness, clip. Mirroring is an addition.
"""

import tensorflow as tf

from affect.config import AugmentConfig

_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def augment_window(crops: tf.Tensor, config: AugmentConfig, seed: tf.Tensor) -> tf.Tensor:
    """Augments the crops of one window.

    Args:
      crops: uint8 [time, size, size, 3].
      config: the changes and their ranges; `scope` "frame" draws them per frame, "window" once for all frames.
      seed: int [2]; equal seeds give equal results.

    Returns:
      uint8 [time, size, size, 3].
    """
    time, size = tf.shape(crops)[0], crops.shape[1]
    draws = time if config.scope == "frame" else 1
    seeds = tf.unstack(tf.random.split(seed, 5))

    images = _random_crop(crops, config.resize, size, draws, seeds[0], seeds[1])
    if config.saturation > 0.0:
        # Changing the saturation in HSV also blends each pixel with grey; blending with its luma is ten times faster.
        factor = _uniform(seeds[2], draws, 1.0 - config.saturation, 1.0 + config.saturation)
        grey = tf.tensordot(images, tf.constant(_LUMA_WEIGHTS), axes=1)[..., None]
        images = grey + (images - grey) * factor
    images += _uniform(seeds[3], draws, -255.0 * config.brightness, 255.0 * config.brightness)
    if config.flip:
        mirrored = tf.random.stateless_uniform([], seeds[4]) < 0.5
        images = tf.where(mirrored, images[:, :, ::-1], images)
    return tf.cast(tf.round(tf.clip_by_value(images, 0.0, 255.0)), tf.uint8)


def _random_crop(crops, resize, size, draws, top_seed, left_seed) -> tf.Tensor:
    """Enlarges images to [resize, resize] and crops [size, size], in one interpolation; returns float32."""
    if resize == size:
        return tf.cast(crops, tf.float32)
    top, left = (
        tf.cast(tf.random.stateless_uniform([draws], seed, 0, resize - size + 1, tf.int32), tf.float32)
        for seed in (top_seed, left_seed)
    )
    # Row i of the crop is row top + i of the enlarged image. Its centre maps back to the original image's row
    # (top + i + 0.5) * size / resize - 0.5. crop_and_resize takes the first and the last of these rows as fractions of
    # size - 1, and fills with black outside [0, 1].
    first = tf.stack([top, left], axis=1) + 0.5
    rows = (tf.concat([first, first + float(size - 1)], axis=1) * (size / resize) - 0.5) / float(size - 1)
    boxes = tf.broadcast_to(tf.clip_by_value(rows, 0.0, 1.0), [tf.shape(crops)[0], 4])
    return tf.image.crop_and_resize(crops, boxes, tf.range(tf.shape(crops)[0]), [size, size])


def _uniform(seed: tf.Tensor, draws, low: float, high: float) -> tf.Tensor:
    """Draws float32 [draws, 1, 1, 1] from [low, high)."""
    return tf.random.stateless_uniform([draws, 1, 1, 1], seed, low, high)
