"""Weights to numbers and pictures: predictions, post-processing, scores, reports."""
