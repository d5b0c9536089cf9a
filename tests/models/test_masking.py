"""What masked frames contain changes nothing in the others, and padding gives what the window alone gives."""

import keras
import numpy as np
import pytest
from keras import ops
from msgspec.structs import replace

from affect.models.masking import frame_masks
from affect.models.network import build_network
from tests.models.test_network import EVERY_NAME, EVERY_NETWORK, TINY, inputs_of

RESNET50 = replace(TINY, video_net="resnet50", video_scaling="imagenet")
# Three windows of seven frames: the first has a masked frame within, the second ends with three.
MASK = np.ones((3, 7), bool)
MASK[0, 2] = MASK[1, 4:] = False


def run(network, inputs, mask=None, training=False):
    """Runs a network; every call starts from the same batch-norm moments."""
    tensors = {name: ops.convert_to_tensor(values) for name, values in inputs.items()}
    masks = None if mask is None else frame_masks(network, ops.convert_to_tensor(mask))
    with keras.StatelessScope():
        return np.array(network(tensors, training=training, mask=masks))


def spoilt(inputs, pictures_at, sound_at):
    """Returns the inputs with other pictures and other sound in some frames."""
    other = inputs_of("audiovisual", 3, 7, seed=5)
    changed = {name: values.copy() for name, values in inputs.items()}
    for name, where in (("video", pictures_at), ("audio", sound_at)):
        if name in changed:
            changed[name][where] = other[name][where]
    return changed


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("config", "modality"), [*EVERY_NETWORK, (RESNET50, "video")], ids=[*EVERY_NAME, "resnet50_video"]
)
def test_masked_pictures_and_padded_sound_change_no_other_frame(config, modality, training):
    network, inputs = build_network(config, modality), inputs_of(modality, 3, 7)
    padding = ~MASK
    padding[0] = False  # the masked frame within the first window has a sound that counts
    before = run(network, inputs, MASK, training)
    after = run(network, spoilt(inputs, ~MASK, padding), MASK, training)
    assert np.abs(before).max() > 1e-3
    np.testing.assert_allclose(after[MASK], before[MASK], atol=1e-6)
    # The frames that count do change the output.
    assert np.abs(run(network, spoilt(inputs, MASK, MASK), MASK, training) - before)[MASK].max() > 1e-4


@pytest.mark.parametrize(("config", "modality"), EVERY_NETWORK, ids=EVERY_NAME)
def test_a_padded_window_is_predicted_like_the_window_alone(config, modality):
    network, inputs = build_network(config, modality), inputs_of(modality, 3, 7)
    alone = run(network, {name: values[1:2, :4] for name, values in inputs.items()})
    padded = {name: values.copy() for name, values in inputs.items()}
    for values in padded.values():
        values[1, 4:] = 0
    np.testing.assert_allclose(run(network, padded, MASK)[1, :4], alone[0], atol=1e-6)


def test_the_sound_of_a_frame_without_a_face_is_heard_by_its_neighbours_and_by_the_lstms():
    network, inputs = build_network(TINY, "audiovisual"), inputs_of("audiovisual", 3, 7)
    nowhere, frame = np.zeros((3, 7), bool), np.zeros((3, 7), bool)
    frame[0, 2] = True
    before, after = (
        run(network, sound, MASK) for sound in (inputs, spoilt(inputs, pictures_at=nowhere, sound_at=frame))
    )
    change = np.abs(after - before).max(axis=-1)
    assert (change[0, 2:] > 1e-6).all()
    assert not change[1:].any()


def test_batch_statistics_leave_out_masked_pictures_and_a_mask_of_ones_changes_nothing():
    network, inputs = build_network(TINY, "video"), inputs_of("video", 3, 7)
    everything = np.ones_like(MASK)
    np.testing.assert_allclose(
        run(network, inputs, everything, training=True), run(network, inputs, None, training=True), atol=1e-5
    )
    # Two windows, of which the mask hides one, give the statistics of the other alone.
    one, two = ({"video": inputs["video"][:count]} for count in (1, 2))
    hidden = np.array([[True] * 7, [False] * 7])
    np.testing.assert_allclose(
        run(network, two, hidden, training=True)[0], run(network, one, None, training=True)[0], atol=1e-5
    )
