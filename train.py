"""Trains the network of one modality, or of both; see `affect.learning.train_command` or --help for all options.

Example:
  python train.py --preset=demo --modality=audio --data_dir=data/demo/records --run_dir=runs/audio
"""

from affect.learning.train_command import command

if __name__ == "__main__":
    command()
