"""Predictions, post-processing, scores, handcrafted systems, analyses and reports."""
