"""Loads an exported model; needs TensorFlow, but neither Keras nor the run that it was exported from.

A SavedModel is a program: load only models from people you trust.

    model = ServedModel.load("runs/audio/export")
    stream = Stream(model, SoundConstants(mean=0.0, deviation=0.05))     # see affect.serving.streaming
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affect import storage
from affect.config import modalities_of
from affect.errors import UserError
from affect.serving.contract import CONTRACT_NAME, OLD_CONTRACT_NAME, Contract, read_contract
from affect.serving.signatures import STREAM

if TYPE_CHECKING:
    import tensorflow as tf

_SAVED_MODEL = "saved_model.pb"
_STATE = "state_"
_EXPORT = "python -m affect.serving.export --run_dir=RUN --output_dir=FOLDER"

State = Mapping[str, "tf.Tensor"]


@dataclass(frozen=True)
class ServedModel:
    """A loaded model. Any number of streams can use it at the same time.

    Attributes:
      contract: content of its `predict.json`.
      saved_model: the loaded SavedModel; its signatures work only while it is kept.
    """

    contract: Contract
    saved_model: Any

    @classmethod
    def load(cls, model_dir: str | Path) -> "ServedModel":
        """Loads the folder that `affect.serving.export` wrote.

        Raises:
          UserError: the folder does not exist, is not an export, was exported by version 0.1.0 or is damaged.
        """
        if storage.is_remote(model_dir):
            raise UserError(f"{model_dir} must be a local folder; copy the model first")
        folder = Path(model_dir)
        _check_is_export(folder)
        contract = read_contract(folder)
        if not (folder / _SAVED_MODEL).is_file():
            raise UserError(f"{folder} holds no SavedModel ({_SAVED_MODEL} is missing); export the run again")
        model = cls(contract, _load(folder))
        model._check_signature(folder)
        return model

    @property
    def takes_audio(self) -> bool:
        """Whether the model takes sound."""
        return "audio" in modalities_of(self.contract.modality)

    @property
    def takes_video(self) -> bool:
        """Whether the model takes face crops."""
        return "video" in modalities_of(self.contract.modality)

    def start_state(self) -> State:
        """Returns the state of one stream before its first frame."""
        import tensorflow as tf

        specs = self._specs().items()
        return {name: tf.zeros((1, *spec.shape[1:]), spec.dtype) for name, spec in specs if name.startswith(_STATE)}

    def step(self, frames: Mapping[str, np.ndarray], state: State) -> tuple[np.ndarray, State]:
        """Runs the signature `stream` on the next frames of one stream.

        Args:
          frames: "audio" float32 [frames, 640] and/or "video" uint8 [frames, 96, 96, 3]; at least one frame.
          state: result of `start_state`, or the state that the previous step returned.

        Returns:
          The predictions that have become valid, float32 [n, 2], and the new state.
        """
        import tensorflow as tf

        count = len(next(iter(frames.values())))
        tensors = {name: tf.constant(values[None]) for name, values in frames.items()}
        return self._run(tensors | {"present": tf.ones((1, count), tf.bool)}, state)

    def flush(self, state: State) -> np.ndarray:
        """Returns the predictions that are due after the last frame, float32 [n, 2], n <= `contract.delay_frames`."""
        import tensorflow as tf

        count = self.contract.delay_frames
        if not count:
            return np.empty((0, 2), np.float32)
        absent = {
            name: tf.zeros((1, count, *spec.shape[2:]), spec.dtype)
            for name, spec in self._specs().items()
            if not name.startswith(_STATE)
        }
        return self._run(absent, state)[0]

    def _run(self, frames: State, state: State) -> tuple[np.ndarray, State]:
        outputs = self.saved_model.signatures[STREAM](**frames, **state)
        predictions, valid = outputs["predictions"].numpy()[0], outputs["valid"].numpy()[0]
        return predictions[valid], {name: outputs[name] for name in state}

    def _specs(self) -> Mapping[str, "tf.TensorSpec"]:
        """Returns the inputs of the signature `stream` by name."""
        return self.saved_model.signatures[STREAM].structured_input_signature[1]

    def _check_signature(self, folder: Path) -> None:
        signatures = getattr(self.saved_model, "signatures", {})
        if STREAM not in signatures:
            found = ", ".join(signatures) or "none"
            raise UserError(f"{folder}: the SavedModel has no signature {STREAM!r} (found: {found}); export again")
        specs = self._specs()
        wanted = {"audio": self.takes_audio, "video": self.takes_video, "present": True}
        if any((name in specs) != taken for name, taken in wanted.items()):
            inputs = " and ".join(name for name in ("audio", "video") if name in specs) or "neither audio nor video"
            raise UserError(
                f"{folder}: {CONTRACT_NAME} describes a model of modality {self.contract.modality!r}, but the "
                f"SavedModel takes {inputs}; the two belong to different models; export again"
            )


def _check_is_export(folder: Path) -> None:
    """Raises a UserError that says how to export, unless the folder is an exported model."""
    if not folder.exists():
        raise UserError(f"{folder} does not exist; name the folder of an exported model ({_EXPORT})")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the folder of an exported model ({_EXPORT})")
    if (folder / CONTRACT_NAME).exists() or (folder / OLD_CONTRACT_NAME).exists():
        return  # `read_contract` refuses the old one
    if (folder / "config.json").exists():
        raise UserError(f"{folder} is a run folder, not an exported model; export it first ({_EXPORT})")
    raise UserError(f"{folder} is not an exported model ({CONTRACT_NAME} is missing); export a run first ({_EXPORT})")


def _load(folder: Path) -> Any:
    import tensorflow as tf

    try:
        with storage.without_patterns(folder) as path:
            return tf.saved_model.load(str(path))
    except Exception as error:  # damaged bytes can make TensorFlow raise anything, from OSError to TypeError
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} is damaged and cannot be loaded ({reason}); export the run again") from error
