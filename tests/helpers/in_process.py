"""Runs a command's `main` in the process of the test, because TensorFlow's import takes seconds in a new process.

What only a process shows, exit codes and what is printed to stderr, is tested with `tests.helpers.commands`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from absl import flags


@contextmanager
def parsed_flags(command: ModuleType, *arguments: str) -> Iterator[None]:
    """Defines and parses a command's flags; afterwards they are gone, so that another command can define its own.

    Raises:
      absl.flags.Error: as on the command line.
    """
    before = set(flags.FLAGS)
    try:
        command.define_flags()
        assert flags.FLAGS(["command", *arguments]) == ["command"]
        yield
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def call_main(command: ModuleType, *arguments: str) -> int | None:
    """Runs the `main` of a command (see `affect.cli`) with these arguments, and returns its exit code.

    Raises:
      UserError: instead of exit code 2 and one line on stderr.
    """
    with parsed_flags(command, *arguments):
        return command.main()
