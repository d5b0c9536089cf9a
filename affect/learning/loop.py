"""One training loop for every strategy: a compiled step under `strategy.run`, driving ordinary Keras callbacks.

Keras 3's own `fit` cannot run under MultiWorkerMirroredStrategy, and it neither takes dropout masks from the step
number nor continues in the middle of an epoch. The model is compiled all the same, so that anyone may call `fit`.

The objective is the CCC of the GLOBAL batch: its moments are summed over replicas before the ratio is taken, so every
replica holds the same loss. The gradient is therefore that of loss / replicas, summed over replicas.
"""

import math
import time
from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from affect.config import DIMENSIONS, TrainConfig
from affect.learning.ccc import CCCLoss, ConcordanceCC, Moments, ccc_from_moments, loss_from_moments, merge, moments
from affect.learning.input_pipeline import InputPipeline
from affect.learning.strategy import all_reduce_sum
from affect.learning.train_state import TrainState

Logs = dict[str, float]

# Between the seeds of two replicas, so that they meet no other layer's; any large odd number does.
_FAR_APART = 2_654_435_761


class NotFiniteError(ArithmeticError):
    """Loss or gradient is NaN or infinite; the message says which."""


def compile_network(network: keras.Model, config: TrainConfig) -> None:
    """Compiles in place: Adam (paper section 4), the CCC loss, and one CCC per dimension."""
    optimizer = keras.optimizers.Adam(config.learning_rate, global_clipnorm=config.clip_norm or None)
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    network.compile(
        optimizer=optimizer,
        loss=CCCLoss(),
        weighted_metrics=[ConcordanceCC(i, name=f"ccc_{name}") for i, name in enumerate(DIMENSIONS)],
        # On a CPU XLA makes this network's step three to four times slower than oneDNN.
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)


class Totals(NamedTuple):
    """What one epoch has seen so far: moments of all its frames, sums over its steps."""

    moments: Moments
    steps: tf.Tensor
    loss: tf.Tensor
    gradient_norm: tf.Tensor

    @classmethod
    def of(cls, values: list[float]) -> "Totals":
        """From `to_list`'s numbers; an empty list for the beginning of an epoch."""
        values = iter(values or [0.0] * (1 + 5 * len(DIMENSIONS) + 3))

        def take(shape):
            return tf.constant([next(values) for _ in range(math.prod(shape))], tf.float32, shape)

        pooled = Moments(take(()), *(take((len(DIMENSIONS),)) for _ in Moments._fields[1:]))
        return cls(pooled, take(()), take(()), take(()))

    def to_list(self) -> list[float]:
        """All numbers, exactly as they are."""
        return [float(value) for part in tf.nest.flatten(self) for value in np.ravel(part)]

    def logs(self) -> Logs:
        """CCC per dimension and their mean, mean loss, mean gradient norm."""
        cccs = dict(zip((f"ccc_{name}" for name in DIMENSIONS), ccc_from_moments(self.moments).numpy(), strict=True))
        steps = max(float(self.steps), 1.0)
        logs = {"loss": self.loss / steps, **cccs, "ccc": np.mean(list(cccs.values()))}
        return {name: float(value) for name, value in (logs | {"gradient_norm": self.gradient_norm / steps}).items()}


