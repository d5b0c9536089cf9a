"""The documentation keeps its word: its commands, flags, settings, files and links exist, and the commands run.

The default tests check names only. The slow ones execute every page, in order, in a scratch folder, on a tiny corpus
and with small networks: see `SCRATCH`, `SUBSTITUTED` and `APPENDED` for what differs from the page.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from affect.config import override
from affect.presets import get_preset
from tests.helpers import trees
from tests.helpers.commands import REPOSITORY
from tests.helpers.in_process import parsed_flags
from tests.helpers.pages import PAGES, Fence, fence_faults, fences, inline_code, link_faults, prose, read_page

SCRIPTS = {"train.py": "affect.learning.train_command", "eval.py": "affect.evaluation.eval_command"}

# Copies of the tiny corpus's shards, where a page takes shards for granted.
SCRATCH = {
    "docs/training.md": "data/records", "docs/evaluation.md": "data/records", "docs/baselines.md": "data/records",
    "docs/analysis.md": "data/records", "docs/performance.md": "data/demo/records",
}  # fmt: skip

# What a page cannot know, and what stands for it. DIR, in an argument of its own, is a tiny corpus in the AVEC layout.
SUBSTITUTED = {"--corpus_dir=DIR": "--corpus_dir={avec2016}"}

# absl takes the last value of a flag, so these override the page's.
TINY_TRAINING = ["--set=train.epochs=1", "--set=train.batch_size=2", "--set=data.window_frames=50"]
SMALL_NETWORK = [
    f"--set={setting}"
    for setting in (
        "model.audio_filters=4,8", "model.audio_taps=20,16", "model.audio_channel_pool=4", "model.video_net=narrow",
        "model.video_width=2", "model.video_stem_stride=4", "model.video_blocks=1,1,1,1", "model.video_scaling=unit",
        "model.lstm_units=8,8", "train.video_weights=none",
    )
]  # fmt: skip
APPENDED = {
    "tfrecords_tools.synthetic": ["--recordings=2,2,2", "--seconds=8"],
    "train.py": TINY_TRAINING,
    "train.py --preset=paper": SMALL_NETWORK,
    "train.py --seeds=5": ["--seeds=2"],
    # The recordings of the tiny corpus are shorter than the longest sequences.
    "experiments.ablations": ["--only=objective", "--epochs=1", "--set=train.batch_size=2"],
    "benchmarks/bench_coverage.py": ["--samples=2", "--resamples=100"],
    "benchmarks/bench_postprocess.py": ["--corpora=0"],
    "benchmarks.bench_whole_recording": ["--minutes=0.1,0.2"],
    "benchmarks.bench_features": ["--recordings=1"],
    "benchmarks.bench_serving": ["--calls=2"],
    "benchmarks/bench_long_conv.py": ["--measure=layer"],
    "benchmarks.bench_preprocess": ["--recordings=1", "--seconds=8"],
    "benchmarks/bench_input.py": ["--seconds=0.2", "--steps=1", "--set=train.batch_size=2"],
    "benchmarks/control_exchanged_labels.py": ["--exchanges=1", "--epochs=1", "--set=train.batch_size=2"],
}
# Benchmarks end with 3 where a number misses its target, as numbers of tiny corpora do.
ALLOWED_EXIT_CODES = {"benchmarks/bench_input.py": {0, 3}, "benchmarks/control_exchanged_labels.py": {0, 3}}

# Python appended to a page's example, to check what its comments promise.
PROMISED = {"README.md": "assert tuple(curves.shape) == (1, 250, 2)"}


def python_commands(text):
    """(fence, arguments of python) of all commands of a page that call python, run or not."""
    for fence in fences(text):
        if fence.language == "bash":
            for words in fence.commands():
                if "python" in words:
                    yield fence, words[words.index("python") + 1 :]


def split_command(arguments):
    """What python runs, as a key of the tables above, and its flags."""
    return (arguments[1], arguments[2:]) if arguments[0] == "-m" else (arguments[0], arguments[1:])


def command_module(target):
    """The module that holds a command's flags."""
    if target.endswith(".py"):
        assert (REPOSITORY / target).is_file(), f"{target} does not exist"
    name = SCRIPTS.get(target, target.removesuffix(".py").replace("/", "."))
    module = importlib.import_module(name)
    return module if hasattr(module, "define_flags") else importlib.import_module(f"{name}.__main__")


