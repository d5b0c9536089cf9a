"""Chains that are applied as values arrive: equal to the chains of a whole curve."""

import numpy as np
import pytest

from affect.errors import UserError
from affect.evaluation.chain import PostProcessing, delay
from affect.serving.online_chain import OnlineChains
from tests.helpers import plain_chain
from tests.helpers.served import TINY, contract_of


def contract(arousal=None, valence=None, label_delay_secs=0.0):
    """The contract of an audio model with these chains."""
    chains = {"arousal": arousal or PostProcessing(25.0), "valence": valence or PostProcessing(25.0)}
    return contract_of(TINY, "audio", postprocessing=chains, label_delay_secs=label_delay_secs)


def chunked(chains, curve, sizes):
    """The whole output for a curve that arrives in chunks, and how many values came with each."""
    ready, start = [], 0
    for size in sizes:
        ready.append(chains.push(curve[start : start + size]))
        start += size
    assert start >= len(curve)
    return np.concatenate([*ready, chains.finish()]), np.array([len(values) for values in ready])


def random_sizes(rng, frames):
    """Chunk sizes from 0 to 40 frames that add up to at least `frames`."""
    sizes = rng.integers(0, 40, size=frames + 1)
    return sizes[: np.searchsorted(np.cumsum(sizes), frames) + 1]


SETTINGS = [
    # median, offset, gain, shift of arousal; of valence; label delay in frames
    ((37, -0.03, 0.88, 0), (1, -0.54, 0.97, 28), 0),
    ((1, 0.0, 1.0, 0), (1, 0.0, 1.0, 0), 0),
    ((1, 0.0, 1.0, 0), (1, 0.0, 1.0, 0), 5),
    ((77, 0.04, 1.66, 21), (17, -0.07, 1.61, 6), 70),
    ((301, 0.1, 0.0, 250), (3, 0.0, 2.5, 1), 3),
]


@pytest.mark.parametrize("frames", [1, 2, 3, 20, 40, 400])
@pytest.mark.parametrize("setting", SETTINGS)
def test_values_that_arrive_in_any_chunks_give_the_chain_of_the_whole_curve(setting, frames):
    *dimensions, label_delay = setting
    rng = np.random.default_rng(frames)
    curve = rng.normal(size=(frames, 2)).cumsum(axis=0).astype(np.float32)
    chains = [
        PostProcessing(25.0, median_frames=window, offset=offset, gain=gain, centre=0.2, shift_frames=shift)
        for window, offset, gain, shift in dimensions
    ]
    delayed = plain_chain.delayed(curve, label_delay)
    plain = np.stack(
        [
            plain_chain.apply(
                plain_chain.UNCHANGED
                | {"median": chain.median_frames, "offset": chain.offset, "gain": chain.gain, "centre": 0.2}
                | {"shift": chain.shift_frames},
                column.astype(float),
            )
            for chain, column in zip(chains, delayed.T, strict=True)
        ],
        axis=1,
    )
    offline = np.stack(
        [chain.apply(column) for chain, column in zip(chains, delay(curve, label_delay).T, strict=True)], axis=1
    )
    for sizes in ([frames], [1] * frames, [3] * frames, [25] * frames, random_sizes(rng, frames)):
        found, _ = chunked(OnlineChains(contract(*chains, label_delay / 25)), curve, sizes)
        np.testing.assert_array_equal(found, offline)
        np.testing.assert_allclose(found, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("setting", "latency"), list(zip(SETTINGS, [18, 0, 0, 17, 0], strict=True)))
def test_values_come_as_late_as_promised_and_never_before_their_frame(setting, latency):
    *dimensions, label_delay = setting
    arousal, valence = (
        PostProcessing(25.0, median_frames=window, shift_frames=shift) for window, _, _, shift in dimensions
    )
    chains = OnlineChains(contract(arousal, valence, label_delay / 25))
    assert chains.latency_frames == latency
    curve = np.random.default_rng(1).normal(size=(600, 2))
    _, counts = chunked(chains, curve, [1] * 600)
    late = np.arange(1, 601) - np.cumsum(counts)
    longest = max(arousal.median_frames, valence.median_frames) // 2
    np.testing.assert_array_equal(late[longest:], latency)
    assert late.min() >= 0


def test_memory_is_bounded_by_window_and_shift():
    chains = OnlineChains(contract(PostProcessing(25.0, median_frames=101, shift_frames=30), None, 0.4))
    curve = np.random.default_rng(2).normal(size=(20_000, 2))
    for start in range(0, 20_000, 10):
        chains.push(curve[start : start + 10])

    def numbers(thing):
        if isinstance(thing, np.ndarray):
            # A view would keep the array that it was cut from.
            return thing.size if thing.base is None else thing.base.size
        parts = thing if isinstance(thing, list) else getattr(thing, "__dict__", {}).values()
        return sum(numbers(part) for part in parts)

    assert numbers(chains) < 1_000


def test_raw_leaves_out_the_chains_but_not_the_label_delay():
    chain = PostProcessing(25.0, median_frames=5, offset=1.0, shift_frames=7)
    curve = np.arange(10.0)[:, None] * [1.0, 2.0]
    found, _ = chunked(OnlineChains(contract(chain, chain, 0.12), raw=True), curve, [4, 6])
    np.testing.assert_array_equal(found[:, 0], [0, 0, 0, 0, 1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(found[:, 1], 2 * found[:, 0])


def test_a_recording_without_frames_has_no_values():
    chains = OnlineChains(contract(PostProcessing(25.0, median_frames=5, shift_frames=3), None, 0.2))
    assert chains.push(np.empty((0, 2), np.float32)).shape == chains.finish().shape == (0, 2)


@pytest.mark.parametrize("statistic", ["recording_mean", "recording_deviation"])
def test_a_chain_with_statistics_of_each_recording_is_refused_unless_raw(statistic):
    chain = PostProcessing(25.0, **{statistic: 0.2})
    with pytest.raises(UserError, match=r"post-processing of valence needs .* whole recording.*; add --raw"):
        OnlineChains(contract(None, chain))
    assert OnlineChains(contract(None, chain), raw=True).latency_frames == 0
