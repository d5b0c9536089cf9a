"""Changes the code in small ways and lists the changes that no test notices; see docs/testing.md.

python -m tests.mutants --count=10 --only=affect/data/windows.py
"""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow is imported

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.commands import REPOSITORY
from tests.mutants.forks import Forks, Job
from tests.mutants.mutations import Mutant, draw, mutants_of
from tests.mutants.targets import TARGETS, Target

EXPLANATIONS = REPOSITORY / "docs/testing.md"
_CONTEXT = 40  # characters that the table shows on both sides of a change


def main() -> int:
    """Returns 1 if a mutant that docs/testing.md does not explain survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="number of mutants to draw")
    parser.add_argument("--seed", type=int, default=2017, help="seed of the draw")
    parser.add_argument("--slots", type=int, default=2, help="test runs at a time")
    parser.add_argument("--only", action="append", help="module to draw from; repeatable")
    parser.add_argument("--ids", nargs="*", help="test these mutants instead of drawing")
    options = parser.parse_args()

    targets = {target.path: target for target in TARGETS if options.only is None or target.path in options.only}
    every = [mutant for target in targets.values() for mutant in _mutants(target)]
    if options.ids is None:
        drawn = draw(every, options.count, options.seed)
    else:
        drawn = [mutant for mutant in every if mutant.id in options.ids]
    drawn.sort(key=lambda mutant: (mutant.path, mutant.line))
    print(f"{len(drawn)} of {len(every)} mutants")
    with tempfile.TemporaryDirectory(prefix="affect-mutants-") as folder:
        survivors = _survivors(drawn, targets, Path(folder), options.slots)
    return _report(drawn, survivors)


def explained(text: str) -> set[str]:
    """Returns the identifiers in the first column of the tables of a page."""
    return set(re.findall(r"^\| `([0-9a-f]{8})` \|", text, re.M))


def change(before: str, after: str) -> tuple[str, str]:
    """Returns both statements, shortened to where they differ."""
    same = len(os.path.commonprefix([before, after]))
    left, right = before[same:], after[same:]
    same_end = len(os.path.commonprefix([left[::-1], right[::-1]]))

    def shown(text: str) -> str:
        start, end = max(same - _CONTEXT, 0), min(len(text) - same_end + _CONTEXT, len(text))
        return ("... " if start else "") + text[start:end] + (" ..." if end < len(text) else "")

    return shown(before), shown(after)


def _mutants(target: Target) -> list[Mutant]:
    found = mutants_of(target.path, (REPOSITORY / target.path).read_text("utf-8"))
    return [mutant for mutant in found if not target.functions or mutant.function.split(".")[0] in target.functions]


def _survivors(drawn: list[Mutant], targets: dict[str, Target], folder: Path, slots: int) -> list[Mutant]:
    """Tests the code as it is, then every mutant; returns those that passed all tests."""
    started = time.monotonic()
    forks = Forks(folder, slots)
    made: dict[str, Path] = {}  # session fixtures, by the name of their folder
    seconds: dict[str, float] = {}

    def unchanged() -> Iterator[Job]:
        for number, path in enumerate(dict.fromkeys(mutant.path for mutant in drawn)):
            source = (REPOSITORY / path).read_text("utf-8")
            yield Job(f"unchanged-{number}", path, source, targets[path].tests, _reused(targets[path], made), 1800.0)

    for job, outcome in forks.run(unchanged()):
        if not outcome.passed:
            sys.exit(f"{outcome.log}\n{job.path}: the tests fail on the code as it is")
        seconds[job.path] = outcome.seconds
        made |= {name: path for name, path in outcome.fixtures().items() if name not in made}
        print(f"{job.path}: its tests pass in {outcome.seconds:.0f} s", flush=True)

    def changed() -> Iterator[Job]:
        for mutant in drawn:
            target = targets[mutant.path]
            timeout_secs = 5.0 * seconds[mutant.path] + 30.0
            yield Job(mutant.id, mutant.path, mutant.source(), target.tests, _reused(target, made), timeout_secs)

    mutants = {mutant.id: mutant for mutant in drawn}
    survivors = []
    for number, (job, outcome) in enumerate(forks.run(changed()), start=1):
        mutant = mutants[job.name]
        shutil.rmtree(outcome.written)
        verdict = "SURVIVED" if outcome.passed else f"noticed by {outcome.noticed_by}"
        print(
            f"{number}/{len(drawn)} {mutant.id} {mutant.path}:{mutant.line} {verdict}, {outcome.seconds:.0f} s",
            flush=True,
        )
        if outcome.passed:
            survivors.append(mutant)
    print(f"this took {(time.monotonic() - started) / 60:.0f} minutes")
    return survivors


def _reused(target: Target, made: dict[str, Path]) -> dict[str, Path]:
    return {name: path for name, path in made.items() if name not in target.makes}


def _report(drawn: list[Mutant], survivors: list[Mutant]) -> int:
    known = explained(EXPLANATIONS.read_text("utf-8"))
    unexplained = [mutant for mutant in survivors if mutant.id not in known]
    print(f"{len(drawn) - len(survivors)} noticed, {len(survivors)} survived, {len(unexplained)} of them unexplained")
    if survivors:
        print("\n| id | where | before | after |\n|---|---|---|---|")
    for mutant in survivors:
        before, after = (text.replace("|", "\\|") for text in change(mutant.before, mutant.after))
        where = f"{mutant.path}:{mutant.line} {mutant.function}{'' if mutant in unexplained else ' (explained)'}"
        print(f"| `{mutant.id}` | {where} | `{before}` | `{after}` |")
    for stale in sorted(known & {mutant.id for mutant in drawn} - {mutant.id for mutant in survivors}):
        print(f"{EXPLANATIONS.name} explains {stale}, which a test notices now")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
