"""An experiment and a run folder to trained weights: the paper's training (section 4) of one network, start to end.

Audio and video are trained alone first; an audiovisual run then takes their convolutional nets and trains everything
together (`affect.learning.multi_run` does all three). The same command on a folder that holds a run continues it exactly
where its newest checkpoint stands.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from affect.config import Experiment
from affect.errors import UserError
from affect.learning.callbacks import BestWeights, Checkpointing, Patience, trim_log
from affect.learning.initial_weights import load_initial_weights
from affect.learning.input_pipeline import InputPipeline
from affect.learning.loop import Loop, NotFiniteError, compile_network, run_epochs
from affect.learning.provenance import check_folder, claim_folder
from affect.learning.strategy import WorkerContext, workers_agree
from affect.learning.tensorboard import ViewOptions, views
from affect.learning.train_state import TrainState
from affect.models.network import build_network
from affect.models.trained import TrainedNetwork
from affect.runs import RunFolder


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; nothing of it changes what is learnt.

    Attributes:
      checkpoint_steps: updates between checkpoints within an epoch; 0 saves after epochs only.
      fresh: refuse a folder that is not empty, rather than continue what it holds.
      views: what TensorBoard shows.
    """

    checkpoint_steps: int = 200
    fresh: bool = False
    views: ViewOptions = ViewOptions()


def train(
    experiment: Experiment,
    run_dir: Path,
    initial_runs: dict[str, Path],
    strategy: tf.distribute.Strategy,
    options: RunOptions,
) -> float:
    """Trains, or continues, one run.

    Args:
      experiment: what to train on what.
      run_dir: new, or holding a run of the same experiment, which is continued. Several workers share it.
      initial_runs: run folders of trained unimodal networks by modality; only for an audiovisual experiment.
      strategy: from `affect.learning.strategy.make_strategy`.
      options: checkpoints and views.

    Returns:
      The best mean dev CCC.

    Raises:
      UserError: data that is missing or does not fit, a folder that holds another experiment, a batch that the devices
        cannot share, a loss or gradient that is not finite, a worker that is gone.
    """
    place = WorkerContext.of(strategy)
    feed = InputPipeline(experiment, strategy, place)
    if initial_runs and experiment.modality != "audiovisual":
        raise UserError(f"--init_{next(iter(initial_runs))} is for --modality=audiovisual")
    run = RunFolder(run_dir)
    check_folder(run, experiment, feed.manifest, initial_runs, options.fresh)

    with strategy.scope():
        network = _build(experiment)
        loop = Loop(network, experiment.train.seed, experiment.train.clip_norm)
    progress = TrainState()
    checkpointing = Checkpointing(run.checkpoints, network, progress, options.checkpoint_steps, place.is_chief)
    for complaint in checkpointing.restore():
        print(complaint)
    if not workers_agree(strategy, progress.updates):
        raise UserError(f"workers see different checkpoints in {run_dir}; it must be one folder that all of them share")
    if progress.updates:
        print(f"continuing {run_dir} after epoch {progress.epoch} of {experiment.train.epochs}, step {progress.step}")
    else:
        initial = {modality: TrainedNetwork.load(path) for modality, path in initial_runs.items()}
        print(*load_initial_weights(network, experiment, initial), sep="\n")

    callbacks = [BestWeights(run.best_weights, progress, place.is_chief), Patience(experiment.train, progress)]
    if place.is_chief:
        claim_folder(run, experiment, feed.manifest, initial_runs, place)
        trim_log(run.training_log, progress.epoch)
        callbacks.append(keras.callbacks.CSVLogger(run.training_log, append=True))
        callbacks += views(run, experiment, feed.manifest, feed.dev_entries, options.views)
    callbacks = keras.callbacks.CallbackList(
        [*callbacks, checkpointing],
        add_progbar=place.is_chief,
        model=network,
        verbose=1 if sys.stdout.isatty() else 2,
        epochs=experiment.train.epochs,
        steps=feed.steps,
    )
    try:
        run_epochs(loop, progress, feed, callbacks, experiment.train.epochs)
    except NotFiniteError as error:
        seen = feed.recordings_in_step(progress.epoch, progress.step)
        raise UserError(_divergence(str(error), progress, seen, checkpointing.latest())) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if place.workers == 1:
            raise
        raise UserError("another worker is gone; start all of them again, and they continue") from error
    return progress.best_score


def _build(experiment: Experiment) -> keras.Model:
    """The experiment's network, compiled, at its precision; the seed decides the weights."""
    keras.utils.set_random_seed(experiment.train.seed)
    default = keras.config.dtype_policy()
    keras.config.set_dtype_policy(experiment.train.precision)
    try:
        network = build_network(experiment.model, experiment.modality)
    finally:
        keras.config.set_dtype_policy(default)
    compile_network(network, experiment.train)
    return network


def _divergence(what: str, progress: TrainState, seen: list[tuple[str, int]], checkpoint: Path | None) -> str:
    windows = ", ".join(f"{recording} from frame {start}" for recording, start in seen)
    return (
        f"{what} at step {progress.step} of epoch {progress.epoch}, after {progress.updates} updates, on {windows}; "
        f"last good checkpoint: {checkpoint or 'none'}. A smaller train.learning_rate or train.clip_norm=1 may help"
    )
