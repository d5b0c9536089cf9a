"""Makes two trainings on a CPU bit-identical, whatever else the machine is doing (`train.deterministic`).

By default TensorFlow runs independent operations at the same time, and adds up three or more gradients of one tensor in
the order in which they become ready: if a step is estimated to take more than 80 % of a device's memory (256 MiB for a
CPU), Grappler's memory optimizer replaces AddN by AssignAdd operations without an order; and AddN itself starts with
whichever input's memory may be reused. The gradients of batch norm are such sums. Float32 sums in another order differ
in the last bits, and training amplifies that. `tf.config.experimental.enable_op_determinism` does not change this.

With one thread for operations there is one order. Each operation still uses all cores, and so does the input pipeline:
their results were the same in all trials, with and without oneDNN.
"""

import tensorflow as tf

from affect.errors import UserError

_TOO_LATE = "train.deterministic has to be set before TensorFlow runs its first operation; train in a new process"


def run_operations_in_order() -> None:
    """Makes TensorFlow run one operation at a time; call this before any other TensorFlow operation.

    Raises:
      UserError: TensorFlow has already started with other settings.
    """
    try:
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UserError(_TOO_LATE) from error


def check_deterministic(strategy: tf.distribute.Strategy) -> None:
    """Checks that training with `strategy` will be deterministic.

    Raises:
      UserError: the strategy uses anything but one CPU, or TensorFlow runs several operations at a time.
    """
    devices = strategy.extended.worker_devices
    if not isinstance(strategy, tf.distribute.OneDeviceStrategy) or ":CPU:" not in devices[0].upper():
        raise UserError(
            f"train.deterministic works on one CPU, and this training would run on {', '.join(devices)}; use "
            "--strategy=one_device, and hide GPUs with CUDA_VISIBLE_DEVICES=-1"
        )
    if tf.config.threading.get_inter_op_parallelism_threads() != 1:
        raise UserError(_TOO_LATE)
