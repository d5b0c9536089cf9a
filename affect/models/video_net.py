"""The network on face crops (paper section 3.2): a ResNet-50 up to its global average pool, once per frame.

    video uint8 [batch, time, 96, 96, 3]  ->  features [batch, time, 2048]

Pixels are scaled inside, so that callers always pass plain RGB. "narrow" is the same bottleneck structure with fewer
channels and blocks, for machines without an accelerator.
"""

import keras
from keras import layers, ops

from affect.config import ModelConfig
from affect.models.folding import FoldTime, UnfoldTime

_EXPANSION = 4  # a bottleneck block puts out four times its inner width (He et al., 2016)


@keras.saving.register_keras_serializable("affect")
class PixelScaling(layers.Layer):
    """Uint8 RGB to what the network expects: "unit" for [0, 1], "imagenet" for Keras' ImageNet weights."""

    def __init__(self, scaling: str, **kwargs):
        super().__init__(**kwargs)
        self.scaling = scaling

    def call(self, inputs):
        """Scales float32 copies of the pixels; on uint8 `preprocess_input` would wrap around."""
        pixels = ops.cast(inputs, "float32")
        scaled = pixels / 255.0 if self.scaling == "unit" else keras.applications.resnet.preprocess_input(pixels)
        return ops.cast(scaled, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The shape does not change."""
        return input_shape

    def compute_output_spec(self, inputs):
        """Uint8 in, the policy's compute dtype out."""
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self):
        """Keras' serialisation."""
        return super().get_config() | {"scaling": self.scaling}


def build_video_net(config: ModelConfig) -> keras.Model:
    """Builds the video network, architecture only: it reads no weights and downloads nothing.

    Args:
      config: crop size, which ResNet, pixel scaling.

    Returns:
      A model from uint8 [batch, time, crop_size, crop_size, 3] to [batch, time, features], 2048 features for
      "resnet50" and 32 * video_width for "narrow"; any batch, any time.
    """
    shape = (config.crop_size, config.crop_size, 3)
    video = keras.Input((None, *shape), dtype="uint8", name="video")
    pixels = PixelScaling(config.video_scaling, name="scale_pixels")(FoldTime(name="fold_video")(video))
    if config.video_net == "resnet50":
        backbone = keras.applications.ResNet50(include_top=False, weights=None, input_shape=shape, pooling="avg")
    else:
        backbone = _narrow_resnet(config, shape)
    _set_training_behaviour(backbone, config)
    features = UnfoldTime(name="unfold_video")([backbone(pixels), video])
    return keras.Model(video, features, name="video_net")


def _set_training_behaviour(backbone: keras.Model, config: ModelConfig) -> None:
    """Batch norm and weight decay, which Keras' ResNet50 cannot be asked for when it is built."""
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = config.video_batch_norm_momentum
            layer.trainable = config.video_batch_norm == "batch"
            # Over all replicas; only Keras on TensorFlow knows how.
            layer.synchronized = keras.backend.backend() == "tensorflow"
        elif isinstance(layer, layers.Conv2D) and config.weight_decay:
            layer.kernel_regularizer = keras.regularizers.L2(config.weight_decay / 2)
            layer.kernel.regularizer = layer.kernel_regularizer


def _narrow_resnet(config: ModelConfig, shape: tuple[int, int, int]) -> keras.Model:
    """ResNet of bottleneck blocks (He et al., 2016, figure 5) at the config's width and depth."""
    pixels = keras.Input(shape, name="pixels")
    x = _convolve(pixels, config.video_width, 7, config.video_stem_stride, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, blocks in enumerate(config.video_blocks):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _bottleneck(x, config.video_width * 2**stage, stride, f"stage{stage + 1}_block{block + 1}")
    return keras.Model(pixels, layers.GlobalAveragePooling2D(name="average_pool")(x), name="narrow_resnet")


def _bottleneck(x, width: int, stride: int, name: str):
    shortcut = x
    if stride > 1 or x.shape[-1] != _EXPANSION * width:
        shortcut = _convolve(x, _EXPANSION * width, 1, stride, f"{name}_shortcut")
    y = layers.ReLU(name=f"{name}_relu1")(_convolve(x, width, 1, stride, f"{name}_1"))
    y = layers.ReLU(name=f"{name}_relu2")(_convolve(y, width, 3, 1, f"{name}_2"))
    y = _convolve(y, _EXPANSION * width, 1, 1, f"{name}_3")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, y]))


def _convolve(x, filters: int, size: int, stride: int, name: str):
    """Convolution without bias and the batch norm that takes its place."""
    x = layers.Conv2D(
        filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
