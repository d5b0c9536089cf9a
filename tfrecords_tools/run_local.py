"""Runs preprocessing on the processes of this machine.

A runner is a callable that gets a picklable function and a list of tasks, calls the function once for every task, and
yields its results in any order (`tfrecords_tools.pipeline.Runner`). It knows nothing about recordings or shards, so
another runner can take its place.
"""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, connection, get_context, parent_process
from typing import TypeVar

from affect import cli
from affect.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_local(work: Callable[[Task], Result], tasks: Sequence[Task], processes: int | None = None) -> Iterator[Result]:
    """Calls `work` for every task and yields the results as they are completed.

    Args:
      work: a function that can be pickled.
      tasks: its arguments.
      processes: maximum number of worker processes; None means one per core. With 1, everything runs in this process.

    Raises:
      UserError: a worker process was killed.
      KeyboardInterrupt: interrupted; the workers are stopped.
    """
    workers = min(processes or os.cpu_count() or 1, len(tasks))
    return _run_in_workers(work, tasks, workers) if workers > 1 else map(work, tasks)


def _run_in_workers(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        futures = [pool.submit(work, task) for task in tasks]
        try:
            for done in as_completed(futures):
                yield done.result()
        except KeyboardInterrupt as interrupt:
            for worker in active_children():  # waiting for them would take as long as the tasks that they work on
                worker.terminate()
            raise KeyboardInterrupt(
                "interrupted; finished recordings are kept, and the same command continues"
            ) from interrupt
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, possibly because memory ran out; run the same command again with fewer "
                "--processes (finished recordings are kept)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Prepares a worker: it leaves interrupts to its parent, and ends with it instead of writing on alone.

    TensorFlow, which is not loaded yet, gets one thread, because there is one worker per core, and no GPU: each worker
    would occupy all of its memory.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit.register(cli.leave_without_destructors, 0)
    parent = parent_process()
    assert parent is not None  # this function runs in worker processes only

    def end_with_parent():
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
