"""What the package promises: light imports, helpful `--help` texts, and a wheel that works outside the checkout."""

import configparser
import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest
from absl import flags

import affect
from affect import cli
from tests.helpers.commands import REPOSITORY, made_once, run_command

COMMANDS = {
    "affect-synthetic": "tfrecords_tools.synthetic.__main__",
    "affect-make-tfrecords": "tfrecords_tools.make_tfrecords",
    "affect-inspect-tfrecords": "tfrecords_tools.inspect_tfrecords",
    "affect-train": "affect.learning.train_command",
    "affect-eval": "affect.evaluation.eval_command",
    "affect-baseline": "affect.evaluation.baseline",
    "affect-report": "affect.evaluation.report",
    "affect-analysis": "affect.evaluation.analysis",
    "affect-export": "affect.serving.export",
    "affect-predict": "affect.serving.predict",
    "affect-describe": "affect.models.describe",
}
# Everything that goes into a wheel.
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "affect", "tfrecords_tools")


def test_importing_affect_brings_in_nothing_heavy():
    code = "import affect, sys; print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True) == "[]\n"


def test_the_lower_floors_do_not_need_tensorflow():
    modules = ("affect.metrics", "affect.config", "affect.figures", "affect.media.audio")
    code = f"import {', '.join(modules)}, sys; print('tensorflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True) == "False\n"


def assert_example_names_existing_flags(shown):
    """Checks a `--help` text: every flag of its example is one that it lists."""
    assert "Example:" in shown
    example = shown[shown.index("Example:") :].splitlines()[1]
    for flag in [word.split("=")[0] for word in example.split() if word.startswith("--")]:
        assert f"\n  {flag}:" in shown or f"\n  {flag}: " in shown or f"--[no]{flag[2:]}" in shown, flag


@pytest.fixture
def no_flags_left(monkeypatch):
    """Removes the flags that a test defines, and keeps this process alive where a command would end it at once."""
    before = set(flags.FLAGS)
    monkeypatch.setattr(cli, "leave_without_destructors", lambda exit_code: None)
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_under_the_console_name_shows_an_example_with_existing_flags(name, monkeypatch, capsys, no_flags_left):
    module = importlib.import_module(COMMANDS[name])
    monkeypatch.setattr(sys, "argv", [f"bin/{name}", "--help"])
    with pytest.raises(SystemExit) as ended:
        module.command()
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == module.__doc__.splitlines()[0]
    assert_example_names_existing_flags(shown)


@pytest.mark.parametrize("command", [["train.py"], ["-m", "tfrecords_tools.make_tfrecords"]], ids=["script", "module"])
def test_help_is_fast_because_it_imports_nothing_heavy(command):
    done = run_command("-X", "importtime", *command, "--help")
    assert done.returncode == 0
    assert_example_names_existing_flags(done.stdout)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "absl.flags" in imported
    assert not imported & {"tensorflow", "keras", "pandas", "scipy", "sklearn", "skimage", "cv2", "av", "matplotlib"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, worker_id):
    """A wheel of this checkout, built without network from a copy, so that no build folder is left in the checkout."""

    def make(folder):
        sources = folder / "sources"
        sources.mkdir(parents=True)
        for name in SOURCES:
            copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
            copy(REPOSITORY / name, sources / name)
        run_pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(sources))

    (path,) = made_once(tmp_path_factory, worker_id, "wheel", make).glob("*.whl")
    return path


def run_pip(*arguments):
    run_outside_checkout([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments])


