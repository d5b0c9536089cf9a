r"""Scores a trained run: predictions, post-processing fitted on dev, CCC and RMSE, and an HTML report.

    runs/audio/eval/
      postprocessing.json            median filter, centring, scaling and shift per dimension, fitted on dev
      chains.json                    all fitted chains, and what to expect of them on unseen recordings
      dev/                           the same files as in test; always written
      test/metrics.json              scores with intervals, pooled and per recording; absent without labels
      test/predictions/*.csv         the network's output: time, arousal, valence and, where known, the gold standard
      test/predictions_postprocessed/*.csv
      test/predictions.h5            all of these curves in one file
      test/comparison_audio2.json    with --compare_to=runs/audio2: differences, their intervals and p-values
      report.html                    the report on this run, see `affect.evaluation.report`
    runs/several/eval/seeds.json     for a folder that train.py --seeds wrote: mean and deviation of every score

Intervals and tests are over recordings. Recordings without labels are predicted but not scored.

Example:
  python eval.py --run_dir=runs/audio --partitions=dev,test
  python eval.py --run_dir=runs/audiovisual --compare_to=runs/audio --compare_to=runs/baseline/audiovisual
"""

from pathlib import Path
from typing import get_args

from absl import flags

from affect import cli
from affect.config import DIMENSIONS, PARTITIONS
from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.evaluation.options import DEFAULT_CONTEXT, EvaluationOptions, Format
from affect.evaluation.scores import CURVE_OF, Metrics
from affect.evaluation.seeds import PartitionSpread, SeedScores, seed_runs
from affect.runs import RunFolder
from affect.storage import local_folder, write_json


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("run_dir", None, "Folder of a trained run, or that of train.py --seeds.", required=True)
    flags.DEFINE_list(
        "partitions", ["dev", "test"],
        "Partitions to score, separated by commas. Dev is evaluated in any case: the post-processing is fitted on it.",
    )  # fmt: skip
    flags.DEFINE_string(
        "data_dir", None,
        "Folder of the shards; the default is that of the training. May be s3://, http:// or gs://.",
    )  # fmt: skip
    flags.DEFINE_enum(
        "context", DEFAULT_CONTEXT, ["window", "recording"],
        "Predict windows of data.eval_window_frames, or whole recordings with the network's state carried along.",
    )  # fmt: skip
    flags.DEFINE_enum(
        "postprocess", "paper", list(CURVE_OF),
        "Post-processing by which the run is judged: the paper's chain, only those of its steps that also raise the "
        "CCC of recordings left out of the fit (cautious), or none. All three are scored in any case.",
    )  # fmt: skip
    flags.DEFINE_enum(
        "postprocess_statistics", "partition", ["partition", "recording"],
        "Centre and scale by the mean and the deviation of all of dev, or of each recording.",
    )  # fmt: skip
    flags.DEFINE_list("format", ["csv"], "csv (always written), avec (adds AVEC's ARFF files), separated by commas.")
    flags.DEFINE_multi_string(
        "compare_to", [],
        "Evaluated run, or handcrafted system (such as runs/baseline/audio), for a paired comparison on the last "
        "of --partitions; repeat the flag for several.",
    )  # fmt: skip
    flags.DEFINE_float(
        "fail_under_ccc", None,
        "Exit with code 3 if the mean pooled CCC of the last partition, after --postprocess, is below this value.",
        lower_bound=-1.0, upper_bound=1.0,
    )  # fmt: skip


def main() -> int:
    """Passes the flags to `affect.evaluation.evaluate.evaluate`, and writes comparisons and the report."""
    args = flags.FLAGS
    run_dir = local_folder(args.run_dir, "run_dir")
    unknown = set(args.partitions) - set(PARTITIONS)
    if unknown or not args.partitions:
        raise UserError(f"--partitions={','.join(args.partitions)}: expected any of train, dev and test")
    if not args.format or set(args.format) - set(get_args(Format)):
        raise UserError(f"--format={','.join(args.format)}: expected any of csv and avec")
    others = [local_folder(path, "compare_to") for path in args.compare_to]
    of_modality = seed_runs(run_dir)
    runs = [run for of_seeds in of_modality.values() for run in of_seeds] or [run_dir]
    for run in runs:
        if args.fail_under_ccc is not None:
            _require_labels(run, args.data_dir, args.partitions[-1], "fail_under_ccc")
        if others:
            _require_comparable(run, others, args.data_dir, args.partitions[-1])

    options = EvaluationOptions(args.context, args.postprocess, args.postprocess_statistics, tuple(args.format))
    metrics = {run: _evaluate_run(run, others, options) for run in runs}
    if of_modality:
        _report_seeds(run_dir, of_modality, metrics)
    if args.fail_under_ccc is None:
        return 0
    return _exit_code(args.partitions[-1], [scores[args.partitions[-1]] for scores in metrics.values()])


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


