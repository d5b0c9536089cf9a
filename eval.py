r"""Scores a trained run: predictions, post-processing fitted on dev, CCC, RMSE, and a report to look at.

    runs/audio/eval/
      postprocessing.json            median filter, centring, scaling, shift per dimension, fitted on dev
      test/metrics.json              raw and post-processed scores, pooled and per recording
      test/predictions/*.csv         time, arousal, valence and, where known, the gold standard; as the network gives
      test/predictions_postprocessed/*.csv
      report.html                    curves over gold, training curves, table

Example:
  python eval.py --run_dir=runs/audio --partitions=dev,test
"""

from absl import flags

from affect import cli
from affect.config import DIMENSIONS, PARTITIONS
from affect.errors import UserError
from affect.storage import local_folder

flags.DEFINE_string("run_dir", None, "Folder of a trained run.", required=True)
flags.DEFINE_list("partitions", ["dev", "test"], "Partitions to score, comma separated.")
flags.DEFINE_string("data_dir", None, "The shards, if they have moved since training; s3://, http:// and gs:// too.")
flags.DEFINE_float(
    "fail_under_ccc",
    None,
    "Exit with 3 where the mean post-processed pooled CCC of the last partition is lower.",
    lower_bound=-1.0,
    upper_bound=1.0,
)


def main() -> int:
    """Flags to one call of `affect.evaluation.evaluate.evaluate`, and the report."""
    args = flags.FLAGS
    run_dir = local_folder(args.run_dir, "run_dir")
    unknown = set(args.partitions) - set(PARTITIONS)
    if unknown or not args.partitions:
        raise UserError(f"--partitions takes train, dev and test, got {','.join(args.partitions)!r}")

    from affect.evaluation.evaluate import evaluate  # TensorFlow, after the flags are known to be right
    from affect.evaluation.report import as_text, write_report
    from affect.runs import RunFolder

    metrics = evaluate(run_dir, args.partitions, args.data_dir)
    for partition, content in metrics.items():
        if content is None:
            print(f"{partition}: predicted, not scored: its labels are not known")
        else:
            print(as_text({run_dir.name: content}, partition, RunFolder(run_dir).uses_synthetic_data()))
    report = run_dir / "eval" / "report.html"
    write_report([run_dir], report, title=run_dir.name)
    print(f"report: {report}")
    return _verdict(args.partitions[-1], metrics[args.partitions[-1]], args.fail_under_ccc)


def _verdict(partition: str, content: dict | None, threshold: float | None) -> int:
    """0, or 3 where the partition's mean CCC is under the threshold."""
    if threshold is None:
        return 0
    if content is None:
        raise UserError(f"--fail_under_ccc: {partition} has no labels to score")
    mean = sum(content["postprocessed"][name]["ccc_pooled"] for name in DIMENSIONS) / len(DIMENSIONS)
    if mean < threshold:
        print(f"{partition}: mean CCC {mean:.3f} is under {threshold}")
        return cli.EXIT_SCORE_TOO_LOW
    return 0


if __name__ == "__main__":
    cli.run(main)
