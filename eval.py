"""Scores a trained run; see `affect.evaluation.eval_command` or --help for all options.

Example:
  python eval.py --run_dir=runs/audio --partitions=dev,test
"""

from affect.evaluation.eval_command import command

if __name__ == "__main__":
    command()
