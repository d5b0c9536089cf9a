"""The training loop for every distribution strategy: a compiled step under `strategy.run`, and Keras callbacks.

Keras 3's own `fit` cannot run under MultiWorkerMirroredStrategy, cannot derive dropout masks from the step number, and
cannot continue in the middle of an epoch. The model is still compiled, so that `fit` works on one device.

The objective is computed on the GLOBAL batch: its moments are summed over replicas before the ratio is taken, so every
replica holds the same loss. Each replica therefore differentiates loss / replicas, and these gradients are summed.
"""

import math
import time
from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from affect.config import DIMENSIONS, TrainConfig
from affect.learning import ccc
from affect.learning.ccc import Moments
from affect.learning.input_pipeline import InputPipeline
from affect.learning.strategy import all_reduce_sum
from affect.learning.train_state import TrainState
from affect.models.batch_norm import synchronise
from affect.models.masking import frame_masks
from affect.models.nested import nested_layers

Logs = dict[str, float]

# Stride between the dropout seeds of two replicas; a large odd number avoids collisions with other layers' seeds.
_REPLICA_SEED_STRIDE = 2_654_435_761


class NotFiniteError(ArithmeticError):
    """The loss or the gradient is NaN or infinite; the message says which."""


def compile_network(network: keras.Model, config: TrainConfig) -> None:
    """Compiles a network in place: Adam (section 4 of the paper), the objective, and one CCC per dimension."""
    optimizer = keras.optimizers.Adam(config.learning_rate, global_clipnorm=config.clip_norm or None)
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    network.compile(
        optimizer=optimizer,
        loss=ccc.LOSSES[config.objective](),
        weighted_metrics=[ccc.ConcordanceCC(i, name=f"ccc_{name}") for i, name in enumerate(DIMENSIONS)],
        # On a CPU, XLA makes this network's training step three to four times slower than oneDNN.
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)


class Totals(NamedTuple):
    """Running totals of an epoch: the moments of all frames so far, and sums over the steps so far."""

    moments: Moments
    steps: tf.Tensor
    loss: tf.Tensor
    gradient_norm: tf.Tensor

    @classmethod
    def of(cls, values: list[float]) -> "Totals":
        """Rebuilds the totals from the output of `to_list`; an empty list gives the zero totals of a new epoch."""
        numbers = iter(values or [0.0] * (1 + 5 * len(DIMENSIONS) + 3))

        def take(shape: tuple[int, ...]) -> tf.Tensor:
            return tf.constant([next(numbers) for _ in range(math.prod(shape))], tf.float32, shape)

        pooled = Moments(take(()), *(take((len(DIMENSIONS),)) for _ in Moments._fields[1:]))
        return cls(pooled, take(()), take(()), take(()))

    def to_list(self) -> list[float]:
        """Returns all values as a flat list, without rounding."""
        return [float(value) for part in tf.nest.flatten(self) for value in np.ravel(part)]

    def logs(self) -> Logs:
        """Returns the CCC per dimension, their mean, the mean loss of the steps, and the mean gradient norm."""
        per_dimension = ccc.ccc_from_moments(self.moments).numpy()
        cccs = dict(zip((f"ccc_{name}" for name in DIMENSIONS), per_dimension, strict=True))
        steps = max(float(self.steps), 1.0)
        logs = {"loss": self.loss / steps, **cccs, "ccc": np.mean(per_dimension)}
        return {name: float(value) for name, value in (logs | {"gradient_norm": self.gradient_norm / steps}).items()}


