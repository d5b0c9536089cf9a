"""Every strategy learns the same: one step on one device, two virtual devices, two processes; and workers that die."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from affect.errors import UserError
from affect.learning import strategy
from affect.metrics import concordance_cc
from tests import strategy_step
from tests.helpers.commands import REPOSITORY, made_once, run_command


def two_addresses():
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def start_workers(*arguments_of_each):
    """Two processes that find each other through TF_CONFIG."""
    cluster, processes = {"worker": two_addresses()}, []
    for index, arguments in enumerate(arguments_of_each):
        tf_config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        processes.append(
            subprocess.Popen(
                [sys.executable, *arguments], cwd=REPOSITORY, env=os.environ | {"TF_CONFIG": tf_config},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
    return processes


def finish(processes, timeout=300):
    """Waits for all; returns what they printed."""
    return [process.communicate(timeout=timeout)[0] for process in processes]


@pytest.fixture(scope="session")
def steps(tmp_path_factory, worker_id):
    """What each strategy made of the same batch, by its name."""
    names = ("one_device", "mirrored", "worker0", "worker1")

    def make(folder):
        folder.mkdir()
        module, paths = ["-m", "tests.helpers.strategy_step"], [str(folder / f"{name}.npz") for name in names]
        for name, path in zip(names[:2], paths[:2], strict=True):
            done = run_command(*module, name, path)
            assert done.returncode == 0, done.stderr
        workers = start_workers(*([*module, "multi_worker", path] for path in paths[2:]))
        printed = finish(workers)
        assert [process.returncode for process in workers] == [0, 0], printed

    folder = made_once(tmp_path_factory, worker_id, "steps", make)
    return {name: dict(np.load(folder / f"{name}.npz")) for name in names}


def weights(step, modality, when):
    return [step[f"{modality}/{when}/{i}"] for i in range(sum(key.startswith(f"{modality}/{when}/") for key in step))]


@pytest.mark.parametrize("name", ["mirrored", "worker0", "worker1"])
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_one_sgd_step_is_the_same_under_every_strategy(steps, modality, name):
    reference, step = steps["one_device"], steps[name]
    assert (reference["replicas"], step["replicas"]) == (1, 2)
    for a, b in zip(weights(reference, modality, "before"), weights(step, modality, "before"), strict=True):
        np.testing.assert_array_equal(a, b)
    # Batch norm's moving averages are among the weights.
    norm = float(reference[f"{modality}/norm"])
    changes = zip(weights(reference, modality, "after"), weights(step, modality, "after"), strict=True)
    difference = np.sqrt(sum(np.sum(np.square(a.astype(np.float64) - b)) for a, b in changes))
    assert difference < 1e-5 * norm
    assert step[f"{modality}/norm"] == pytest.approx(norm, rel=1e-5)
    np.testing.assert_allclose(step[f"{modality}/totals"], reference[f"{modality}/totals"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_reported_loss_is_that_of_the_global_batch_and_no_mean_over_replicas(steps, modality):
    inputs, labels, mask = strategy_step.whole_batch()
    predicted = strategy_step.network(modality)({modality: inputs[modality]}, training=True).numpy()

    def loss(windows):
        counted = mask[windows]
        cccs = [concordance_cc(labels[windows][counted][:, i], predicted[windows][counted][:, i]) for i in range(2)]
        return 1.0 - np.mean(cccs)

    everything = loss(slice(None))
    for step in steps.values():
        assert step[f"{modality}/loss"] == pytest.approx(everything, abs=1e-5)
    assert abs(np.mean([loss(slice(0, 2)), loss(slice(2, 4))]) - everything) > 0.01


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_evaluation_is_exact_over_replicas(steps, modality):
    for name in ("mirrored", "worker0", "worker1"):
        for key in ("val_ccc_arousal", "val_ccc_valence", "val_loss"):
            expected = steps["one_device"][f"{modality}/eval/{key}"]
            assert steps[name][f"{modality}/eval/{key}"] == pytest.approx(expected, abs=1e-6)


def test_dropout_differs_between_replicas_and_not_between_strategies(steps):
    (one,) = steps["one_device"]["masks"]
    first, second = steps["mirrored"]["masks"]
    np.testing.assert_array_equal(first, one)
    assert 0.3 < np.mean((first > 0) != (second > 0)) < 0.7
    np.testing.assert_array_equal(steps["worker0"]["masks"], [first])
    np.testing.assert_array_equal(steps["worker1"]["masks"], [second])


def test_workers_that_stand_elsewhere_are_noticed_by_all(steps):
    assert all(steps[name]["agree"] for name in steps)
    assert not steps["worker0"]["disagree"] and not steps["worker1"]["disagree"]


def test_slurm_tasks_become_workers(monkeypatch):
    for name, value in {
        "PROCID": "2", "STEP_NUM_TASKS": "3", "STEP_NODELIST": "node[1-2]", "STEP_TASKS_PER_NODE": "2,1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    resolver = strategy._cluster_resolver()
    assert resolver.cluster_spec().as_dict() == {"worker": ["node1:8888", "node1:8889", "node2:8888"]}
    assert (resolver.task_type, resolver.task_id) == ("worker", 2)


@pytest.mark.parametrize(
    ("name", "tpu", "tf_config", "message"),
    [
        ("several", None, "", "unknown strategy 'several'"),
        ("mirrored", "tpu7", "", "--tpu=tpu7 does not go with --strategy=mirrored"),
        ("multi_worker", None, "", "needs TF_CONFIG="),
        ("multi_worker", None, "{", "TF_CONFIG is not JSON"),
        ("multi_worker", None, "[]", "TF_CONFIG names no cluster"),
        ("multi_worker", None, '{"cluster": {"worker": ["a:1", "b:1"]}}', "TF_CONFIG's task {} is not in its cluster"),
        ("auto", None, '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "'index': 2"),
        ("tpu", None, "", "a local TPU cannot be reached"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(monkeypatch, name, tpu, tf_config, message):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UserError) as caught:
        strategy.make_strategy(name, tpu)
    assert message in str(caught.value)


def test_without_accelerators_everything_is_one_device():
    assert isinstance(strategy.make_strategy("auto"), tf.distribute.OneDeviceStrategy)
    assert strategy.WorkerContext.of(strategy.make_strategy("mirrored")) == strategy.WorkerContext(workers=1, worker=0, replicas=1)
