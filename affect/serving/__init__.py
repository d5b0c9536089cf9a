"""Weights to other people's programs: SavedModel export."""