class TrainingLoop:
    """Trains and validates a compiled network on batches `(inputs, labels, mask)`."""

    def __init__(self, network: keras.Model, seed: int, clip_norm: float = 0.0, all_frames_count: bool = False):
        """Prepares the training and the validation step. Must be called in the scope of the strategy.

        Args:
          network: built, and compiled by `compile_network`, in the same scope; its loss is the objective.
          seed: determines the dropout masks, together with the step and the replica.
          clip_norm: maximum norm of the global gradient; 0 disables clipping.
          all_frames_count: promises that no training batch has a masked frame. The network then gets no mask, and batch
            norm on one replica is Keras' own.
        """
        self.network = network
        self.strategy = tf.distribute.get_strategy()
        if self.strategy.num_replicas_in_sync > 1:
            synchronise(network, all_reduce_sum)
        self._all_frames_count = all_frames_count
        self._objective = network.loss.objective
        self._seed = seed
        self._clip_norm = clip_norm
        self._dropout_states = _dropout_states(network)
        self._train_step = tf.function(self._train_on, autograph=False, reduce_retracing=True)
        self._validation_step = tf.function(self._validate_on, autograph=False, reduce_retracing=True)

    def train_step(self, batch, step: int, totals: Totals) -> tuple[float, float, Totals]:
        """Updates the weights once.

        Args:
          batch: a global batch, distributed over the replicas by the strategy.
          step: number of updates since the run began; determines the dropout masks.
          totals: totals of the epoch so far.

        Returns:
          The loss of the global batch, the norm of its gradient before clipping, and the totals including this step.

        Raises:
          NotFiniteError: the loss or the gradient is not finite; the weights are no longer usable.
        """
        loss, norm, totals = self._train_step(batch, tf.constant(step, tf.int64), totals)
        loss, norm = float(loss), float(norm)
        if not math.isfinite(loss):
            raise NotFiniteError(f"the loss is {loss}")
        # With loss scaling, an infinite gradient only means that the scale is too large: the optimizer skips the step
        # and reduces the scale.
        scale = float(self.network.optimizer.scale_loss(tf.constant(1.0)))
        if not math.isfinite(norm) and scale <= 1.0:
            raise NotFiniteError(f"the gradient's norm is {norm}")
        return loss, norm, totals

    def validate(self, batches: Iterable) -> Logs:
        """Returns the CCCs and the loss over all frames of `batches`, under names that start with `val_`."""
        pooled = Totals.of([]).moments
        for batch in batches:
            pooled = self._validation_step(batch, pooled)
        cccs = ccc.ccc_from_moments(pooled).numpy()
        logs = dict(zip((f"val_ccc_{name}" for name in DIMENSIONS), map(float, cccs), strict=True))
        loss = ccc.loss_from_moments(pooled, self._objective)
        return logs | {"val_ccc": float(np.mean(cccs)), "val_loss": float(loss)}

    def train_on_replica(self, batch, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Moments]:
        """Performs one update on one replica, from its part of the batch; all replicas run this simultaneously.

        Returns:
          Loss, gradient norm and moments of the global batch, the same on every replica.
        """
        inputs, labels, mask = batch
        replica = tf.distribute.get_replica_context()
        optimizer, variables = self.network.optimizer, self.network.trainable_variables
        seeds = self.dropout_seeds(step, replica.replica_id_in_sync_group)
        with tf.GradientTape() as tape:
            # This scope fixes the dropout seeds and collects the updated moving averages of batch norm.
            with keras.StatelessScope(seeds) as scope:
                masks = None if self._all_frames_count else frame_masks(self.network, mask)
                predicted = self.network(inputs, training=True, mask=masks)
            pooled = ccc.moments(labels, predicted, mask, all_reduce_sum)
            loss = ccc.loss_from_moments(pooled, self._objective)
            penalties = [tf.cast(penalty, loss.dtype) for penalty in self.network.losses]
            objective = tf.add_n([loss, *penalties]) / replica.num_replicas_in_sync
            scaled = optimizer.scale_loss(objective)
        for variable in self.network.non_trainable_weights:
            new_value = scope.get_current_value(variable)
            if new_value is not None:
                variable.assign(new_value)
        gradients = all_reduce_sum(tape.gradient(scaled, variables))
        norm = tf.cast(tf.linalg.global_norm(gradients), tf.float32) / optimizer.scale_loss(tf.constant(1.0))
        if self._clip_norm:
            factor = tf.minimum(1.0, self._clip_norm / norm)
            gradients = [gradient * tf.cast(factor, gradient.dtype) for gradient in gradients]
        # The optimizer sums the gradients over replicas a second time; dividing here cancels that.
        optimizer.apply([gradient / replica.num_replicas_in_sync for gradient in gradients], variables)
        return loss, norm, pooled

    def dropout_seeds(self, step: tf.Tensor, replica: tf.Tensor) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Returns one seed of two 32-bit words per dropout layer; seeds depend on the run, layer, replica and step.

        Keras advances its own seeds after each use, identically on every replica, and does not save them. Seeds
        computed from the step number differ between replicas and need not be saved.
        """
        stride = tf.constant(_REPLICA_SEED_STRIDE, tf.uint32)
        offset, step = tf.cast(replica, tf.uint32) * stride, tf.cast(step, tf.uint32)
        first_words = ((self._seed * 1_000_003 + index) % 2**32 for index in range(len(self._dropout_states)))
        seeds = [tf.stack([tf.constant(word, tf.uint32) + offset, step]) for word in first_words]
        return list(zip(self._dropout_states, seeds, strict=True))

    def _train_on(self, batch, step: tf.Tensor, totals: Totals) -> tuple[tf.Tensor, tf.Tensor, Totals]:
        loss, norm, pooled = self._from_replicas(self.strategy.run(self.train_on_replica, args=(batch, step)))
        finite_norm = tf.where(tf.math.is_finite(norm), norm, 0.0)  # not finite in a step that loss scaling skipped
        totals = Totals(
            ccc.merge(totals.moments, pooled),
            totals.steps + 1.0,
            totals.loss + loss,
            totals.gradient_norm + finite_norm,
        )
        return loss, norm, totals

    def _validate_on(self, batch, pooled: Moments) -> Moments:
        def on_replica(batch):
            inputs, labels, mask = batch
            predicted = self.network(inputs, training=False, mask=frame_masks(self.network, mask))
            return ccc.moments(labels, predicted, mask, all_reduce_sum)

        return ccc.merge(pooled, self._from_replicas(self.strategy.run(on_replica, args=(batch,))))

    def _from_replicas(self, results):
        """Returns single tensors, given results that are the same on every replica."""
        return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], results)


def run_epochs(
    loop: TrainingLoop,
    state: TrainState,
    pipeline: InputPipeline,
    callbacks: keras.callbacks.CallbackList,
    epochs: int,
) -> None:
    """Trains from `state` to the last epoch and validates after each one; callbacks may stop it by `stop_training`.

    Args:
      loop: trains and validates the network.
      state: progress of the run; updated in place before each callback that ends a step or an epoch.
      pipeline: batches for training and validation.
      callbacks: called in the same order as by `fit`.
      epochs: total number of epochs, counted from the start of the run.

    Raises:
      NotFiniteError: see `TrainingLoop.train_step`; `state` says at which step.
    """
    loop.network.stop_training = state.stopped
    dev_batches = pipeline.dev_batches()
    callbacks.on_train_begin()
    while state.epoch < epochs and not loop.network.stop_training:
        epoch = state.epoch
        callbacks.on_epoch_begin(epoch)
        logs = _train_epoch(loop, state, pipeline, callbacks)
        logs |= loop.validate(dev_batches)
        state.finish_epoch()
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()


def _train_epoch(
    loop: TrainingLoop, state: TrainState, pipeline: InputPipeline, callbacks: keras.callbacks.CallbackList
) -> Logs:
    """Trains the remaining steps of an epoch; rates cover only these steps, all other logs the whole epoch."""
    batches = pipeline.training_batches(state.epoch, state.step)
    totals = Totals.of(state.totals)
    frames_before, started, waited = float(totals.moments.count), time.perf_counter(), 0.0
    while state.step < pipeline.steps:
        callbacks.on_train_batch_begin(state.step)
        requested = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - requested
        loss, norm, totals = loop.train_step(batch, state.updates, totals)
        state.finish_step(totals.to_list())
        callbacks.on_train_batch_end(state.step - 1, {"loss": loss, "gradient_norm": norm})
    seconds = time.perf_counter() - started
    rates = {
        "frames_per_second": (float(totals.moments.count) - frames_before) / seconds,
        "input_wait": waited / seconds,
    }
    return totals.logs() | rates


def _dropout_states(network: keras.Model) -> list[keras.Variable]:
    """Returns the seed states of all dropout layers, in a fixed order."""
    dropouts = (layer for layer in nested_layers(network) if isinstance(layer, keras.layers.Dropout))
    return [layer.seed_generator.state for layer in dropouts if layer.rate]