def check_command(arguments):
    """Fails if the command, one of its flags or one of its settings does not exist or has a wrong value."""
    target, given = split_command(arguments)
    with parsed_flags(command_module(target), *given):
        if target == "train.py":
            override(get_preset(flags.FLAGS.preset, flags.FLAGS.modality), flags.FLAGS["set"].value)


def flags_of(target):
    """The names of all flags of a command."""
    before = set(flags.FLAGS)
    command_module(target).define_flags()
    defined = set(flags.FLAGS) - before
    for name in defined:
        delattr(flags.FLAGS, name)
    return defined


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page):
    assert fence_faults(read_page(page)) == []


def test_reasons_for_not_running_are_listed_and_used():
    listed = set(re.findall(r"^\| `([\w-]+)` \|", read_page("CONTRIBUTING.md").split("reason |")[1], re.MULTILINE))
    used = {fence.not_run for page in PAGES for fence in fences(read_page(page)) if "not-run" in fence.options}
    assert used == listed


def test_commands_that_need_the_demo_are_run_after_it_by_ci():
    run_by_ci = shlex.split(
        (REPOSITORY / ".ci/run").read_text(encoding="utf-8").split("step make demo")[1].replace("\\\n", "")
    )
    needing = [fence for page in PAGES for fence in fences(read_page(page)) if fence.not_run == "demo"]
    assert needing
    for words in (words for fence in needing for words in fence.commands()):
        start = run_by_ci.index(words[1])
        assert run_by_ci[start : start + len(words) - 1] == words[1:]


@pytest.mark.parametrize("page", [page for page in PAGES if list(python_commands(read_page(page)))])
def test_documented_commands_have_the_documented_flags(page):
    for _, arguments in python_commands(read_page(page)):
        check_command(arguments)


@pytest.mark.parametrize("page", PAGES)
def test_flags_named_in_the_text_exist(page):
    known = set().union(*(flags_of(target) for name in PAGES for target in documented(name)))
    named = {match[1] for code in inline_code(read_page(page)) if (match := re.match(r"--(\w+)", code))}
    assert {name for name in named - known if "NAME" not in name} <= {"help"}  # NAME: a placeholder


def documented(page):
    """The commands that a page calls."""
    return {split_command(arguments)[0] for _, arguments in python_commands(read_page(page))}


@pytest.mark.parametrize("page", PAGES)
def test_settings_named_in_the_text_exist(page):
    experiment = get_preset("paper")
    for code in inline_code(read_page(page)):
        if match := re.fullmatch(r"(?:--set=)?(model|data|augment|train)\.(\w+)(?:=.*)?", code):
            if not (REPOSITORY / code).is_file():
                assert hasattr(getattr(experiment, match[1]), match[2]), code


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    assert link_faults(read_page(page), (REPOSITORY / page).parent) == []


@pytest.mark.parametrize("page", PAGES)
def test_files_and_modules_named_in_the_text_exist(page):
    for code in inline_code(read_page(page)):
        if "NAME" in code:  # a placeholder
            continue
        if re.fullmatch(r"(affect|tfrecords_tools|tests|benchmarks|experiments|docs|\.ci)/[\w/.]*", code):
            assert (REPOSITORY / code).exists(), code
        if re.fullmatch(r"(affect|tfrecords_tools)(\.\w+)+", code):
            exists_in_python(code)


def exists_in_python(dotted):
    """Fails unless this is a module, or a name in one."""
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        parent, _, name = dotted.rpartition(".")
        assert hasattr(importlib.import_module(parent), name), dotted


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", read_page("Makefile"), re.MULTILINE))
    in_blocks = [words[1] for fence in fences(read_page(page)) for words in fence_commands(fence) if words[0] == "make"]
    named = [code.split()[1] for code in inline_code(read_page(page)) if code.startswith("make ")]
    assert {name for name in (*in_blocks, *named) if "=" not in name} <= targets


def fence_commands(fence):
    """The commands of a block; none if it is no bash."""
    return fence.commands() if fence.language == "bash" else []


def test_readme_lists_the_console_commands_that_setup_installs():
    listed = set(re.findall(r"`(affect-[\w-]+)`", read_page("README.md")))
    assert listed == set(re.findall(r'"(affect-[\w-]+)":', read_page("setup.py")))


