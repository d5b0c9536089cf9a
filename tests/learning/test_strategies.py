"""Every strategy gives the same step: one device, two virtual devices, two processes; descriptions of a cluster."""

import fcntl

import numpy as np
import pytest
import tensorflow as tf

from affect.errors import UserError
from affect.learning import strategy
from affect.metrics import concordance_cc
from affect.models.masking import frame_masks
from tests.helpers import strategy_step
from tests.helpers.commands import made_once
from tests.helpers.worker_processes import finish, start_process, start_workers


@pytest.fixture(scope="session")
def steps(tmp_path_factory, worker_id):
    """The results of each strategy on the same batch, by its name."""
    names = ("one_device", "mirrored", "worker0", "worker1")

    def make(folder):
        (folder / "run").mkdir(parents=True)
        module, paths = ["-m", "tests.helpers.strategy_step"], [str(folder / f"{name}.npz") for name in names]
        # Two virtual devices must be configured before TensorFlow starts, so they need a process of their own, too.
        processes = [
            start_process(*module, "mirrored", paths[1]),
            *start_workers(*([*module, "multi_worker", path] for path in paths[2:])),
        ]
        with open(folder / "run/.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # as another training would
            strategy_step.main("one_device", paths[0])
            printed = finish(processes)
        assert [process.returncode for process in processes] == [0, 0, 0], printed

    folder = made_once(tmp_path_factory, worker_id, "steps", make)
    return {name: dict(np.load(folder / f"{name}.npz")) for name in names}


def weights(step, case, when):
    return [step[f"{case}/{when}/{i}"] for i in range(sum(key.startswith(f"{case}/{when}/") for key in step))]


@pytest.mark.parametrize("name", ["mirrored", "worker0", "worker1"])
@pytest.mark.parametrize("case", strategy_step.CASES)
def test_one_sgd_step_is_the_same_under_every_strategy(steps, case, name):
    reference, step = steps["one_device"], steps[name]
    assert (reference["replicas"], step["replicas"]) == (1, 2)
    for a, b in zip(weights(reference, case, "before"), weights(step, case, "before"), strict=True):
        np.testing.assert_array_equal(a, b)
    # Batch norm's moving averages are among the weights.
    norm = float(reference[f"{case}/norm"])
    changes = zip(weights(reference, case, "after"), weights(step, case, "after"), strict=True)
    difference = np.sqrt(sum(np.sum(np.square(a.astype(np.float64) - b)) for a, b in changes))
    assert difference < 1e-5 * norm
    assert step[f"{case}/norm"] == pytest.approx(norm, rel=1e-5)
    np.testing.assert_allclose(step[f"{case}/totals"], reference[f"{case}/totals"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", strategy_step.CASES)
def test_reported_loss_is_that_of_the_global_batch_and_not_a_mean_over_replicas(steps, case):
    modality, objective = strategy_step.CASES[case]
    inputs, labels, mask = strategy_step.whole_batch()
    network = strategy_step.network(modality, objective=objective)
    predicted = network({modality: inputs[modality]}, training=True, mask=frame_masks(network, mask)).numpy()

    def loss(windows):
        gold, own = (signal[windows][mask[windows]] for signal in (labels, predicted))
        if objective == "mse":
            return np.mean(np.square(gold - own))
        return 1.0 - np.mean([concordance_cc(gold[:, i], own[:, i]) for i in range(2)])

    whole = loss(slice(None))
    for step in steps.values():
        assert step[f"{case}/loss"] == pytest.approx(whole, abs=1e-5)
    assert abs(np.mean([loss(slice(0, 2)), loss(slice(2, 4))]) - whole) > 1e-3


@pytest.mark.parametrize("case", strategy_step.CASES)
def test_validation_is_exact_over_replicas(steps, case):
    for name in ("mirrored", "worker0", "worker1"):
        for key in ("val_ccc_arousal", "val_ccc_valence", "val_loss"):
            expected = steps["one_device"][f"{case}/validation/{key}"]
            assert steps[name][f"{case}/validation/{key}"] == pytest.approx(expected, abs=1e-6)


def test_batch_norm_keeps_a_small_variance_over_replicas(steps):
    x, mask = strategy_step.nearly_constant()
    for step in steps.values():
        np.testing.assert_allclose(step["variance"], x[mask].astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-3)


def test_dropout_differs_between_replicas_and_not_between_strategies(steps):
    (one,) = steps["one_device"]["masks"]
    first, second = steps["mirrored"]["masks"]
    np.testing.assert_array_equal(first, one)
    assert 0.3 < np.mean((first > 0) != (second > 0)) < 0.7
    np.testing.assert_array_equal(steps["worker0"]["masks"], [first])
    np.testing.assert_array_equal(steps["worker1"]["masks"], [second])


def test_all_workers_notice_that_they_disagree(steps):
    assert all(steps[name]["agree"] for name in steps)
    assert not steps["worker0"]["disagree"] and not steps["worker1"]["disagree"]


def test_all_workers_leave_a_run_alone_that_another_job_is_training(steps):
    for step in steps.values():
        assert str(step["refusal"]).startswith("another train.py is working on ")
        assert str(step["refusal"]).endswith("/run; wait until it ends, or use another --run_dir")


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
        ("mirrored", "tpu7", "", "--tpu=tpu7 cannot be combined with --strategy=mirrored"),
        ("multi_worker", None, "", "needs TF_CONFIG="),
        ("multi_worker", None, "{", "TF_CONFIG is not valid JSON"),
        ("multi_worker", None, "[]", "TF_CONFIG does not describe a cluster"),
        (
            "multi_worker",
            None,
            '{"cluster": {"worker": ["a:1", "b:1"]}}',
            "TF_CONFIG: the task {} is not in the cluster",
        ),
        ("auto", None, '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "'index': 2"),
        ("tpu", None, "", "a local TPU cannot be reached"),
    ],
)
def test_an_invalid_cluster_is_refused(monkeypatch, name, tpu, tf_config, message):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UserError) as caught:
        strategy.make_strategy(name, tpu)
    assert message in str(caught.value)


def test_without_accelerators_the_strategy_is_one_device():
    assert isinstance(strategy.make_strategy("auto"), tf.distribute.OneDeviceStrategy)
    context = strategy.WorkerContext.of(strategy.make_strategy("mirrored"))
    assert context == strategy.WorkerContext(workers=1, worker=0, replicas=1)
