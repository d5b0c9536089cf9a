"""What every command shares: its flags, its help, one-line errors, exit codes.

A command is a module with three functions, and nothing runs or is defined when it is imported:

    define_flags()   declares the absl flags
    main()           reads them and makes one library call; returns an exit code, or None for 0
    command()        `cli.run(main, define_flags)`: what `python -m`, the script and the console name all call

Exit codes: 0 done, 2 a mistake that the user can correct (one line on stderr), 3 a score below the requested
threshold, 130 interrupted; 1 with Python's traceback is a bug of ours.
"""

import errno
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from affect.errors import UserError

EXIT_USER_ERROR = 2
EXIT_SCORE_TOO_LOW = 3
EXIT_INTERRUPTED = 130
# The machine's state, not a bug: no permission, read-only file system, no space, over quota.
_ENVIRONMENT_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def run(main: Callable[[], int | None], define_flags: Callable[[], None]) -> None:
    """Parses the command line, runs `main`, and ends the process with its exit code.

    Args:
      main: the command; it takes no arguments and reads its own flags.
      define_flags: declares these flags; lives in the same module, whose docstring is the head of `--help`.
    """
    # Progress appears at once, also where stdout is a file or a pipe.
    sys.stdout.reconfigure(line_buffering=True)
    define_flags()

    def guarded(argv: Sequence[str]) -> int:
        if len(argv) > 1:
            return _complain(f"unexpected argument {argv[1]!r}; every option is a flag, see --help")
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
    """Ends this process now if it has loaded tensorflow-io, whose S3 client would abort it ("pure virtual method")."""
    if "tensorflow_io" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def _asks_for_help(argv: Sequence[str]) -> bool:
    return any(argument in ("-h", "-help", "--help", "-?", "--helpshort", "--helpfull") for argument in argv[1:])


def _help(define_flags: Callable[[], None]) -> str:
    """The module's docstring and its flags, whatever name the command was started by.

    absl's own --help shows the flags of `__main__` only, which under a console name is a stub of pip's.
    """
    module = sys.modules[define_flags.__module__]
    defined_in = sys.argv[0] if module.__name__ == "__main__" else module.__name__  # absl's name for `__main__`
    return f"{inspect.getdoc(module)}\n\nflags:\n{flags.FLAGS.module_help(defined_in)}"


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_USER_ERROR
