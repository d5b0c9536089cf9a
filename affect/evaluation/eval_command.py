r"""Scores a trained run: predictions, post-processing fitted on dev, CCC and RMSE, and an HTML report.

    runs/audio/eval/
      postprocessing.json            median filter, centring, scaling and shift per dimension, fitted on dev
      dev/                           as for test; always written
      test/metrics.json              raw and post-processed scores, pooled and per recording; absent without labels
      test/predictions/*.csv         time, arousal, valence and, where known, the gold standard; the network's output
      test/predictions_postprocessed/*.csv
      report.html                    predictions over gold, training curves, table of scores

Example:
  python eval.py --run_dir=runs/audio --partitions=dev,test
"""

from pathlib import Path

from absl import flags

from affect import cli
from affect.config import DIMENSIONS, PARTITIONS
from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.evaluation.scores import Metrics
from affect.runs import RunFolder
from affect.storage import local_folder


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("run_dir", None, "Folder of a trained run.", required=True)
    flags.DEFINE_list(
        "partitions", ["dev", "test"],
        "Partitions to score, separated by commas. Dev is evaluated in any case: the post-processing is fitted on it.",
    )  # fmt: skip
    flags.DEFINE_string(
        "data_dir", None,
        "Folder of the shards, if they have moved since training, or are other ones; may be s3://, http:// or gs://.",
    )  # fmt: skip
    flags.DEFINE_float(
        "fail_under_ccc", None,
        "Exit with code 3 if the mean post-processed pooled CCC of the last partition is below this value.",
        lower_bound=-1.0, upper_bound=1.0,
    )  # fmt: skip


def main() -> int:
    """Passes the flags to `affect.evaluation.evaluate.evaluate`, and writes the report."""
    args = flags.FLAGS
    run_dir = local_folder(args.run_dir, "run_dir")
    unknown = set(args.partitions) - set(PARTITIONS)
    if unknown or not args.partitions:
        raise UserError(f"--partitions={','.join(args.partitions)}: expected any of train, dev and test")
    if args.fail_under_ccc is not None:
        _require_labels(run_dir, args.data_dir, args.partitions[-1])

    # These import TensorFlow, which takes seconds: a wrong flag is reported before that.
    from affect.evaluation.evaluate import evaluate
    from affect.evaluation.report import as_text, compare, write_report

    metrics = evaluate(run_dir, args.partitions, args.data_dir)
    for partition, scores in metrics.items():
        if scores is None:
            print(f"{partition}: predicted but not scored, because its labels are not known")
        else:
            print(as_text({run_dir.resolve().name: scores}, partition))
    comparison = compare([run_dir])
    for remark in comparison.remarks:
        print(remark)
    report = run_dir / "eval" / "report.html"
    report.unlink(missing_ok=True)
    if comparison.tables:  # there are none if training has replaced the weights meanwhile
        write_report(comparison, report, title=run_dir.resolve().name)
        print(f"report: {report}")
    if args.fail_under_ccc is None:
        return 0
    return _exit_code(args.partitions[-1], metrics[args.partitions[-1]], args.fail_under_ccc)


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


def _require_labels(run_dir: Path, data_dir: str | None, partition: str) -> None:
    """Refuses a threshold for scores that there cannot be, before hours of prediction."""
    data_dir = RunFolder(run_dir).read_config(data_dir).data.data_dir
    if not any(entry.has_labels for entry in read_manifest(data_dir).partition(partition)):
        raise UserError(
            f"--fail_under_ccc: {data_dir} has no labels in partition {partition}, the last of --partitions"
        )


def _exit_code(partition: str, metrics: Metrics | None, threshold: float) -> int:
    """Returns 0, or 3 if the mean CCC of the partition is below the threshold."""
    assert metrics is not None  # `_require_labels` has looked
    mean = sum(metrics.postprocessed[name].ccc_pooled for name in DIMENSIONS) / len(DIMENSIONS)
    if mean < threshold:
        print(f"{partition}: mean CCC {mean:.3f} is below {threshold}")
        return cli.EXIT_SCORE_TOO_LOW
    return 0


if __name__ == "__main__":
    command()
