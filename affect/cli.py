"""What every command of the project shares: absl start-up, one-line errors, exit codes.

Exit codes: 0 done, 2 a mistake the user can mend (one line on stderr), 3 a score under the asked threshold, 130
interrupted, and Python's own 1 with a traceback for a bug of ours.
"""

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from affect.errors import UserError

EXIT_USER_ERROR = 2
EXIT_SCORE_TOO_LOW = 3
EXIT_INTERRUPTED = 130
_NOT_OUR_FAULT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def run(main: Callable[[], int | None]) -> None:
    """Parses the flags, runs `main`, and ends the process with its exit code.

    Args:
      main: the command; it takes no arguments, reads its own flags, and returns an exit code or None for 0.
    """
    # TrainState should show at once, also where stdout is a file or a pipe.
    sys.stdout.reconfigure(line_buffering=True)

    def guarded(argv: Sequence[str]) -> int:
        if len(argv) > 1:
            return _complain(f"unexpected argument {argv[1]!r}; every option is a flag, see --help")
        logging.set_verbosity(logging.WARNING)  # TensorFlow logs every saved checkpoint as information
        try:
            return main() or 0
        except UserError as error:
            return _complain(str(error))
        except OSError as error:
            if error.errno not in _NOT_OUR_FAULT:
                raise
            return _complain(str(error))
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED

    try:
        app.run(guarded, flags_parser=_parse_flags)
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


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv) if _asks_for_help(argv) else flags.FLAGS(argv)
    except flags.Error as error:
        missing = re.search(r"Flag --(\w+) must have a value other than None", str(error))
        sys.exit(_complain(f"--{missing[1]} is required" if missing else str(error).replace("\n", " ")))


def _asks_for_help(argv: Sequence[str]) -> bool:
    return any(argument.lstrip("-").startswith("help") for argument in argv[1:])


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_USER_ERROR
