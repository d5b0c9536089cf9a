"""Walks through a network whose layers are partly networks themselves."""

from collections.abc import Iterator

import keras


def nested_layers(network: keras.Model) -> Iterator[keras.Layer]:
    """Yields all layers of a network in a fixed order; a nested network is replaced by its layers."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from nested_layers(layer)
        else:
            yield layer
