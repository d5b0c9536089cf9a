r"""Scores a trained run: predictions, post-processing fitted on dev, CCC and RMSE, and an HTML report.

    runs/audio/eval/
      postprocessing.json            median filter, centring, scaling and shift per dimension, fitted on dev
      test/metrics.json              raw and post-processed scores, pooled and per recording
      test/predictions/*.csv         time, arousal, valence and, where known, the gold standard; the network's output
      test/predictions_postprocessed/*.csv
      report.html                    predictions over gold, training curves, table of scores

Example:
  python eval.py --run_dir=runs/audio --partitions=dev,test
"""

from absl import flags

from affect import cli
from affect.config import DIMENSIONS, PARTITIONS
from affect.errors import UserError
from affect.storage import local_folder


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("run_dir", None, "Folder of a trained run.", required=True)
    flags.DEFINE_list("partitions", ["dev", "test"], "Partitions to score, separated by commas.")
    flags.DEFINE_string(
        "data_dir", None, "Folder of the shards, if it has moved since training; may be s3://, http:// or gs://."
    )
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

    # These import TensorFlow, which takes seconds: a wrong flag is reported before that.
    from affect.evaluation.evaluate import evaluate
    from affect.evaluation.report import REPORTED_PARTITIONS, as_text, write_report
    from affect.runs import RunFolder

    metrics = evaluate(run_dir, args.partitions, args.data_dir)
    for partition, content in metrics.items():
        if content is None:
            print(f"{partition}: predicted but not scored, because its labels are not known")
        else:
            print(as_text({run_dir.name: content}, partition, RunFolder(run_dir).uses_synthetic_data()))
    # The report compares scores of dev and test; without any there is nothing to show.
    if any(RunFolder(run_dir).evaluation(name).joinpath("metrics.json").is_file() for name in REPORTED_PARTITIONS):
        report = run_dir / "eval" / "report.html"
        write_report([run_dir], report, title=run_dir.name)
        print(f"report: {report}")
    return _exit_code(args.partitions[-1], metrics[args.partitions[-1]], args.fail_under_ccc)


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


def _exit_code(partition: str, metrics: dict | None, threshold: float | None) -> int:
    """Returns 0, or 3 if the mean CCC of the partition is below the threshold."""
    if threshold is None:
        return 0
    if metrics is None:
        raise UserError(f"--fail_under_ccc: partition {partition} has no labels and cannot be scored")
    mean = sum(metrics["postprocessed"][name]["ccc_pooled"] for name in DIMENSIONS) / len(DIMENSIONS)
    if mean < threshold:
        print(f"{partition}: mean CCC {mean:.3f} is below {threshold}")
        return cli.EXIT_SCORE_TOO_LOW
    return 0


if __name__ == "__main__":
    command()
