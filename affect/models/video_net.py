"""The video network (paper section 3.2): a ResNet-50 without its top, applied to the face crop of each frame.

    video uint8 (B, T, 96, 96, 3)  ->  features (B, T, 2048)

Pixels are scaled inside the network, so callers always pass unscaled RGB. The "narrow" variant has the same kind of
bottleneck blocks, but fewer of them and fewer channels, for machines without an accelerator.

Shapes in comments: B batch, T frames, N = B * T images, H and W height and width, C channels. Numbers are the paper's
sizes; for the narrow network, those of a 96-pixel crop at stem stride 2 and width 64.
"""

import keras
from keras import layers, ops

from affect.config import ModelConfig
from affect.models.batch_norm import BatchNormalization
from affect.models.folding import FoldTime, UnfoldTime
from affect.models.masking import BlankMasked

_EXPANSION = 4  # a bottleneck block outputs four times its inner width (He et al., 2016)


@keras.saving.register_keras_serializable("affect")
class PixelScaling(layers.Layer):
    """Scales uint8 RGB pixels: "unit" to [0, 1], "imagenet" to what Keras' ImageNet weights expect."""

    def __init__(self, scaling: str, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.scaling = scaling

    def call(self, inputs):
        """Scales the pixels in float32; on uint8, `preprocess_input` would overflow."""
        pixels = ops.cast(inputs, "float32")
        scaled = pixels / 255.0 if self.scaling == "unit" else keras.applications.resnet.preprocess_input(pixels)
        return ops.cast(scaled, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Returns the input shape; it does not change."""
        return input_shape

    def compute_output_spec(self, inputs):
        """Returns the input shape with the policy's compute dtype, since the input is uint8."""
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments, for Keras' serialisation."""
        return super().get_config() | {"scaling": self.scaling}


def build_video_net(config: ModelConfig) -> keras.Model:
    """Builds the architecture of the video network; it reads no weights and downloads nothing.

    Args:
      config: crop size, kind of ResNet, pixel scaling.

    Returns:
      A model from uint8 [batch, time, crop_size, crop_size, 3] to [batch, time, features], with 2048 features for
      "resnet50" and 32 * video_width for "narrow"; batch and time may vary.
    """
    shape = (config.crop_size, config.crop_size, 3)
    video = keras.Input((None, *shape), dtype="uint8", name="video")  # (B, T, 96, 96, 3)
    images = FoldTime(name="fold_video")(BlankMasked(name="blank_video")(video))  # (B * T, 96, 96, 3)
    pixels = PixelScaling(config.video_scaling, name="scale_pixels")(images)
    if config.video_net == "resnet50":
        backbone = _resnet50(shape)
    else:
        backbone = _narrow_resnet(config, shape)
    _set_training_behaviour(backbone, config)
    pooled = backbone(pixels)  # (B * T, 2048)
    features = UnfoldTime(name="unfold_video")([pooled, video])  # (B, T, 2048)
    net = keras.Model(video, features, name="video_net")
    net.supports_masking = True  # its features have the mask of its input
    return net


def _resnet50(shape: tuple[int, int, int]) -> keras.Model:
    """Builds Keras' ResNet-50 with our batch norm; names and order of the weights are Keras'."""

    def rebuilt(layer: layers.Layer) -> layers.Layer:
        kind = BatchNormalization if isinstance(layer, layers.BatchNormalization) else type(layer)
        return kind.from_config(layer.get_config())

    resnet = keras.applications.ResNet50(include_top=False, weights=None, input_shape=shape, pooling="avg")
    return keras.models.clone_model(resnet, clone_function=rebuilt)


def _set_training_behaviour(backbone: keras.Model, config: ModelConfig) -> None:
    """Sets masks, batch norm and weight decay in place; Keras' ResNet50 takes no arguments for them."""
    for layer in (backbone, *backbone.layers):
        layer.supports_masking = True  # pass the mask of the pictures on to every batch norm
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = config.video_batch_norm_momentum
            layer.trainable = config.video_batch_norm == "batch"
        elif isinstance(layer, layers.Conv2D) and config.weight_decay:
            layer.kernel_regularizer = keras.regularizers.L2(config.weight_decay / 2)
            layer.kernel.regularizer = layer.kernel_regularizer


def _narrow_resnet(config: ModelConfig, shape: tuple[int, int, int]) -> keras.Model:
    """Builds a ResNet of bottleneck blocks (He et al., 2016, figure 5) with the config's width and depth."""
    pixels = keras.Input(shape, name="pixels")  # (N, 96, 96, 3)
    x = _convolve(pixels, config.video_width, 7, config.video_stem_stride, "stem")  # (N, 48, 48, 64)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)  # (N, 24, 24, 64)
    for stage, blocks in enumerate(config.video_blocks):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _bottleneck(x, config.video_width * 2**stage, stride, f"stage{stage + 1}_block{block + 1}")
    # The stages output (N, 24, 24, 256), (N, 12, 12, 512), (N, 6, 6, 1024) and (N, 3, 3, 2048).
    features = layers.GlobalAveragePooling2D(name="average_pool")(x)  # (N, 2048)
    return keras.Model(pixels, features, name="narrow_resnet")


def _bottleneck(x, width: int, stride: int, name: str):
    """Applies one residual block: (N, H, W, C) to (N, H / stride, W / stride, 4 * width)."""
    shortcut = x
    if stride > 1 or x.shape[-1] != _EXPANSION * width:
        shortcut = _convolve(x, _EXPANSION * width, 1, stride, f"{name}_shortcut")
    y = layers.ReLU(name=f"{name}_relu1")(_convolve(x, width, 1, stride, f"{name}_1"))
    y = layers.ReLU(name=f"{name}_relu2")(_convolve(y, width, 3, 1, f"{name}_2"))
    y = _convolve(y, _EXPANSION * width, 1, 1, f"{name}_3")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, y]))


def _convolve(x, filters: int, size: int, stride: int, name: str):
    """Applies a convolution without bias, followed by batch norm, whose offset replaces the bias."""
    x = layers.Conv2D(
        filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
