"""The weights that training starts from: ImageNet, a local file, or trained unimodal networks.

Models are built without loading any weights; this module loads them once, before training. The paper trains each
modality alone, discards both LSTMs, and trains the two nets together with new LSTMs on top (section 4).
"""

from pathlib import Path

import keras

from affect.config import Experiment
from affect.errors import UserError
from affect.models.trained import TrainedNetwork

# The settings, as (section, field), that must be equal in both runs for a net's weights to remain valid. Some of them,
# such as the scaling of the input, do not affect the shapes of the weights, so loading alone would not fail.
_SETTINGS_OF_NET = {
    "audio": (
        ("model", "frame_samples"),
        ("model", "audio_filters"),
        ("model", "audio_taps"),
        ("model", "audio_pool"),
        ("model", "audio_channel_pool"),
        ("model", "audio_framed"),
        ("data", "standardise"),
    ),
    "video": (
        ("model", "crop_size"),
        ("model", "video_net"),
        ("model", "video_width"),
        ("model", "video_stem_stride"),
        ("model", "video_blocks"),
        ("model", "video_scaling"),
    ),
}


def load_initial_weights(
    network: keras.Model, experiment: Experiment, unimodal: dict[str, TrainedNetwork]
) -> list[str]:
    """Loads the weights that a new run starts from.

    Args:
      network: the experiment's network, changed in place.
      experiment: its `train.video_weights` selects the initial weights of the ResNet-50.
      unimodal: trained networks by modality. Their audio or video nets are copied and take precedence over
        `train.video_weights`; their LSTMs and output layers are not used.

    Returns:
      One line for each layer that has weights: where they come from, or that they are new.

    Raises:
      UserError: a download failed, a file does not exist or does not fit, or a trained net has other settings than this
        experiment.
    """
    origins = {}
    video_weights = experiment.train.video_weights
    if "video" in experiment.modalities and video_weights != "none" and "video" not in unimodal:
        _load_resnet50(network.get_layer("video_net").get_layer("resnet50"), video_weights)
        origins["video_net"] = f"from {video_weights}"
    for modality, trained in unimodal.items():
        _check_same_net(modality, trained, experiment)
        name = f"{modality}_net"
        network.get_layer(name).set_weights(trained.network.get_layer(name).get_weights())
        origins[name] = f"from {trained.run.path}"
    return [
        f"{layer.name}: {layer.count_params():,} weights {origins.get(layer.name, 'new')}"
        for layer in network.layers
        if layer.count_params()
    ]


def _check_same_net(modality: str, trained: TrainedNetwork, experiment: Experiment) -> None:
    if modality not in trained.experiment.modalities:
        raise UserError(
            f"--init_{modality}={trained.run.path} is a run of --modality={trained.experiment.modality}, "
            f"which has no {modality} net"
        )
    for section, name in _SETTINGS_OF_NET[modality]:
        trained_value, value = (getattr(getattr(e, section), name) for e in (trained.experiment, experiment))
        if trained_value != value:
            raise UserError(
                f"the {modality} net of {trained.run.path} has {section}.{name} {trained_value}, but this run has "
                f"{value}; use the same preset and settings for both"
            )


def _load_resnet50(backbone: keras.Model, source: str) -> None:
    way_out = (
        "use a local Keras file with --set=train.video_weights=FILE, or random weights with "
        "--set=train.video_weights=none"
    )
    if source != "imagenet" and not Path(source).is_file():
        raise UserError(f"{source} does not exist; {way_out}")
    try:
        donor = keras.applications.ResNet50(
            include_top=False, weights=source, input_shape=backbone.input_shape[1:], pooling="avg"
        )
    except Exception as error:  # Keras raises a bare Exception if a download fails, and passes on h5py's errors
        if source == "imagenet":
            problem = "the ImageNet weights cannot be downloaded"
        else:
            problem = f"{source} does not hold the weights of a ResNet-50 without its top"
        raise UserError(f"{problem} ({' '.join(str(error).split())}); {way_out}") from error
    backbone.set_weights(donor.get_weights())
