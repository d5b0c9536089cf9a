"""Where weights come from before training: ImageNet, a file, trained unimodal runs. Builders never load any.

The paper trains each modality alone, drops both LSTMs, and trains everything together under new ones (section 4).
"""

from pathlib import Path

import keras

from affect.config import Experiment
from affect.errors import UserError
from affect.models.trained import TrainedNetwork

# What a net's weights mean depends on these, section and field, though not all show in the weights' shapes.
_DEFINING = {
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
    """Loads what a new run starts from.

    Args:
      network: of the experiment, changed in place.
      experiment: its `train.video_weights` says where the ResNet-50 starts.
      unimodal: trained networks by the modality whose net is taken, with precedence over `train.video_weights`; their
        LSTMs and heads are left behind.

    Returns:
      One line per part of the network: where its weights come from, or that they are new.

    Raises:
      UserError: a download or a file that cannot be had, or a trained net that is not this experiment's.
    """
    origins = {}
    video_weights = experiment.train.video_weights
    if experiment.modality != "audio" and video_weights != "none" and "video" not in unimodal:
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
    if trained.experiment.modality not in (modality, "audiovisual"):
        raise UserError(f"--init_{modality}={trained.run.path} is a run without {modality}")
    for section, name in _DEFINING[modality]:
        there, here = (getattr(getattr(e, section), name) for e in (trained.experiment, experiment))
        if there != here:
            raise UserError(
                f"the {modality} net of {trained.run.path} has {section}.{name} {there}, this run {here}; "
                "use the same preset and settings for both"
            )


def _load_resnet50(backbone: keras.Model, source: str) -> None:
    way_out = "give a local Keras file with --set=train.video_weights=FILE, or start from random ones with =none"
    if source != "imagenet" and not Path(source).is_file():
        raise UserError(f"there is no file {source}; {way_out}")
    try:
        donor = keras.applications.ResNet50(
            include_top=False, weights=source, input_shape=backbone.input_shape[1:], pooling="avg"
        )
    except Exception as error:  # Keras raises a bare Exception where a download fails, and h5py whatever it meets
        what = "ImageNet weights cannot be had" if source == "imagenet" else f"{source} is no ResNet50 without its top"
        raise UserError(f"{what} ({' '.join(str(error).split())}); {way_out}") from error
    backbone.set_weights(donor.get_weights())
