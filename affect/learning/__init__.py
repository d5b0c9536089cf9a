"""Predictions to better weights: the objective, the training loop and what watches it."""
