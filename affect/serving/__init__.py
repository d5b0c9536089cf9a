"""Exports trained networks for use in other programs."""
