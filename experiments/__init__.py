"""Experiments that train, evaluate and compare many runs; not part of the package."""