def _evaluate_run(run_dir: Path, others: list[Path], options: EvaluationOptions) -> dict[str, Metrics | None]:
    """Evaluates and compares one run, writes its report, and prints the results."""
    # These import TensorFlow, which takes seconds: a wrong flag is reported before that.
    from affect.evaluation.compare_runs import compare_systems, distinct_names, read_system, write_comparison
    from affect.evaluation.evaluate import evaluate
    from affect.evaluation.report import as_text, compare, write_report

    partitions, name = flags.FLAGS.partitions, run_dir.resolve().name
    metrics = evaluate(run_dir, partitions, flags.FLAGS.data_dir, options)
    for partition, scores in metrics.items():
        if scores is None:
            print(f"{partition}: predicted but not scored, because its labels are not known")
            continue
        print(as_text({name: scores}, partition))
        if scores.unlabelled_recordings:
            print(f"{partition}: {_recordings(scores.unlabelled_recordings)} predicted but not scored (no labels)")
    if others:
        names = distinct_names([run_dir, *others])
        own = read_system(run_dir, partitions[-1], names[0])
        for folder, other_name in zip(others, names[1:], strict=True):
            comparison = compare_systems(own, read_system(folder, partitions[-1], other_name), partitions[-1])
            print("\n".join(comparison.lines()))
            write_comparison(RunFolder(run_dir), comparison)
    comparison = compare([run_dir])
    for remark in comparison.remarks:
        print(remark)
    report = run_dir / "eval" / "report.html"
    report.unlink(missing_ok=True)
    if comparison.tables:  # there are none if training has replaced the weights meanwhile
        write_report(comparison, report, title=name)
        print(f"report: {report}")
    return metrics


def _report_seeds(
    run_dir: Path, of_modality: dict[str, list[Path]], metrics: dict[Path, dict[str, Metrics | None]]
) -> None:
    """Prints and writes mean and standard deviation of the scores over seeds."""
    systems: dict[str, dict[str, PartitionSpread]] = {}
    for modality, runs in of_modality.items():
        systems[modality] = {}
        for partition in metrics[runs[0]]:
            scores = [metrics[run][partition] for run in runs]
            known = [one for one in scores if one is not None]
            if known:
                systems[modality][partition] = spread = PartitionSpread.of(known)
                print(spread.line(f"{modality}, {partition}, mean and standard deviation over {len(known)} seeds"))
    seeds = [run.relative_to(run_dir).parts[0] for run in next(iter(of_modality.values()))]
    write_json(RunFolder(run_dir).seed_scores, SeedScores(seeds, systems))
    print(f"seeds: {RunFolder(run_dir).seed_scores}")


def _require_labels(run_dir: Path, data_dir: str | None, partition: str, flag: str) -> None:
    """Refuses a threshold or a comparison on a partition without labels, before hours of prediction."""
    data_dir = RunFolder(run_dir).read_config(data_dir).data.data_dir
    if not any(entry.has_labels for entry in read_manifest(data_dir).partition(partition)):
        raise UserError(f"--{flag}: {data_dir} has no labels in partition {partition}, the last of --partitions")


def _require_comparable(run_dir: Path, others: list[Path], data_dir: str | None, partition: str) -> None:
    """Refuses systems that the run cannot be compared with, before hours of prediction."""
    from affect.evaluation.compare_runs import check_same_data, distinct_names, read_system

    names = distinct_names([run_dir, *others])
    _require_labels(run_dir, data_dir, partition, "compare_to")
    fingerprint = read_manifest(RunFolder(run_dir).read_config(data_dir).data.data_dir).fingerprint()
    for folder, name in zip(others, names[1:], strict=True):
        check_same_data(names[0], read_system(folder, partition, name), fingerprint, partition)


def _exit_code(partition: str, scores: list[Metrics | None]) -> int:
    """Returns 0, or 3 if the mean CCC of the partition (of all seeds) is below the threshold."""
    threshold = flags.FLAGS.fail_under_ccc
    headlines = [one.headline() for one in scores if one is not None]  # not empty, see `_require_labels`
    cccs = [headline[name].ccc_pooled for headline in headlines for name in DIMENSIONS]
    mean = sum(cccs) / len(cccs)
    if mean < threshold:
        print(f"{partition}: mean CCC {mean:.3f} is below {threshold}")
        return cli.EXIT_SCORE_TOO_LOW
    return 0


def _recordings(count: int) -> str:
    return f"{count} recording{'s' if count > 1 else ''}"


if __name__ == "__main__":
    command()
