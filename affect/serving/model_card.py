"""Writes MODEL_CARD.md of an exported model: who may use it for what, how well it works, and how to run it.

The YAML between the two `---` is what model hubs read (Hugging Face: "Model Cards" in the documentation of the Hub).
Publish the export under any name, with this file renamed to README.md.

Text from a manifest is not trusted: `_plain` escapes it for Markdown and HTML, and none of it is used in the YAML.
"""

import re
import string

import jinja2

from affect.config import Experiment, ModelConfig
from affect.errors import UserError
from affect.evaluation.chain import PostProcessing
from affect.evaluation.scores import RECOLA_LAYOUTS, DimensionScores, Metrics
from affect.serving import wording
from affect.serving.contract import CONTRACT_NAME, Contract

CARD_NAME = "MODEL_CARD.md"
OTHER_LICENSE = "other"
# The Hub has no task for values per frame; these tasks take the same files. It has no library "tensorflow" either, and
# therefore shows no code; without a name it would take any saved_model.pb for Keras 2 and show code that fails.
_PIPELINE_TAGS = {
    "audio": "audio-classification",
    "video": "video-classification",
    "audiovisual": "video-classification",
}
_MARKUP = set(string.punctuation) - set("-.,")
_INPUTS = {"audio": "voice", "video": "faces", "audiovisual": "voice and faces"}


def check_license(license_id: str) -> None:
    """Checks that a licence is an identifier as hubs know them, or empty.

    Raises:
      UserError: the licence is not such an identifier.
    """
    if license_id and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,49}", license_id):
        raise UserError(
            f"--license={license_id} must be an identifier in small letters, such as apache-2.0 or cc-by-nc-4.0, or "
            f"{OTHER_LICENSE}"
        )


def model_card(
    contract: Contract, experiment: Experiment, parameters: int, scores: dict[str, Metrics], license_id: str = ""
) -> str:
    """Returns the model card as Markdown with YAML front matter.

    Args:
      contract: the contract of the export.
      experiment: config of the exported run.
      parameters: number of parameters of the network.
      scores: those of the exported weights by partition; empty if they were not evaluated.
      license_id: an identifier, see `check_license`; empty takes apache-2.0 for a network that was trained on the
        synthetic corpus, which this package makes, and "other" for all else.
    """
    license_id = license_id or ("apache-2.0" if contract.synthetic else OTHER_LICENSE)
    return _template().render(
        contract=contract,
        contract_name=CONTRACT_NAME,
        faces=contract.faces,
        data=contract.training_data,
        inputs=_INPUTS[contract.modality],
        license=license_id,
        pipeline_tag=_PIPELINE_TAGS[contract.modality],
        datasets=_datasets(contract),
        network=_network(experiment),
        imagenet="video" in experiment.modalities
        and experiment.train.video_weights != "none"
        and contract.training_data is not None,  # weights from elsewhere did not start like this
        parameters=parameters,
        scores=scores,
        other_data=[name for name, metrics in scores.items() if metrics.same_data_as_training is False],
        wording=wording,
    )


def _datasets(contract: Contract) -> list[str]:
    """Returns names of the training corpus as hubs list them; none if the manifest does not tell which corpus it is."""
    if contract.synthetic:
        return ["affect-synthetic"]
    layout = contract.training_data.layout if contract.training_data else None
    return ["recola"] if layout in RECOLA_LAYOUTS else []


def _network(experiment: Experiment) -> list[str]:
    """Describes the parts of the network in one line each."""
    model = experiment.model
    lines = {"audio": _audio_line, "video": _video_line}
    units = " and ".join(map(str, model.lstm_units))
    last = f"Over time: LSTM layers of {units} units, and a linear output of two values per frame."
    return [*(lines[modality](model) for modality in experiment.modalities), last]


def _audio_line(model: ModelConfig) -> str:
    (first, second), (taps1, taps2) = model.audio_filters, model.audio_taps
    scope = "within each frame" if model.audio_framed else "across frames"
    return (
        f"Voice: two convolutions on the raw waveform, {first} filters of {taps1} taps and {second} of {taps2} taps, "
        f"{scope}."
    )


def _video_line(model: ModelConfig) -> str:
    name = "ResNet-50" if model.video_net == "resnet50" else "a narrow residual network"
    return f"Face: {name} on crops of {model.crop_size} x {model.crop_size} pixels."


def _shown(scores: DimensionScores) -> str:
    """Returns the pooled CCC with its interval."""
    interval = scores.ccc_pooled_ci95
    return f"{scores.ccc_pooled:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _steps(chain: PostProcessing) -> str:
    """Describes the steps of a post-processing chain that change a curve, in order."""
    steps = []
    if chain.median_frames > 1:
        steps.append(f"median over {chain.median_frames} frames")
    if chain.offset:
        steps.append(f"{chain.offset:+.4g}")
    if chain.gain != 1.0:
        steps.append(f"scaled by {chain.gain:.4g} around {chain.centre:.4g}")
    if chain.recording_mean is not None:
        steps.append(f"every recording's mean becomes {chain.recording_mean:.4g}")
    if chain.recording_deviation is not None:
        steps.append(f"every recording's standard deviation becomes {chain.recording_deviation:.4g}")
    if chain.shift_frames:
        steps.append(f"delayed by {chain.shift_frames} frames")
    return ", then ".join(steps) or "changes nothing"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("affect.serving", ""),
        autoescape=False,  # it is Markdown, see `_plain`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": _plain, "shown": _shown, "steps": _steps}
    return environment.get_template(f"{CARD_NAME.lower()}.j2")


def _plain(text: str) -> str:
    """Returns text that Markdown and HTML show as it is, on one line."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    # Character references, because Markdown programs differ in the characters that a backslash escapes.
    return "".join(f"&#{ord(letter)};" if letter in _MARKUP else letter for letter in printable)
