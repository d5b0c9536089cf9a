"""Evaluates trained networks: predictions, post-processing, scores, reports."""
