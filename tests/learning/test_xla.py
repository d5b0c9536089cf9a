"""The whole training step compiles under XLA with static shapes, as a TPU requires.

This uses XLA's compiler for the CPU on the same program; the code was never run on a TPU.
"""

import pytest
import tensorflow as tf

from affect.config import MODALITIES, override
from affect.learning.loop import TrainingLoop, compile_network
from affect.models.network import build_network
from affect.presets import PRESETS, get_preset

WINDOWS, FRAMES = 2, 3


def lowered(preset, modality, stage, settings=()):
    """The training step's program at a stage of XLA's compiler, as text."""
    experiment = override(get_preset(preset, modality), [*settings])
    network = build_network(experiment.model, modality)
    compile_network(network, experiment.train)
    inputs = {
        "audio": tf.zeros((WINDOWS, FRAMES, 640)),
        "video": tf.zeros((WINDOWS, FRAMES, 96, 96, 3), tf.uint8),
    }
    batch = (
        {name: inputs[name] for name in experiment.modalities},
        tf.zeros((WINDOWS, FRAMES, 2)),
        tf.ones((WINDOWS, FRAMES), bool),
    )
    step = tf.function(TrainingLoop(network, seed=0).train_on_replica, jit_compile=True)
    return step.experimental_get_compiler_ir(batch, tf.constant(0, tf.int64))(stage=stage)


# A whole ResNet-50 takes half a minute; the demo's narrow network has the same kinds of layers.
QUICK = [(preset, modality) for preset in PRESETS for modality in MODALITIES if preset == "demo" or modality == "audio"]
THE_REST = [(preset, modality) for preset in PRESETS for modality in MODALITIES if (preset, modality) not in QUICK]


@pytest.mark.parametrize(
    ("preset", "modality"), [*QUICK, *(pytest.param(*both, marks=pytest.mark.slow) for both in THE_REST)]
)
def test_training_step_becomes_one_xla_program(preset, modality):
    program = lowered(preset, modality, "hlo")
    assert "HloModule" in program and "while" in program  # the LSTMs' loops
    assert "custom-call" not in program  # nothing is left to the host
    assert "<=" not in program  # no dimension is only bounded


@pytest.mark.slow
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("preset", PRESETS)
def test_xla_compiles_the_training_step_to_the_end(preset, modality):
    assert "fusion" in lowered(preset, modality, "optimized_hlo")