class Loop:
    """Trains and evaluates a compiled network on batches `(inputs, labels, mask)`."""

    def __init__(self, network: keras.Model, seed: int, clip_norm: float = 0.0):
        """Prepares both steps, for the strategy in whose scope this is called.

        Args:
          network: built and compiled in that scope.
          seed: decides the dropout masks, together with step and replica.
          clip_norm: largest norm of the global gradient; 0 never clips.
        """
        self.network = network
        self.strategy = tf.distribute.get_strategy()
        self._seed = seed
        self._clip_norm = clip_norm
        self._dropout_states = _dropout_states(network)
        self._train_step = tf.function(self._train_on, autograph=False, reduce_retracing=True)
        self._test_step = tf.function(self._test_on, autograph=False, reduce_retracing=True)

    def train_step(self, batch, step: int, totals: Totals) -> tuple[float, float, Totals]:
        """One update of the weights.

        Args:
          batch: a batch of the strategy's, a part on every replica.
          step: number of the update since the run began; dropout depends on it.
          totals: of the epoch so far.

        Returns:
          The loss of the global batch, the norm of its gradient before clipping, the totals with both added.

        Raises:
          NotFiniteError: loss or gradient is not finite; the weights are useless from here on.
        """
        loss, norm, totals = self._train_step(batch, tf.constant(step, tf.int64), totals)
        loss, norm = float(loss), float(norm)
        if not math.isfinite(loss):
            raise NotFiniteError(f"the loss is {loss}")
        # With loss scaling an infinite gradient is how a scale that is too large is found out; that step is skipped.
        scale = float(self.network.optimizer.scale_loss(tf.constant(1.0)))
        if not math.isfinite(norm) and scale <= 1.0:
            raise NotFiniteError(f"the gradient's norm is {norm}")
        return loss, norm, totals

    def evaluate(self, batches: Iterable) -> Logs:
        """Pooled CCCs over `batches`, and the loss that belongs to them; names start with `val_`."""
        pooled = Totals.of([]).moments
        for batch in batches:
            pooled = self._test_step(batch, pooled)
        cccs = ccc_from_moments(pooled).numpy()
        logs = dict(zip((f"val_ccc_{name}" for name in DIMENSIONS), map(float, cccs), strict=True))
        return logs | {"val_ccc": float(np.mean(cccs)), "val_loss": float(np.mean(1.0 - cccs))}

    def train_on_replica(self, batch, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Moments]:
        """What every replica computes: the update, its part of the sums, and what all of them then share.

        Returns:
          Loss, gradient norm and moments of the global batch, the same on every replica.
        """
        inputs, labels, mask = batch
        replica = tf.distribute.get_replica_context()
        optimizer, variables = self.network.optimizer, self.network.trainable_variables
        seeds = self.dropout_seeds(step, replica.replica_id_in_sync_group)
        with tf.GradientTape() as tape:
            # Inside, seeds are what we say, and new moving averages of batch norm are collected, not assigned.
            with keras.StatelessScope(seeds) as scope:
                predicted = self.network(inputs, training=True)
            pooled = moments(labels, predicted, mask, all_reduce_sum)
            loss = loss_from_moments(pooled)
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
            shrink = tf.minimum(1.0, self._clip_norm / norm)
            gradients = [gradient * tf.cast(shrink, gradient.dtype) for gradient in gradients]
        # The optimizer sums over replicas once more; dividing first undoes that.
        optimizer.apply([gradient / replica.num_replicas_in_sync for gradient in gradients], variables)
        return loss, norm, pooled

    def _train_on(self, batch, step: tf.Tensor, totals: Totals):
        loss, norm, pooled = self._shared(self.strategy.run(self.train_on_replica, args=(batch, step)))
        counted_norm = tf.where(tf.math.is_finite(norm), norm, 0.0)  # of a step that loss scaling skipped
        return (
            loss,
            norm,
            Totals(
                merge(totals.moments, pooled),
                totals.steps + 1.0,
                totals.loss + loss,
                totals.gradient_norm + counted_norm,
            ),
        )

    def _test_on(self, batch, pooled: Moments) -> Moments:
        def on_replica(batch):
            inputs, labels, mask = batch
            return moments(labels, self.network(inputs, training=False), mask, all_reduce_sum)

        return merge(pooled, self._shared(self.strategy.run(on_replica, args=(batch,))))

    def _shared(self, results):
        """What all replicas hold alike, once."""
        return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], results)

    def dropout_seeds(self, step: tf.Tensor, replica: tf.Tensor) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Two 32-bit words per dropout layer that differ between runs, layers, replicas and steps.

        Keras advances these states as it goes, the same on every replica, and saves them nowhere; set from the step
        number they need no saving.
        """
        replica, step = tf.cast(replica, tf.uint32) * tf.constant(_FAR_APART, tf.uint32), tf.cast(step, tf.uint32)
        first_words = ((self._seed * 1_000_003 + index) % 2**32 for index in range(len(self._dropout_states)))
        seeds = [tf.stack([tf.constant(word, tf.uint32) + replica, step]) for word in first_words]
        return list(zip(self._dropout_states, seeds, strict=True))


def run_epochs(
    loop: Loop, progress: TrainState, feed: InputPipeline, callbacks: keras.callbacks.CallbackList, epochs: int
) -> None:
    """Trains from where `progress` stands to `epochs`, evaluating after each; a callback may set `stop_training`.

    Args:
      loop: of the network.
      progress: changed in place, before the callbacks are told.
      feed: batches for training and for the evaluation after every epoch.
      callbacks: told of epochs and batches as by `fit`.
      epochs: in all.

    Raises:
      NotFiniteError: see `Loop.train_step`; `progress` names the step.
    """
    loop.network.stop_training = progress.stopped
    dev_batches = feed.dev_batches()
    callbacks.on_train_begin()
    while progress.epoch < epochs and not loop.network.stop_training:
        epoch = progress.epoch
        callbacks.on_epoch_begin(epoch)
        logs = _train_epoch(loop, progress, feed, callbacks)
        logs |= loop.evaluate(dev_batches)
        progress.finish_epoch()
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()


def _train_epoch(loop: Loop, progress: TrainState, feed: InputPipeline, callbacks: keras.callbacks.CallbackList) -> Logs:
    """The rest of one epoch; logs cover all of it, rates only the part that ran now."""
    batches = feed.training_batches(progress.epoch, progress.step)
    totals = Totals.of(progress.totals)
    frames_before, began, waited = float(totals.moments.count), time.perf_counter(), 0.0
    while progress.step < feed.steps:
        callbacks.on_train_batch_begin(progress.step)
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        loss, norm, totals = loop.train_step(batch, progress.updates, totals)
        progress.finish_step(totals.to_list())
        callbacks.on_train_batch_end(progress.step - 1, {"loss": loss, "gradient_norm": norm})
    seconds = time.perf_counter() - began
    rates = {
        "frames_per_second": (float(totals.moments.count) - frames_before) / seconds,
        "input_wait": waited / seconds,
    }
    return totals.logs() | rates


def _dropout_states(network: keras.Model) -> list[keras.Variable]:
    """Seed states of all dropout layers, those of the nets inside included, in a fixed order."""
    states = []
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            states += _dropout_states(layer)
        elif isinstance(layer, keras.layers.Dropout) and layer.rate:
            states.append(layer.seed_generator.state)
    return states
