"""One training per run folder: a requeued job must not work on a run that its first process is still training."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import tensorflow as tf

from affect.errors import UserError
from affect.learning.strategy import WorkerContext, workers_agree
from affect.runs import RunFolder
from affect.storage import locked


@contextmanager
def locked_run(run: RunFolder, strategy: tf.distribute.Strategy, context: WorkerContext) -> Iterator[None]:
    """Holds the lock of a run folder while the block runs; the chief holds it for all workers.

    If the block ends before there is a run in the folder, the lock file and a folder that held nothing else disappear.

    Raises:
      UserError: another training holds the lock; raised on every worker.
    """
    refusal = f"another train.py is working on {run.path}; wait until it ends, or use another --run_dir"
    with ExitStack() as stack:
        error = None
        if context.is_chief:
            try:
                stack.enter_context(locked(run.lock, refusal))
                stack.callback(_remove_if_unused, run)
            except UserError as refused:
                error = refused
        if not workers_agree(strategy, int(error is not None)) or error:
            raise error or UserError(refusal)
        yield


def _remove_if_unused(run: RunFolder) -> None:
    if not run.config.exists():
        run.lock.unlink(missing_ok=True)
        if not any(run.path.iterdir()):
            run.path.rmdir()
