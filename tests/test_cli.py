"""What all commands share, tried on a small command: `--help`, flags, errors of one line, exit codes."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from affect import cli
from tests.helpers import example_command
from tests.helpers.commands import REPOSITORY, run_command

MODULE = ["-m", "tests.helpers.example_command"]


@pytest.fixture(params=["module", "script", "console name"])
def start(request, tmp_path):
    """The beginning of the command line, for each way to start the command."""
    if request.param == "module":
        return MODULE
    script = tmp_path / ("greet.py" if request.param == "script" else "affect-greet")
    lines = ["from tests.helpers.example_command import command"]
    if request.param == "script":
        lines += ['if __name__ == "__main__":', "    command()"]
    else:  # what pip writes for a console name
        lines = ["import sys", *lines, 'if __name__ == "__main__":', "    sys.exit(command())"]
    lines.insert(0, f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})")
    script.write_text("\n".join(lines) + "\n")
    return [str(script)]


@pytest.mark.parametrize("flag", ["--help", "-h", "-help", "--helpfull"])
def test_help_shows_docstring_and_flags_however_the_command_is_started(start, flag):
    done = run_command(*start, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{example_command.__doc__.strip()}\n\nflags:\n")
    for text in ("  --name: Who is greeted.", "--times: How often.", "a positive integer", "--fail: <user|score|"):
        assert text in done.stdout
    assert "showprefixforinfo" not in done.stdout  # one of absl's own flags


def test_help_needs_no_required_flag_and_wins_over_wrong_flags():
    done = run_command(*MODULE, "--nonsense=1", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Greets a person.")


def test_a_good_command_line_prints_and_ends_with_0(start):
    done = run_command(*start, "--name=Ada", "--times", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello Ada\nHello Ada\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: --name is required"),
        (["--nam=Ada"], "error: Unknown command line flag 'nam'. Did you mean: name"),
        (["--name=Ada", "--times=often"], "error: flag --times=often: invalid literal for int()"),
        (["--name=Ada", "--times=0"], "error: flag --times=0: 0 is not a positive integer"),
        (["--name=Ada", "--fail=now"], "error: flag --fail=now: value should be one of <user|score|"),
        (["--name=Ada", "now"], "error: unexpected argument 'now'; all options are flags, see --help"),
        (["--name=Ada", "--fail=user"], "error: greeting.txt: line 3 is empty; write a greeting"),
        (["--name=Ada", "--fail=full disk"], "error: [Errno 28] No space left on device: '/full/greeting.txt'"),
    ],
)
def test_a_mistake_of_the_user_is_one_line_and_exit_code_2(arguments, message):
    done = run_command(*MODULE, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)


def test_an_error_is_one_line_whatever_a_file_is_called():
    code = (
        "from affect import cli\nfrom affect.errors import UserError\n"
        "def main():\n    raise UserError('a\\nb\\x1b[2J\\udcff é [1].csv: line 3 is empty')\n"
        "cli.run(main, lambda: None)"
    )
    done = run_command("-c", code)
    assert (done.returncode, done.stderr) == (2, "error: a\\nb\\x1b[2J\\udcff é [1].csv: line 3 is empty\n")


@pytest.mark.parametrize(
    ("loaded", "exit_code", "leaves"),
    [("tensorflow", 2, True), ("tensorflow", 0, False), ("tensorflow_io", 0, True), ("", 2, False)],
)
def test_a_command_that_failed_does_not_wait_for_the_threads_of_tensorflow(monkeypatch, loaded, exit_code, leaves):
    left = []
    monkeypatch.setattr(cli, "os", SimpleNamespace(_exit=left.append))
    monkeypatch.setattr(cli, "sys", SimpleNamespace(modules={loaded: None}, stdout=sys.stdout, stderr=sys.stderr))
    cli.leave_without_destructors(exit_code)
    assert left == ([exit_code] if leaves else [])


@pytest.mark.parametrize(
    ("fail", "exit_code", "stderr"),
    [
        ("score", 3, ""),
        ("interrupt", 130, "stopped after 3 greetings; run the command again to continue\n"),
        ("silent interrupt", 130, "interrupted\n"),
    ],
)
def test_other_ends_have_exit_codes_of_their_own(fail, exit_code, stderr):
    done = run_command(*MODULE, "--name=Ada", f"--fail={fail}")
    assert (done.returncode, done.stderr) == (exit_code, stderr)


@pytest.mark.parametrize(("fail", "error"), [("bug", "ValueError: a bug"), ("missing", "FileNotFoundError: ")])
def test_a_bug_keeps_its_traceback(fail, error):
    done = run_command(*MODULE, "--name=Ada", f"--fail={fail}")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and error in done.stderr


def test_absls_special_flags_are_parsed(tmp_path):
    (tmp_path / "flags.txt").write_text("--name=Grace\n--times=2\n")
    done = run_command(*MODULE, f"--flagfile={tmp_path / 'flags.txt'}", "--undefok=colour", "--colour=red")
    assert (done.returncode, done.stdout) == (0, "Hello Grace\nHello Grace\n"), done.stderr


def test_two_commands_with_a_common_flag_fit_into_one_process(tmp_path):
    """Importing a command defines no flag, so the second one neither fails nor shows the flags of the first."""
    source = (REPOSITORY / "tests/helpers/example_command.py").read_text()
    (tmp_path / "second_command.py").write_text(source.replace("Greets a person", "Says it twice", 1))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from absl import flags\n"
        "import affect.cli; before = set(flags.FLAGS)  # absl's own flags\n"
        "import tests.helpers.example_command, second_command; assert set(flags.FLAGS) == before\n"
        "second_command.command()"
    )
    for argument, shown in (("--help", "Says it twice."), ("--name=Ada", "Hello Ada")):
        done = subprocess.run([sys.executable, "-c", code, argument], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(shown)


def test_progress_appears_at_once_when_stdout_is_a_pipe():
    code = (
        "import sys\nfrom absl import flags\nfrom affect import cli\n"
        "def main():\n    print('one')\n    sys.stdin.readline()\n    print('two')\n"
        "cli.run(main, lambda: None)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "one\n"  # would block for ever if it were buffered
        assert process.communicate("\n", timeout=60)[0] == "two\n"
