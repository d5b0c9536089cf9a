"""Training: the objective, the training loop, its callbacks, and runs of several trainings."""
