"""Selects the devices that a network trains on: one device, all devices of a machine, several machines or a TPU.

    one_device     the first GPU, or the CPU
    mirrored       all GPUs of this machine, or all logical CPUs if it has no GPU
    multi_worker   one process per machine, described by TF_CONFIG or by Slurm's environment variables
    tpu            a TPU by its name; "local" on a TPU VM
    auto           tpu if a TPU is named, multi_worker if TF_CONFIG names several workers, mirrored if this machine has
                   several GPUs, otherwise one_device

Each name stands for one of TensorFlow's distribution strategies. A "replica" is a device that computes its part of
every batch. A "worker" is a process with its own input pipeline.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf

from affect.data.windows import Share
from affect.errors import UserError
from affect.learning.options import STRATEGIES

_TF_CONFIG_EXAMPLE = '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}'


def make_strategy(name: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """Builds a strategy. Call it before any other TensorFlow operation, because workers have to connect first.

    Args:
      name: one of `STRATEGIES`.
      tpu: name or address of the TPU; with it, "auto" means "tpu".

    Raises:
      UserError: the name is unknown, the cluster is not described, or the TPU cannot be reached.
    """
    if name not in STRATEGIES:
        raise UserError(f"unknown strategy {name!r}; must be one of {', '.join(STRATEGIES)}")
    if tpu and name not in ("auto", "tpu"):
        raise UserError(f"--tpu={tpu} cannot be combined with --strategy={name}; use --strategy=tpu")
    if name == "tpu" or tpu:
        return _tpu(tpu)
    if name == "multi_worker" or (name == "auto" and _workers_in_tf_config() > 1):
        return tf.distribute.MultiWorkerMirroredStrategy(_cluster_resolver())
    # List the GPUs only here: Slurm's resolver, called above, must select a task's GPUs before TensorFlow lists them.
    gpus = tf.config.list_physical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def all_reduce_sum(tensor):
    """Sums a tensor over all replicas; must be called by every replica, inside `strategy.run`."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensor)


@dataclass(frozen=True)
class WorkerContext:
    """Identifies this process among all processes of a training run.

    Attributes:
      workers: number of workers.
      worker: index of this worker.
      replicas: number of replicas over all workers; each takes an equal part of every batch.
    """

    workers: int
    worker: int
    replicas: int

    @classmethod
    def of(cls, strategy: tf.distribute.Strategy) -> "WorkerContext":
        """Returns the context of this process under `strategy`."""
        resolver = strategy.cluster_resolver
        cluster = resolver.cluster_spec() if resolver else None
        if not cluster or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return cls(1, 0, strategy.num_replicas_in_sync)
        workers = sum(cluster.num_tasks(job) for job in cluster.jobs)
        worker = resolver.task_id or 0
        if "chief" in cluster.jobs and resolver.task_type == "worker":
            worker += 1
        return cls(max(workers, 1), worker, strategy.num_replicas_in_sync)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder; exactly one worker does."""
        return self.worker == 0

    def share(self, worker: int | None = None) -> Share:
        """Returns this worker's part of the data, or that of another worker."""
        return Share(self.worker if worker is None else worker, self.workers, self.replicas // self.workers)


def workers_agree(strategy: tf.distribute.Strategy, value: int) -> bool:
    """Returns whether all workers passed the same value; every worker gets the same answer."""
    if WorkerContext.of(strategy).workers == 1:
        return True

    @tf.function
    def compare(own):
        def on_replica(own):
            own = tf.identity(own)  # reductions need a tensor on this replica's device
            mean = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, own)
            differs = tf.cast(tf.not_equal(mean, own), tf.float32)
            return all_reduce_sum(differs)

        return strategy.run(on_replica, args=(own,))

    differing = strategy.experimental_local_results(compare(tf.constant(float(value))))[0]
    return float(differing) == 0.0


def wait_for_all_workers(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker has called this.

    A process that leaves while another one is still busy, for instance with the last checkpoint, is reported there as
    failed after a few seconds.
    """
    workers_agree(strategy, 0)


@contextmanager
def lost_workers_in_one_line(context: WorkerContext) -> Iterator[None]:
    """Turns TensorFlow's errors about a worker that has stopped into a `UserError`; does nothing without other workers.

    Raises:
      UserError: another worker has stopped while the block ran.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if context.workers == 1:
            raise
        raise UserError("another worker has stopped; restart all workers to continue this run") from error


def _workers_in_tf_config() -> int:
    return sum(len(addresses) for addresses in _tf_config().get("cluster", {}).values())


def _tf_config() -> dict:
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    except json.JSONDecodeError as error:
        raise UserError(f"TF_CONFIG is not valid JSON ({error}); expected {_TF_CONFIG_EXAMPLE}") from error
    if not isinstance(config, dict) or not isinstance(config.get("cluster", {}), dict):
        raise UserError(f"TF_CONFIG does not describe a cluster; expected {_TF_CONFIG_EXAMPLE}")
    return config


def _cluster_resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    config = _tf_config()
    if config.get("cluster"):
        task = config.get("task") or {}
        if task.get("index") not in range(len(config["cluster"].get(task.get("type"), ()))):
            raise UserError(f"TF_CONFIG: the task {task} is not in the cluster; expected {_TF_CONFIG_EXAMPLE}")
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if "SLURM_PROCID" in os.environ:
        return _slurm_resolver()
    raise UserError(
        f"--strategy=multi_worker needs TF_CONFIG={_TF_CONFIG_EXAMPLE} in the environment, or must be "
        "started by Slurm's srun"
    )


def _slurm_resolver() -> tf.distribute.cluster_resolver.SlurmClusterResolver:
    if shutil.which("nvidia-smi"):
        return tf.distribute.cluster_resolver.SlurmClusterResolver()
    # By default TensorFlow's resolver derives the number of tasks from the GPUs; without GPUs it would find no tasks.
    per_node = max(int(count) for count in re.findall(r"(\d+)(?:\(x\d+\))?", os.environ["SLURM_STEP_TASKS_PER_NODE"]))
    return tf.distribute.cluster_resolver.SlurmClusterResolver(
        gpus_per_node=per_node, gpus_per_task=1, auto_set_gpu=False
    )


def _tpu(name: str | None) -> tf.distribute.TPUStrategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name or "local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        what = f"TPU {name}" if name else "a local TPU"
        raise UserError(f"{what} cannot be reached ({' '.join(str(error).split())})") from error
    return tf.distribute.TPUStrategy(resolver)
