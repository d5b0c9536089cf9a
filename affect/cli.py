"""What all commands share: flags, `--help`, one-line errors and exit codes.

A command is a module with three functions. Importing it defines no flags, so two commands fit into one process:

    define_flags()   defines the absl flags
    main()           reads the flags and makes one library call; returns an exit code, or None for 0
    command()        calls `cli.run(main, define_flags)`; called by `python -m`, by the script and by the console name

Exit codes: 0 success; 2 a mistake that the user can correct (one line on stderr); 3 a score below the requested
threshold; 130 interrupted; 1 with a traceback is a bug.
"""

import errno
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from affect.errors import UserError

EXIT_USER_ERROR = 2
EXIT_SCORE_TOO_LOW = 3
EXIT_INTERRUPTED = 130
# Problems of the machine and not bugs: no permission, read-only file system, disk full, over quota.
_ENVIRONMENT_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)


def run(main: Callable[[], int | None], define_flags: Callable[[], None]) -> None:
    """Parses the command line, runs `main`, and ends the process with its exit code.

    Args:
      main: the command; takes no arguments and reads its own flags.
      define_flags: defines these flags; the docstring of its module is the beginning of `--help`.
    """
    # Progress must appear at once, also if stdout is a file or a pipe.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    define_flags()

    def guarded(argv: Sequence[str]) -> int:
        if len(argv) > 1:
            return _complain(f"unexpected argument {argv[1]!r}; all options are flags, see --help")
        logging.set_verbosity(logging.WARNING)  # TensorFlow logs every saved checkpoint at level INFO
        try:
            return main() or 0
        except UserError as error:
            return _complain(str(error))
        except OSError as error:
            if error.errno not in _ENVIRONMENT_ERRORS:
                raise
            return _complain(str(error))
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED

    def parse(argv: Sequence[str]) -> list[str]:
        if _asks_for_help(argv):
            print(_help(define_flags))
            sys.exit(0)
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            missing = re.search(r"Flag --(\w+) must have a value other than None", str(error))
            sys.exit(_complain(f"--{missing[1]} is required" if missing else str(error).replace("\n", " ")))

    try:
        app.run(guarded, flags_parser=parse)
    except SystemExit as ended:
        if isinstance(ended.code, int):
            leave_without_destructors(ended.code)
        raise


def leave_without_destructors(exit_code: int) -> None:
    """Ends the process at once if TensorFlow's destructors may keep it or spoil its exit code.

    After S3 was used, those of tensorflow-io abort the process ("pure virtual method called"). After an error, an input
    pipeline may be in the middle of its work: its threads have kept the process for a minute, or aborted it.
    """
    if "tensorflow_io" in sys.modules or ("tensorflow" in sys.modules and exit_code == EXIT_USER_ERROR):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def one_line(text: str) -> str:
    """Returns a text that can be printed as one line, even if it names a file that has a line break in its name."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _asks_for_help(argv: Sequence[str]) -> bool:
    return any(argument in ("-h", "-help", "--help", "-?", "--helpshort", "--helpfull") for argument in argv[1:])


def _help(define_flags: Callable[[], None]) -> str:
    """Returns the docstring and the flags of the command's module, however the command was started.

    absl's own --help shows only the flags of `__main__`, which under a console name is a stub that pip wrote.
    """
    module = sys.modules[define_flags.__module__]
    defined_in = sys.argv[0] if module.__name__ == "__main__" else module.__name__  # absl calls `__main__` by argv[0]
    return f"{inspect.getdoc(module)}\n\nflags:\n{flags.FLAGS.module_help(defined_in)}"


def _complain(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return EXIT_USER_ERROR
