"""Skips are listed with reasons; an unexpected one makes the run fail (tests/helpers/expected_skips.py)."""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers.commands import REPOSITORY
from tests.helpers.expected_skips import Environment, is_expected

DEFAULT = Environment(python=(3, 11), tensorflow=(2, 17))
LATEST = Environment(python=(3, 11), tensorflow=(2, 21))
DEFAULT_313 = Environment(python=(3, 13), tensorflow=(2, 21))
NEWEST = {LATEST, DEFAULT_313}


@pytest.mark.parametrize(
    ("test", "reason", "allowed_in"),
    [
        ("tests/learning/test_xla.py::test_any", "needs --slow", {DEFAULT, LATEST, DEFAULT_313}),
        ("tests/models/test_backends.py::test_any", "JAX is not installed", {DEFAULT}),
        ("tests/models/test_network.py::test_any", "JAX is not installed", set()),
        ("tests/test_storage.py::test_a_missing_bucket_is_any", "tensorflow-io does not load here", NEWEST),
        ("tests/test_storage.py::test_without_tensorflow_io_any", "tensorflow-io does not load here", set()),
        ("tests/test_storage.py", "could not import 'boto3': No module named 'boto3'", set()),
        ("tests/test_environment.py::test_tensorflow_io_loads_any", "installed without the extra io", NEWEST),
        ("tests/test_environment.py", "installed without the extra io", set()),
        ("tests/media/test_faces.py::test_any", "could not import 'mtcnn'", set()),
        ("tests/test_storage.py::test_any", "unconditional skip", set()),
    ],
)
def test_skips_are_allowed_only_for_their_reason_and_in_their_environments(test, reason, allowed_in):
    for environment in (DEFAULT, LATEST, DEFAULT_313):
        assert is_expected(test, reason, environment) == (environment in allowed_in), environment


@pytest.mark.parametrize("processes", ["0", "2"])
def test_an_unexpected_skip_fails_the_run_and_is_named(tmp_path, processes):
    (tmp_path / "test_one.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.skip(reason='needs --slow')\n"
        "def test_slow(): pass\n"
    )  # fmt: skip
    assert run_pytest(tmp_path, processes).returncode == 0
    (tmp_path / "test_two.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    (tmp_path / "test_three.py").write_text(
        "import pytest\n"
        "def test_here(): pytest.skip('not on Sundays')\n"
        "@pytest.mark.xfail\n"
        "def test_known_fault(): assert False\n"
    )  # fmt: skip
    failed = run_pytest(tmp_path, processes)
    assert failed.returncode == 1
    listed = failed.stdout[failed.stdout.index("should not be skipped") :]
    assert "test_three.py::test_here: not on Sundays\n" in listed
    assert "test_two.py: could not import 'no_such_package'" in listed
    assert "test_slow" not in listed and "test_known_fault" not in listed


def test_every_run_lists_its_failures_and_the_reasons_of_its_skips(tmp_path):
    (tmp_path / "test_one.py").write_text(
        "import pytest\ndef test_slow(): pytest.skip('needs --slow')\ndef test_bad(): assert False\n"
    )
    # The options of the repository's own configuration, as `make test` uses them.
    done = run_pytest(tmp_path, "0", "-c", str(REPOSITORY / "pyproject.toml"))
    assert re.search(r"^SKIPPED \[1\] .*test_one\.py:2: needs --slow$", done.stdout, re.M), done.stdout
    assert re.search(r"^FAILED .*test_one\.py::test_bad", done.stdout, re.M), done.stdout


def run_pytest(folder, processes, *arguments):
    """Runs pytest on a folder of its own, with the check as its only plugin of ours."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable, "-m", "pytest", "-p", "tests.helpers.expected_skips", "-p", "no:cacheprovider", "-n", processes,
        str(folder), *arguments,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
