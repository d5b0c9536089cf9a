"""Exports trained networks for use in other programs, and predicts recordings with the exports."""
