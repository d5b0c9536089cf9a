"""One training loop for every strategy: a compiled step under `strategy.run`, driving ordinary Keras callbacks.

Keras 3's own `fit` cannot run under MultiWorkerMirroredStrategy, and it neither takes dropout masks from the step
number nor continues in the middle of an epoch. The model is compiled all the same, so that anyone may call `fit`.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from affect.config import DIMENSIONS
from affect.learning.ccc import CCCLoss, ConcordanceCC

Logs = dict[str, float]


def compile_network(network: keras.Model, learning_rate: float) -> None:
    """Compiles in place: Adam at a fixed rate (paper section 4), the CCC loss, and one CCC per dimension."""
    network.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=CCCLoss(),
        weighted_metrics=[ConcordanceCC(i, name=f"ccc_{name}") for i, name in enumerate(DIMENSIONS)],
        # On a CPU XLA makes this network's step three to four times slower than oneDNN.
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)


class Loop:
    """Trains and evaluates a compiled network on batches `(inputs, labels, mask)`."""

    def __init__(self, network: keras.Model, seed: int):
        """Prepares both steps; `seed` decides the dropout masks together with the step number."""
        self.network = network
        self._strategy = tf.distribute.get_strategy()
        self._loss = CCCLoss()
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._cccs = [ConcordanceCC(i, name=f"ccc_{name}") for i, name in enumerate(DIMENSIONS)]
        self._dropout_states = _dropout_states(network)
        self._seed = seed
        self._train_step = tf.function(self._train_on, reduce_retracing=True)
        self._test_step = tf.function(self._test_on, reduce_retracing=True)

    def train_epoch(self, batches: tf.data.Dataset, callbacks: keras.callbacks.CallbackList) -> Logs:
        """One pass over `batches`; returns mean loss and the CCCs over everything seen."""
        self._reset()
        logs: Logs = {}
        for step, batch in enumerate(batches):
            callbacks.on_train_batch_begin(step)
            self._strategy.run(self._train_step, args=(batch,))
            logs = self._logs()
            callbacks.on_train_batch_end(step, logs)
        return logs

    def evaluate(self, batches: tf.data.Dataset) -> Logs:
        """Pooled CCCs over `batches`, and the loss that belongs to them; names start with `val_`."""
        self._reset()
        for batch in batches:
            self._strategy.run(self._test_step, args=(batch,))
        logs = self._logs()
        return {f"val_{name}": value for name, value in logs.items()} | {"val_loss": 1.0 - logs["ccc"]}

    def _train_on(self, batch) -> None:
        inputs, labels, mask = batch
        optimizer, variables = self.network.optimizer, self.network.trainable_variables
        for index, state in enumerate(self._dropout_states):
            state.assign(_dropout_seed(self._seed, index, optimizer.iterations.value))
        with tf.GradientTape() as tape:
            predicted = self.network(inputs, training=True)
            loss = self._loss(labels, predicted, mask)
            total = tf.add_n([loss, *self.network.losses])
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        self._mean_loss.update_state(loss)
        self._update_cccs(labels, predicted, mask)

    def _test_on(self, batch) -> None:
        inputs, labels, mask = batch
        self._update_cccs(labels, self.network(inputs, training=False), mask)

    def _update_cccs(self, labels, predicted, mask) -> None:
        for metric in self._cccs:
            metric.update_state(labels, predicted, mask)

    def _reset(self) -> None:
        for metric in (self._mean_loss, *self._cccs):
            metric.reset_state()

    def _logs(self) -> Logs:
        cccs = {metric.name: float(metric.result()) for metric in self._cccs}
        return {"loss": float(self._mean_loss.result()), **cccs, "ccc": sum(cccs.values()) / len(cccs)}


def run_epochs(
    loop: Loop,
    training_batches: Callable[[int], tf.data.Dataset],
    dev_batches: tf.data.Dataset,
    callbacks: keras.callbacks.CallbackList,
    first_epoch: int,
    epochs: int,
) -> None:
    """Trains from `first_epoch` to `epochs`, evaluating after each; a callback may set `stop_training`."""
    network = loop.network
    network.stop_training = False
    callbacks.on_train_begin()
    for epoch in range(first_epoch, epochs):
        callbacks.on_epoch_begin(epoch)
        logs = loop.train_epoch(training_batches(epoch), callbacks)
        callbacks.on_epoch_end(epoch, logs | loop.evaluate(dev_batches))
        if network.stop_training:
            break
    callbacks.on_train_end()


def _dropout_states(network: keras.Model) -> list[keras.Variable]:
    """Seed states of all dropout layers, those of the nets inside included, in a fixed order."""
    states = []
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            states += _dropout_states(layer)
        elif isinstance(layer, keras.layers.Dropout) and layer.rate:
            states.append(layer.seed_generator.state)
    return states


def _dropout_seed(seed: int, index: int, step: tf.Tensor) -> tf.Tensor:
    """Two 32-bit words that differ between runs, layers and steps.

    Keras advances these states as it goes and saves them nowhere; set from the step number they need no saving.
    """
    first = tf.constant((seed * 1_000_003 + index) % 2**32, tf.uint32)
    return tf.stack([first, tf.cast(step, tf.uint32)])
