r"""Greets a person.

Second paragraph of the docstring.

Example:
  python -m tests.helpers.example_command --name=Ada
"""

import os

from absl import flags

from affect import cli
from affect.errors import UserError


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("name", None, "Who is greeted.", required=True)
    flags.DEFINE_integer("times", 1, "How often.", lower_bound=1)
    flags.DEFINE_enum(
        "fail", None, ["user", "score", "full disk", "missing", "interrupt", "silent interrupt", "bug"], "How to fail."
    )


def main() -> int | None:
    """Greets, or fails as --fail says."""
    args = flags.FLAGS
    match args.fail:
        case "user":
            raise UserError("greeting.txt: line 3 is empty; write a greeting")
        case "score":
            return cli.EXIT_SCORE_TOO_LOW
        case "full disk":
            raise OSError(28, os.strerror(28), "/full/greeting.txt")
        case "missing":
            raise FileNotFoundError(2, os.strerror(2), "greeting.txt")
        case "interrupt":
            raise KeyboardInterrupt("stopped after 3 greetings; run the command again to continue")
        case "silent interrupt":
            raise KeyboardInterrupt
        case "bug":
            raise ValueError("a bug")
    for _ in range(args.times):
        print(f"Hello {args.name}")
    return None


def command() -> None:
    """Runs the command."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
