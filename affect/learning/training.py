"""Trains the network of one experiment in a run folder (section 4 of the paper).

In the paper, the audio and video networks are first trained separately. An audiovisual run then starts from their
feature nets and trains all weights together (`affect.learning.multi_run` does all three). If the folder already holds
the run, training continues from its newest readable checkpoint.
"""

import sys
from pathlib import Path

import keras
import tensorflow as tf

from affect.config import Experiment
from affect.data.shard_check import shard_errors
from affect.errors import UserError
from affect.learning.callbacks import BestWeights, Checkpointing, Patience, trim_log
from affect.learning.determinism import check_deterministic
from affect.learning.divergence import DivergedError
from affect.learning.initial_weights import load_initial_weights
from affect.learning.input_pipeline import InputPipeline, faceless_shares
from affect.learning.loop import NotFiniteError, TrainingLoop, compile_network, run_epochs
from affect.learning.options import RunOptions
from affect.learning.provenance import changed_initial_weights, check_run_folder, record_divergence, record_run
from affect.learning.run_lock import locked_run
from affect.learning.strategy import WorkerContext, lost_workers_in_one_line, wait_for_all_workers, workers_agree
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
      options: how often to save checkpoints, whether to continue a run, and what else it may do; see `RunOptions`.

    Returns:
      The best mean dev CCC.

    Raises:
      UserError: the data is missing, does not fit or shows hardly a face to a network that sees, the folder holds
        another experiment or is being trained in, the batch cannot be divided among the devices, the run diverges, or
        another worker has stopped.
    """
    if experiment.train.deterministic:
        check_deterministic(strategy)
    context, run = WorkerContext.of(strategy), RunFolder(run_dir)
    pipeline = InputPipeline(experiment, strategy, context, options.allow_faceless)
    if context.is_chief:
        for partition, shares in faceless_shares(experiment, pipeline.manifest).items():
            print(*shares.lines(partition), sep="\n")
    if initial_runs and experiment.modality != "audiovisual":
        raise UserError(f"--init_{next(iter(initial_runs))} is for --modality=audiovisual")
    with lost_workers_in_one_line(context), locked_run(run, strategy, context):
        initial_runs = check_run_folder(run, experiment, pipeline.manifest, initial_runs, options.fresh)
        with strategy.scope():
            network = _compiled_network(experiment)
            loop = TrainingLoop(network, experiment.train.seed, experiment.train.clip_norm, pipeline.all_frames_count)
        state = TrainState()
        checkpointing = Checkpointing(run.checkpoints, network, state, options.checkpoint_steps, context.is_chief)
        for warning in checkpointing.restore():
            print(warning)
        if state.updates:
            _continue(run, experiment, network, state, initial_runs)
        else:
            _start(run, experiment, network, initial_runs)
        state.learning_rate = experiment.train.learning_rate
        if not workers_agree(strategy, state.updates):
            raise UserError(f"workers see different checkpoints in {run_dir}; use a folder that all workers share")

        callbacks = [BestWeights(run.best_weights, state, context.is_chief), Patience(experiment.train, state)]
        if context.is_chief:
            # The run folder is written only from here on, after all checks have passed.
            record_run(run, experiment, pipeline.manifest, initial_runs, context, state.updates)
            callbacks += _logs(run, experiment, state, pipeline, options)
        callbacks = _in_order([*callbacks, checkpointing], network, experiment, pipeline.steps, context)
        try:
            with shard_errors(experiment.data.data_dir, pipeline.manifest, ("train", "dev")):
                run_epochs(loop, state, pipeline, callbacks, experiment.train.epochs)
        except (NotFiniteError, DivergedError) as error:
            raise UserError(_after_divergence(error, run, state, pipeline, checkpointing, context)) from error
        wait_for_all_workers(strategy)
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


def _start(run: RunFolder, experiment: Experiment, network: keras.Model, initial_runs: dict[str, Path]) -> None:
    """Loads the initial weights; if an existing run has no checkpoint, they must be those that it recorded.

    Raises:
      UserError: the weights are gone, have changed, or do not fit.
    """
    changes = changed_initial_weights(run, initial_runs)
    if changes:
        raise UserError(
            f"{run.path} has no checkpoint yet and cannot start again as it did: {' and '.join(changes)}; "
            "use another --run_dir"
        )
    initial = {modality: TrainedNetwork.load(path) for modality, path in initial_runs.items()}
    print(*load_initial_weights(network, experiment, initial), sep="\n")


def _continue(
    run: RunFolder, experiment: Experiment, network: keras.Model, state: TrainState, initial_runs: dict[str, Path]
) -> None:
    """Says from where a restored run continues, and applies a change of `train.learning_rate`."""
    print(f"continuing {run.path} after epoch {state.epoch} of {experiment.train.epochs}, step {state.step}")
    for change in changed_initial_weights(run, initial_runs):
        print(f"{change} since this run started with it; the run continues with its own weights")
    if state.stopped and state.epoch < experiment.train.epochs:
        print(
            f"it was stopped early after epoch {state.epoch} and remains so: with train.early_stop_epochs="
            f"{experiment.train.early_stop_epochs}, more epochs change nothing"
        )
    # Reductions by `Patience` are kept. The checkpoint knows its own rate: a process may be killed after the change was
    # recorded and before the next checkpoint.
    before = state.learning_rate or run.read_config().train.learning_rate
    if before != experiment.train.learning_rate:
        factor = experiment.train.learning_rate / before
        network.optimizer.learning_rate = float(network.optimizer.learning_rate) * factor


def _logs(
    run: RunFolder, experiment: Experiment, state: TrainState, pipeline: InputPipeline, options: RunOptions
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that write `training.csv` and TensorBoard's files."""
    trim_log(run.training_log, state.epoch)
    return [
        keras.callbacks.CSVLogger(run.training_log, append=True),
        *tensorboard_callbacks(run, experiment, pipeline.manifest, pipeline.dev_entries, options.tensorboard),
    ]


def _in_order(
    callbacks: list[keras.callbacks.Callback],
    network: keras.Model,
    experiment: Experiment,
    steps: int,
    context: WorkerContext,
) -> keras.callbacks.CallbackList:
    return keras.callbacks.CallbackList(
        callbacks,
        add_progbar=context.is_chief,
        model=network,
        verbose=1 if sys.stdout.isatty() else 2,
        epochs=experiment.train.epochs,
        steps=steps,
    )


def _after_divergence(
    error: NotFiniteError | DivergedError,
    run: RunFolder,
    state: TrainState,
    pipeline: InputPipeline,
    checkpointing: Checkpointing,
    context: WorkerContext,
) -> str:
    """Leaves only good checkpoints in the run folder; returns an error message that says how to go on."""
    if context.is_chief:
        record_divergence(run, state.updates)
    checkpoint = checkpointing.last_good()
    where = f"after {state.updates} updates"
    if isinstance(error, NotFiniteError):  # in a step, and not between two steps
        windows = pipeline.recordings_in_step(state.epoch, state.step)
        listed = ", ".join(f"{recording} from frame {start}" for recording, start in windows)
        where = f"at step {state.step} of epoch {state.epoch}, {where}, on {listed}"
    goes_on = f"continues from {checkpoint}, the last good checkpoint" if checkpoint else "starts this run again"
    return (
        f"{error} {where}; with a smaller --set=train.learning_rate or with --set=train.clip_norm=1, "
        f"train.py --run_dir={run.path} {goes_on}"
    )
