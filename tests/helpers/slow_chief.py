"""train.py whose first worker is busy for twelve seconds after the last epoch, as with a slow file system.

Without news from a process for ten seconds, TensorFlow reports it as failed.
"""

import json
import os
import time

from affect.learning import callbacks, train_command


class BusyAtTheEnd(callbacks.BestWeights):
    """Writes the best weights, and takes its time."""

    def on_train_end(self, logs=None):
        """Does nothing for longer than TensorFlow waits."""
        time.sleep(12)


if __name__ == "__main__":
    if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
        callbacks.BestWeights = BusyAtTheEnd
    train_command.command()
