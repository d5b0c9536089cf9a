"""`train.deterministic`: the same bits beside other work, and a refusal wherever it would not hold."""

import pytest
import tensorflow as tf

from affect.config import TrainConfig
from affect.errors import UserError
from affect.learning import determinism, train_command
from tests.helpers.commands import run_command, train_flags
from tests.helpers.in_process import call_main


def numbers_of(run_dir):
    """Every number of the last checkpoint: weights, moving moments, Adam's moments."""
    (checkpoint,) = (run_dir / "checkpoints").glob("step-*")
    reader = tf.train.load_checkpoint(str(checkpoint / "state"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name}


@pytest.fixture(scope="module")
def deterministic(data_dir, tmp_path_factory):
    """The runs `alone` and `busy`, and what the process that trained them printed last."""
    output = tmp_path_factory.mktemp("deterministic")
    done = run_command("-m", "tests.helpers.deterministic_process", str(data_dir), str(output))
    assert done.returncode == 0, done.stderr
    return output / "alone", output / "busy", done.stdout.splitlines()[-1]


def test_a_deterministic_training_gives_the_same_bits_beside_busy_processes(deterministic):
    alone, busy = map(numbers_of, deterministic[:2])
    assert alone.keys() == busy.keys() and len(alone) > 50
    assert not [name for name, values in alone.items() if values.tobytes() != busy[name].tobytes()]


def test_a_deterministic_process_adds_up_gradients_in_one_order(deterministic):
    assert deterministic[2] == "1"


def test_a_deterministic_training_is_refused_once_tensorflow_has_started(data_dir, tmp_path):
    tf.constant(0.0)
    with pytest.raises(UserError, match="train.deterministic has to be set before TensorFlow runs its first operation"):
        call_main(train_command, *train_flags(data_dir, tmp_path / "run"), "--set=train.deterministic=true")
    with pytest.raises(UserError, match="train in a new process"):
        determinism.check_deterministic(tf.distribute.OneDeviceStrategy("/cpu:0"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("strategy", "devices"),
    [
        (lambda: tf.distribute.OneDeviceStrategy("/gpu:0"), "/job:localhost/replica:0/task:0/device:GPU:0"),
        (lambda: tf.distribute.MirroredStrategy(["/cpu:0"]), "/job:localhost/replica:0/task:0/device:CPU:0"),
    ],
)
def test_a_deterministic_training_is_refused_on_anything_but_one_cpu(strategy, devices):
    with pytest.raises(UserError) as refusal:
        determinism.check_deterministic(strategy())
    assert str(refusal.value).startswith(
        f"train.deterministic works on one CPU, and this training would run on {devices}; use --strategy=one_device"
    )


def test_trainings_are_not_deterministic_unless_asked():
    assert TrainConfig().deterministic is False
    assert tf.config.threading.get_inter_op_parallelism_threads() != 1
