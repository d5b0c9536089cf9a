"""Where weights come from before training: ImageNet, a file, trained unimodal runs. Builders never load any.

The paper trains each modality alone, drops both LSTMs, and trains everything together under new ones (section 4).
"""

import keras

from affect.errors import UserError
from affect.models.network import TrainedNetwork


def load_initial_weights(network: keras.Model, video_weights: str, unimodal: dict[str, TrainedNetwork]) -> list[str]:
    """Loads what a new run starts from.

    Args:
      network: changed in place.
      video_weights: "none", "imagenet" or a local Keras .h5 file for its ResNet-50.
      unimodal: trained networks by the modality whose net is taken, with precedence over `video_weights`; their LSTMs
        and heads are left behind.

    Returns:
      One line per part of the network: where its weights come from, or that they are new.

    Raises:
      UserError: a download or a file that cannot be had, or weights of other sizes.
    """
    origins = {}
    has_video = any(layer.name == "video_net" for layer in network.layers)
    if has_video and video_weights != "none" and "video" not in unimodal:
        _load_resnet50(network.get_layer("video_net").get_layer("resnet50"), video_weights)
        origins["video_net"] = f"from {video_weights}"
    for modality, trained in unimodal.items():
        _copy_net(network, modality, trained)
        origins[f"{modality}_net"] = f"from {trained.run.path}"
    return [
        f"{layer.name}: {layer.count_params():,} weights {origins.get(layer.name, 'new')}"
        for layer in network.layers
        if layer.count_params()
    ]


def _copy_net(network: keras.Model, modality: str, trained: TrainedNetwork) -> None:
    name = f"{modality}_net"
    if all(layer.name != name for layer in trained.network.layers):
        raise UserError(f"--init_{modality}={trained.run.path} is a run without {modality}")
    source, target = trained.network.get_layer(name), network.get_layer(name)
    if [weight.shape for weight in source.weights] != [weight.shape for weight in target.weights]:
        raise UserError(
            f"the {modality} net of {trained.run.path} has other sizes than this run's; use one preset for all"
        )
    target.set_weights(source.get_weights())


def _load_resnet50(backbone: keras.Model, source: str) -> None:
    way_out = "give a local Keras file with --set=train.video_weights=FILE, or start from random ones with =none"
    try:
        donor = keras.applications.ResNet50(
            include_top=False, weights=source, input_shape=backbone.input_shape[1:], pooling="avg"
        )
    except Exception as error:  # Keras raises a bare Exception where a download fails
        reason = " ".join(str(error).split())
        what = (
            "ImageNet weights cannot be had"
            if source == "imagenet"
            else f"{source} does not fit ResNet50 without its top"
        )
        raise UserError(f"{what} ({reason}); {way_out}") from error
    backbone.set_weights(donor.get_weights())
