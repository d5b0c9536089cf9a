"""One SGD step of three small networks under a strategy; the results are written to a file.

    python -m tests.helpers.strategy_step NAME FILE

NAME is one_device, mirrored (two virtual CPUs), or multi_worker (one of the processes that TF_CONFIG describes). The
results must not depend on it. The halves of the batch have different means and masks, so that a mean of the replicas'
own losses would differ from the loss of the whole batch.
"""

import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from affect.config import ModelConfig, TrainConfig
from affect.errors import UserError
from affect.learning.loop import Totals, TrainingLoop, compile_network
from affect.learning.run_lock import locked_run
from affect.learning.strategy import WorkerContext, all_reduce_sum, make_strategy, workers_agree
from affect.models.batch_norm import batch_moments
from affect.models.network import build_network
from affect.runs import RunFolder

CONFIG = {
    "frame_samples": 16, "audio_filters": (3, 4), "audio_taps": (5, 4), "audio_channel_pool": 2, "audio_framed": True,
    "crop_size": 32, "video_net": "narrow", "video_width": 4, "video_blocks": (1, 1, 1, 1), "video_stem_stride": 2,
    "video_scaling": "unit", "lstm_units": (5,), "weight_decay": 1e-2,
}  # fmt: skip
WINDOWS, FRAMES = 4, 8
# Modality and objective of each step, by the name of its results.
CASES = {"audio": ("audio", "ccc"), "video": ("video", "ccc"), "audio_mse": ("audio", "mse")}


def whole_batch():
    """Inputs of both modalities, labels, mask."""
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(WINDOWS, FRAMES, 16)).astype(np.float32)
    video = rng.integers(0, 255, size=(WINDOWS, FRAMES, 32, 32, 3)).astype(np.uint8)
    labels = rng.uniform(-0.2, 0.2, size=(WINDOWS, FRAMES, 2)).astype(np.float32)
    video[:2] //= 3
    labels[:2] += 0.5
    mask = rng.random((WINDOWS, FRAMES)) < 0.8
    mask[3, 2:] = False  # so that the halves count different numbers of frames
    return {"audio": audio, "video": video}, labels, mask


def network(modality, dropout=0.0, objective="ccc"):
    """Returns a network compiled with plain SGD and learning rate 1, so that the change of a weight is its gradient.

    The video net computes in float64. In float32, a mere permutation of the batch changes its gradient by more than
    1e-5 of its norm.
    """
    keras.utils.set_random_seed(1)
    precision = "float64" if modality == "video" else "float32"
    keras.config.set_dtype_policy(precision)
    # The output layer is float32 under every policy, but a reduction needs gradients of one type.
    with mock.patch("affect.models.network.head", lambda _: keras.layers.Dense(2, name="predictions")):
        model = build_network(ModelConfig(**CONFIG, dropout=dropout), modality)
    keras.config.set_dtype_policy("float32")
    compile_network(model, TrainConfig(objective=objective))
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=model.loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def batches(strategy, modality):
    """Returns a dataset of the one batch, with each replica's part on its device."""
    inputs, labels, mask = whole_batch()
    share = WorkerContext.of(strategy).share()
    per_replica = WINDOWS // strategy.num_replicas_in_sync

    def own(_):
        dataset = tf.data.Dataset.from_tensor_slices(({modality: inputs[modality]}, labels, mask))
        return dataset.skip(share.worker * share.replicas * per_replica).batch(per_replica).take(share.replicas)

    return strategy.distribute_datasets_from_function(own)


def main(name, path):
    """Writes what this process has computed.

    That is losses, gradient norms, weights before and after the step, validation logs, dropout masks, and why it must
    not train in the folder `run` beside FILE.
    """
    if name == "mirrored":
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    strategy = make_strategy(name)
    context = WorkerContext.of(strategy)
    results = {"replicas": context.replicas, "agree": workers_agree(strategy, 3)}
    results["disagree"] = workers_agree(strategy, context.worker)
    for case, (modality, objective) in CASES.items():
        with strategy.scope():
            model = network(modality, objective=objective)
            loop = TrainingLoop(model, seed=0)
        (batch,) = batches(strategy, modality)
        results |= {
            f"{case}/validation/{name}": value for name, value in loop.validate(batches(strategy, modality)).items()
        }
        results |= {f"{case}/before/{i}": value for i, value in enumerate(model.get_weights())}
        loss, norm, totals = loop.train_step(batch, 0, Totals.of([]))
        results |= {f"{case}/after/{i}": value for i, value in enumerate(model.get_weights())}
        results |= {f"{case}/loss": loss, f"{case}/norm": norm, f"{case}/totals": totals.to_list()}
    results["refusal"] = refusal(RunFolder(Path(path).parent / "run"), strategy)
    results["masks"] = dropout_masks(strategy)
    results["variance"] = small_variance(strategy)
    np.savez(path, **results)


def refusal(run, strategy):
    """Returns the error of a training in this run folder, or "" if there is none."""
    try:
        with locked_run(run, strategy, WorkerContext.of(strategy)):
            return ""
    except UserError as error:
        return str(error)


def nearly_constant():
    """Returns pictures of mean 100 and standard deviation .1, and a mask that leaves out two others."""
    x = np.random.default_rng(2).normal(100, 0.1, size=(8, 4, 4, 2)).astype(np.float32)
    mask = np.ones(8, bool)
    mask[[1, 2]] = False
    x[~mask] = 0.0
    return x, mask


def small_variance(strategy):
    """Returns the variance that batch norm computes of `nearly_constant`, one half of it on each of two replicas."""
    x, mask = nearly_constant()
    share = len(x) // strategy.num_replicas_in_sync

    @tf.function
    def variance():
        def on_replica():
            start = tf.distribute.get_replica_context().replica_id_in_sync_group * share
            part = slice(start, start + share)
            return batch_moments(tf.constant(x)[part], tf.constant(mask)[part], all_reduce_sum)[1]

        return strategy.run(on_replica)

    return strategy.experimental_local_results(variance())[0]


def dropout_masks(strategy):
    """Returns the output of one dropout layer for ones, on every replica of this process: [replicas, cells]."""
    with strategy.scope():
        model = network("audio", dropout=0.5)
        loop = TrainingLoop(model, seed=0)
    layer = model.get_layer("audio_dropout")

    @tf.function
    def masks():
        def on_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            with keras.StatelessScope(loop.dropout_seeds(tf.constant(5), replica)):
                return layer(tf.ones((1, 50, layer.input.shape[-1])), training=True)

        return strategy.run(on_replica)

    return [np.ravel(mask) for mask in strategy.experimental_local_results(masks())]


if __name__ == "__main__":
    main(*sys.argv[1:])
