"""Trains the network of one experiment in a run folder (section 4 of the paper).

In the paper, the audio and video networks are first trained separately. An audiovisual run then starts from their
feature nets and trains all weights together (`affect.learning.multi_run` does all three). If the folder already holds
the run, training continues exactly from its newest readable checkpoint.
"""

import sys
from pathlib import Path

import keras
import tensorflow as tf

from affect.config import Experiment
from affect.errors import UserError
from affect.learning.callbacks import BestWeights, Checkpointing, Patience, trim_log
from affect.learning.initial_weights import load_initial_weights
from affect.learning.input_pipeline import InputPipeline
from affect.learning.loop import NotFiniteError, TrainingLoop, compile_network, run_epochs
from affect.learning.options import RunOptions
from affect.learning.provenance import check_run_folder, initialise_run_folder
from affect.learning.strategy import WorkerContext, workers_agree
from affect.learning.tensorboard import tensorboard_callbacks
from affect.learning.train_state import TrainState
from affect.models.network import build_network
from affect.models.trained import TrainedNetwork
from affect.runs import RunFolder


def train(
    experiment: Experiment,
    run_dir: Path,
    initial_runs: dict[str, Path],
    strategy: tf.distribute.Strategy,
    options: RunOptions,
) -> float:
    """Trains one run, or continues it.

    Args:
      experiment: which network to train, and on which data.
      run_dir: a new folder, or one with a run of the same experiment to continue. All workers must share it.
      initial_runs: run folders of trained unimodal networks, by modality; only for an audiovisual experiment.
      strategy: from `affect.learning.strategy.make_strategy`.
      options: how often to save checkpoints, whether to continue a run, and what to write for TensorBoard.

    Returns:
      The best mean dev CCC.

    Raises:
      UserError: the data is missing or does not fit, the folder holds another experiment, the batch cannot be divided
        among the devices, the loss or the gradient is not finite, or another worker has stopped.
    """
    context = WorkerContext.of(strategy)
    pipeline = InputPipeline(experiment, strategy, context)
    if initial_runs and experiment.modality != "audiovisual":
        raise UserError(f"--init_{next(iter(initial_runs))} is for --modality=audiovisual")
    run = RunFolder(run_dir)
    check_run_folder(run, experiment, pipeline.manifest, initial_runs, options.fresh)

    with strategy.scope():
        network = _compiled_network(experiment)
        loop = TrainingLoop(network, experiment.train.seed, experiment.train.clip_norm)
    state = TrainState()
    checkpointing = Checkpointing(run.checkpoints, network, state, options.checkpoint_steps, context.is_chief)
    for warning in checkpointing.restore():
        print(warning)
    if not workers_agree(strategy, state.updates):
        raise UserError(f"workers see different checkpoints in {run_dir}; use a folder that all workers share")
    if state.updates:
        print(f"continuing {run_dir} after epoch {state.epoch} of {experiment.train.epochs}, step {state.step}")
    else:
        initial = {modality: TrainedNetwork.load(path) for modality, path in initial_runs.items()}
        print(*load_initial_weights(network, experiment, initial), sep="\n")

    callbacks = [BestWeights(run.best_weights, state, context.is_chief), Patience(experiment.train, state)]
    if context.is_chief:
        # The run folder is written only from here on, after all checks have passed.
        initialise_run_folder(run, experiment, pipeline.manifest, initial_runs, context)
        trim_log(run.training_log, state.epoch)
        callbacks.append(keras.callbacks.CSVLogger(run.training_log, append=True))
        callbacks += tensorboard_callbacks(
            run, experiment, pipeline.manifest, pipeline.dev_entries, options.tensorboard
        )
    callbacks = keras.callbacks.CallbackList(
        [*callbacks, checkpointing],
        add_progbar=context.is_chief,
        model=network,
        verbose=1 if sys.stdout.isatty() else 2,
        epochs=experiment.train.epochs,
        steps=pipeline.steps,
    )
    try:
        run_epochs(loop, state, pipeline, callbacks, experiment.train.epochs)
    except NotFiniteError as error:
        windows = pipeline.recordings_in_step(state.epoch, state.step)
        raise UserError(_divergence(str(error), state, windows, checkpointing.latest())) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if context.workers == 1:
            raise
        raise UserError("another worker has stopped; restart all workers to continue this run") from error
    return state.best_score


def _compiled_network(experiment: Experiment) -> keras.Model:
    """Builds and compiles the network at the experiment's precision; the seed determines the initial weights."""
    keras.utils.set_random_seed(experiment.train.seed)
    default = keras.config.dtype_policy()
    keras.config.set_dtype_policy(experiment.train.precision)
    try:
        network = build_network(experiment.model, experiment.modality)
    finally:
        keras.config.set_dtype_policy(default)
    compile_network(network, experiment.train)
    return network


def _divergence(what: str, state: TrainState, windows: list[tuple[str, int]], checkpoint: Path | None) -> str:
    listed = ", ".join(f"{recording} from frame {start}" for recording, start in windows)
    return (
        f"{what} at step {state.step} of epoch {state.epoch}, after {state.updates} updates, on {listed}; "
        f"last good checkpoint: {checkpoint or 'none'}. A smaller train.learning_rate or train.clip_norm=1 may help"
    )