def test_numbers_of_the_paper_are_marked_as_reported():
    for page in ("README.md", "docs/recola.md"):
        text = prose(read_page(page))
        assert re.search(r"as reported in the paper", text), page
        assert all(match[1] == "~" for match in re.finditer(r"(.)\.(?:715|369|435|620|714|612)\b", text)), page


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```\npython x.py\n```\n", "line 1: unknown language ''"),
        ("\n```text\npython train.py\n```\n", "line 2: a command in a block of text"),
        ("```bash\nmake demo\n```\n", "line 1: make cannot run in a test; give a reason: not-run=..."),
        ("Run `python train.py --fresh`.\n", "`python train.py --fresh`: a command outside of a block"),
    ],
)
def test_a_page_with_a_wrong_block_is_noticed(text, fault):
    assert fence_faults(text) == [fault]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train.py --data_dir=x --run_dir=y --epochs=3", "epochs"),
        ("train.py --data_dir=x --run_dir=y --preset=large", "large"),
        ("train.py --data_dir=x --run_dir=y --set=train.epoch=3", "train.epochs"),
        ("train.py --data_dir=x", "run_dir"),
        ("-m affect.evaluation.nothing", "affect.evaluation.nothing"),
    ],
)
def test_a_wrong_command_is_noticed(command, message):
    with pytest.raises(Exception, match=message):
        check_command(command.split())


def test_a_link_to_nowhere_is_noticed(tmp_path):
    (tmp_path / "there.md").write_text("# One heading\n")
    text = "[a](there.md) [b](there.md#one-heading) [c](missing.md) [d](there.md#another)\n"
    assert link_faults(text, tmp_path) == ["missing.md: no such file", "there.md#another: no such heading"]


def test_commands_are_read_with_comments_and_continued_lines():
    (fence,) = fences("x\n```bash not-run=make\nmake demo  # all\n\npython a.py --b='c d' \\\n  --e\n```\n")
    assert (fence.line, fence.not_run) == (2, "make")
    assert fence.commands() == [["make", "demo"], ["python", "a.py", "--b=c d", "--e"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not fence.not_run for fence in fences(read_page(page)))]
)
def test_commands_of_a_page_run_in_order(page, corpus_dir, data_dir, tmp_path):
    for name in ("train.py", "eval.py", "benchmarks", "experiments"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    if page in SCRATCH:
        shutil.copytree(data_dir, tmp_path / SCRATCH[page])
    for fence in fences(read_page(page)):
        if fence.language == "csv" and "file" in fence.options:
            write_table_corpus(tmp_path / fence.options["file"], fence.text)
        elif fence.language == "python":
            run_python(page, fence, tmp_path, "-c", f"{fence.text}\n{PROMISED.get(page, '')}")
        elif fence.language == "bash" and not fence.not_run:
            for words in fence.commands():
                arguments = adapted(words[1:], corpus_dir)
                run_python(page, fence, tmp_path, *arguments)


def adapted(arguments, corpus_dir):
    """The command with what is substituted and appended."""
    target, given = split_command(arguments)
    more = [APPENDED.get(target, []), *(APPENDED.get(f"{target} {flag}", []) for flag in given)]
    substituted = [SUBSTITUTED.get(word, word).format(avec2016=corpus_dir) for word in arguments]
    return [*substituted, *(flag for part in more for flag in part)]


def run_python(page: str, fence: Fence, folder: Path, *arguments: str):
    """Runs python in the scratch folder; a failure names page, line, command and output."""
    search_path = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(search_path)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    allowed = ALLOWED_EXIT_CODES.get(arguments[0], {0})
    shown = f"{page}, block at line {fence.line}: python {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    assert done.returncode in allowed, shown


def write_table_corpus(path: Path, table: str):
    """Writes the table of a page, and the files that it names: four seconds of sound, video and labels."""
    trees.write_lines(path, table.splitlines())
    for row in table.splitlines()[1:]:
        _, _, audio, video, labels = row.split(",")
        if audio:
            trees.write_wav(path.parent / audio, trees.tones(44_100))
        if video:
            trees.write_video(path.parent / video, trees.face_pictures(), sound=trees.tones(44_100))
        if labels:
            curve = np.clip(trees.rating_curve(0, trees.FRAMES + 1), -1, 1)
            rows = [f"{k * 0.04:.2f},{value:.4f},{-value:.4f}" for k, value in enumerate(curve)]
            trees.write_lines(path.parent / labels, ["time,arousal,valence", *rows])