def run_outside_checkout(command, folder=None):
    """Runs a program that must not see this checkout, and returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder or tempfile.gettempdir(), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Installation:
    """A virtual environment outside the checkout, whose commands run in a scratch folder."""

    def __init__(self, folder: Path):
        venv.create(folder / "venv", with_pip=False)
        self.bin = folder / "venv/bin"
        self.scratch = folder / "scratch"
        self.scratch.mkdir()

    def run(self, name, *arguments):
        """Runs a program of this environment; returns what it printed."""
        return run_outside_checkout([str(self.bin / name), *arguments], self.scratch)


def test_the_wheel_holds_both_packages_with_their_data_and_the_commands(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        parser = configparser.ConfigParser()
        parser.read_string(archive.read(entry_points).decode())
    assert {
        "affect/py.typed",
        "tfrecords_tools/py.typed",
        "affect/evaluation/reporting/report.html.j2",
        "affect/evaluation/introspection/analysis.html.j2",
    } <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"affect", "tfrecords_tools"}
    assert wheel.name == f"affect-{affect.__version__}-py3-none-any.whl"
    assert dict(parser["console_scripts"]) == {name: f"{module}:command" for name, module in COMMANDS.items()}


def test_the_installed_wheel_runs_its_commands_outside_the_checkout(wheel, tmp_path):
    installed = Installation(tmp_path)
    run_pip("--python", str(installed.bin / "python"), "install", "--no-deps", "--no-index", str(wheel))
    # The dependencies come from the environment of the tests. An editable installation there stays out of the way: its
    # .pth file has no effect in a folder that is itself named by a .pth file.
    (site_packages,) = (tmp_path / "venv/lib").glob("python3*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    origin = "import affect, tfrecords_tools; print(affect.__file__, tfrecords_tools.__file__, affect.__version__)"
    assert installed.run("python", "-c", origin).split() == [
        str(site_packages / "affect/__init__.py"), str(site_packages / "tfrecords_tools/__init__.py"),
        affect.__version__,
    ]  # fmt: skip

    shown = installed.run("affect-make-tfrecords", "--help")
    assert shown.startswith("Converts a corpus to TFRecord shards") and "--corpus_dir" in shown
    shown = installed.run("affect-train", "--help")
    assert shown.startswith("Trains the network") and "--run_dir" in shown
    shown = installed.run("affect-synthetic", "--output_dir=corpus", "--recordings=1,0,0", "--seconds=2")
    assert "wrote 1 synthetic recordings of 2 s to corpus" in shown
    assert (installed.scratch / "corpus/recordings_audio/train_1.wav").stat().st_size > 44_100


@pytest.mark.slow
def test_the_wheel_and_its_requirements_in_an_empty_environment_run_the_whole_chain(wheel, tmp_path):
    installed = Installation(tmp_path)
    latest = int(importlib.metadata.version("tensorflow").split(".")[1]) > 17 and sys.version_info < (3, 13)
    constraints = f"{sys.version_info[0]}.{sys.version_info[1]}{'-latest' if latest else ''}.txt"
    run_pip(
        "--python", str(installed.bin / "python"), "install", "--no-compile", "-c",
        str(REPOSITORY / "constraints" / constraints), f"{wheel}[baseline]",
    )  # fmt: skip
    installed.run("affect-synthetic", "--output_dir=corpus", "--recordings=2,1,1", "--seconds=4")
    installed.run("affect-make-tfrecords", "--corpus_dir=corpus", "--output_dir=records")
    assert "avec2016 corpus (synthetic" in installed.run("affect-inspect-tfrecords", "--data_dir=records")
    installed.run(
        "affect-train", "--preset=demo", "--modality=audio", "--data_dir=records", "--run_dir=run",
        "--set=train.epochs=1", "--set=train.batch_size=2", "--set=data.window_frames=50",
    )  # fmt: skip
    assert "report: run/eval/report.html" in installed.run("affect-eval", "--run_dir=run")
    installed.run("affect-baseline", "--data_dir=records", "--output_dir=baseline", "--protocol=quick")
    installed.run("affect-report", "--run_dirs=run", "--baseline=baseline", "--output=report.html")
    installed.run("affect-export", "--run_dir=run", "--output_dir=export")
    assert "lstm" in installed.run("affect-describe", "--preset=demo", "--modality=audio")
    sound = "corpus/recordings_audio/test_1.wav"
    installed.run(
        "affect-predict", "--model_dir=export", f"--input={sound}", "--output=test_1.csv", "--plot=test_1.png"
    )
    rows = (installed.scratch / "test_1.csv").read_text().splitlines()
    assert rows[0] == "time,arousal,valence,face_found,training_data" and len(rows) == 1 + 100
    assert (installed.scratch / "test_1.png").read_bytes().startswith(b"\x89PNG")
