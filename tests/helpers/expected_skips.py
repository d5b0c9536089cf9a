"""Fails a test run in which a test was skipped that should have run in this environment.

A skipped test looks like a success, so a dependency that is missing by mistake would go unnoticed. What is missing on
purpose is listed here. The environment is recognised by the versions of Python and TensorFlow, and not by whether an
optional package is installed: a missing package must not excuse its own tests.
"""

import importlib.metadata
import re
import sys
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Environment:
    """What decides which tests can run.

    Attributes:
      python: major and minor version.
      tensorflow: major and minor version.
    """

    python: tuple[int, int]
    tensorflow: tuple[int, int]

    @classmethod
    def current(cls) -> "Environment":
        """The environment of this process; TensorFlow is not imported."""
        major, minor = importlib.metadata.version("tensorflow").split(".")[:2]
        return cls(sys.version_info[:2], (int(major), int(minor)))

    @property
    def has_tensorflow_io(self) -> bool:
        """Whether the extra `io` installs tensorflow-io here; its last release supports no newer versions."""
        return self.python < (3, 13) and self.tensorflow < (2, 18)


@dataclass(frozen=True)
class ExpectedSkip:
    """Tests that may be skipped.

    Attributes:
      test: regular expression; matches the beginning of the test's id.
      reason: regular expression; is found in the reason of the skip.
      where: "everywhere", or "with" or "without tensorflow-io" for environments in which it can or cannot be installed.
    """

    test: str
    reason: str
    where: str


EXPECTED_SKIPS = (
    ExpectedSkip(r"", r"^needs --slow$", "everywhere"),
    # JAX needs NumPy 2, and the TensorFlow of tensorflow-io needs NumPy 1.
    ExpectedSkip(r"tests/models/test_backends\.py::", r"^JAX is not installed$", "with tensorflow-io"),
    # By name: all other tests of storage run everywhere, above all the one of the error that names the extra.
    ExpectedSkip(
        r"tests/test_storage\.py::test_(corpus_and_shards_in_s3|a_table_of_recordings_over_http|a_missing_bucket)",
        r"^tensorflow-io does not load here$",
        "without tensorflow-io",
    ),
    ExpectedSkip(
        r"tests/test_environment\.py::test_tensorflow_io_loads",
        r"^installed without the extra io$",
        "without tensorflow-io",
    ),
)


def is_expected(test: str, reason: str, environment: Environment) -> bool:
    """Whether a test may be skipped for this reason in this environment."""
    here = "with tensorflow-io" if environment.has_tensorflow_io else "without tensorflow-io"
    return any(
        skip.where in ("everywhere", here) and re.match(skip.test, test) and re.search(skip.reason, reason)
        for skip in EXPECTED_SKIPS
    )


class SkipCheck:
    """A pytest plugin that collects the skips of a run and fails the run if one is not expected."""

    def __init__(self):
        self.unexpected: dict[str, str] = {}  # reasons by test

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes a test that was skipped."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Notes a module that was skipped as a whole, as by `pytest.importorskip`."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple | list) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not is_expected(report.nodeid, reason, Environment.current()):
            self.unexpected[report.nodeid] = reason

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Lists the tests that should have run."""
        if self.unexpected:
            terminalreporter.section("tests that should not be skipped in this environment", red=True)
            for test, reason in sorted(self.unexpected.items()):
                terminalreporter.line(f"{test}: {reason}")
            terminalreporter.line("Install what is missing, or list the skip in tests/helpers/expected_skips.py.")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fails the run."""
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    """Registers the check; with pytest-xdist only in the controller, which sees the reports of all workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipCheck(), "expected-skips")
