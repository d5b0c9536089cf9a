"""The steps of AVEC 2016's protocol: standardisation, delays, the search, the chain, and the rows of the tables."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from affect.data.features import FeatureTable, write_features
from affect.errors import UserError
from affect.evaluation.avec2016.chain import AvecChain, fit_avec_chain
from affect.evaluation.avec2016.feature_sets import FEATURE_SETS, FeatureFiles, RecordingFeatures
from affect.evaluation.avec2016.protocol import GRIDS, Grid, advance, fit_regression, standardise
from affect.evaluation.avec2016.systems import _fit_feature_set
from affect.evaluation.chain import delay
from affect.metrics import concordance_cc

RATE = 25.0
AUDIO, APPEARANCE, GEOMETRIC = FEATURE_SETS


def smooth(seed, frames=400, width=8):
    """Returns a slow signal with standard deviation 0.2."""
    signal = gaussian_filter1d(np.random.default_rng(seed).standard_normal(frames + 200), width)[100:-100]
    return 0.2 * signal / signal.std()


def test_the_grids_are_those_of_avec_and_a_small_one():
    assert GRIDS["avec"].delays_secs == tuple(pytest.approx(0.4 * k) for k in range(21))
    assert GRIDS["avec"].complexities == tuple(
        pytest.approx(step * 10.0**power) for power in range(-5, 1) for step in (1, 2, 5) if step * 10.0**power <= 1
    )
    assert (len(GRIDS["quick"].delays_secs), len(GRIDS["quick"].complexities)) == (4, 4)


def test_gold_is_shifted_back_with_its_last_value_repeated_and_predictions_forward_with_their_first():
    signal = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(advance(signal, 2), [3, 4, 4, 4])
    np.testing.assert_array_equal(delay(signal, 2), [1, 1, 1, 2])
    np.testing.assert_array_equal(advance(signal, 0), signal)
    np.testing.assert_array_equal(advance(signal, 9), [4, 4, 4, 4])


def test_standardisation_by_train_or_per_recording_with_zero_for_what_is_missing():
    rng = np.random.default_rng(0)
    tables = {name: rng.normal(3.0 + k, 2.0, (50, 3)).astype(np.float32) for k, name in enumerate(("a", "b", "c"))}
    tables["a"][4, 1] = tables["c"][7, 2] = np.nan
    for table in tables.values():
        table[:, 0] = 5.0  # constant
    train = np.concatenate([tables["a"], tables["b"]])
    by_train = standardise(tables, ["a", "b"], "train")
    expected = (tables["c"] - np.nanmean(train, axis=0)) / np.nanstd(train, axis=0).clip(1e-3)
    expected[7, 2] = 0.0
    np.testing.assert_allclose(by_train["c"], expected, atol=1e-5)
    alone = standardise(tables, ["a", "b"], "recording")
    expected = (tables["c"] - np.nanmean(tables["c"], axis=0)) / np.nanstd(tables["c"], axis=0).clip(1e-3)
    expected[7, 2] = 0.0
    np.testing.assert_allclose(alone["c"], expected, atol=1e-5)
    assert np.isnan(tables["c"][7, 2])


def test_a_recording_without_any_value_becomes_zero_without_a_warning(recwarn):
    table = np.full((20, 3), np.nan, np.float32)
    for standardisation in ("train", "recording"):
        tables = {"a": np.random.default_rng(0).random((20, 3), np.float32), "b": table}
        np.testing.assert_array_equal(standardise(tables, ["a"], standardisation)["b"], np.zeros((20, 3)))
    assert not recwarn.list


@pytest.mark.parametrize("feature_set", FEATURE_SETS, ids=lambda one: one.name)
def test_video_is_standardised_per_recording_for_arousal_and_all_else_by_train(feature_set):
    assert feature_set.standardisation("arousal") == ("train" if feature_set.modality == "audio" else "recording")
    assert feature_set.standardisation("valence") == "train"


def recordings(first_seed, count, delay_frames, noise=0.02):
    """Returns tables whose second column leads the gold standard by `delay_frames`, and the gold standards."""
    rng = np.random.default_rng(first_seed)
    tables, gold = [], []
    for k in range(count):
        # As slow as ratings: the search stops early where three delays in a row do not touch the relation.
        shown = smooth(first_seed + k, frames=1500, width=40)
        tables.append(np.column_stack([rng.standard_normal(1500), 5 * shown + noise * rng.standard_normal(1500)]))
        gold.append(delay(shown, delay_frames))
    return tables, gold


@pytest.mark.parametrize("delay_frames", [0, 20, 70])
def test_the_search_finds_a_planted_delay_and_moves_the_prediction_forward_by_it(delay_frames):
    (train, train_gold), (dev, dev_gold) = recordings(0, 4, delay_frames), recordings(50, 2, delay_frames)
    grid = Grid(GRIDS["avec"].delays_secs, (1e-2, 1e-1))
    regression, choice = fit_regression(
        {"train": train, "dev": dev}, {"train": train_gold, "dev": dev_gold}, grid, RATE
    )
    assert choice.delay_frames == delay_frames and choice.delay_secs == pytest.approx(delay_frames / RATE)
    (unseen,), (gold,) = recordings(90, 1, delay_frames)
    moved = delay(regression.predict(unseen), choice.delay_frames)
    assert concordance_cc(gold, moved) > 0.9
    if delay_frames:
        assert concordance_cc(gold, moved) > concordance_cc(gold, regression.predict(unseen)) + 0.03


def test_a_missing_face_leaves_out_what_was_predicted_from_it_a_delay_later():
    (train, train_gold), (dev, dev_gold) = recordings(0, 2, 20), recordings(50, 1, 20)
    measured = np.ones(1500, dtype=bool)
    measured[100:170] = False
    tables = {
        name: RecordingFeatures(("a", "b"), values, measured)
        for name, values in zip(("train_1", "train_2", "dev_1"), (*train, *dev), strict=True)
    }
    entries = {"train": ["train_1", "train_2"], "dev": ["dev_1"], "test": []}
    manifest = SimpleNamespace(
        frame_rate_hz=RATE,
        partition=lambda partition: [SimpleNamespace(name=name) for name in entries[partition]],
    )
    gold = dict(zip(tables, (*train_gold, *dev_gold), strict=True))
    fitted = _fit_feature_set("table", tables, manifest, gold, "train", Grid((0.0, 0.8), (1e-1,)), processes=1)
    assert fitted.summary.choice.delay_frames == 20
    assert np.flatnonzero(~fitted.measured["dev_1"]).tolist() == list(range(120, 190))


def test_the_search_stops_after_three_delays_without_improvement():
    (train, train_gold), (dev, dev_gold) = recordings(0, 3, 20), recordings(50, 2, 20)
    _, choice = fit_regression(
        {"train": train, "dev": dev},
        {"train": train_gold, "dev": dev_gold},
        Grid(GRIDS["avec"].delays_secs, (0.1,)),
        RATE,
    )
    assert choice.delays_tried_secs == (0.0, 0.4, 0.8, 1.2, 1.6, 2.0)


def test_several_processes_choose_what_one_chooses():
    features, gold = ({"train": t, "dev": d} for t, d in zip(recordings(0, 3, 10), recordings(50, 2, 10), strict=True))
    grid = Grid((0.0, 0.4), (1e-3, 1e-2, 1e-1))
    (one, first), (two, second) = (fit_regression(features, gold, grid, RATE, processes) for processes in (1, 2))
    assert first == second
    np.testing.assert_array_equal(one.weights, two.weights)


def test_scaling_multiplies_the_values_and_not_their_distances_from_the_mean():
    chain = AvecChain(offset=0.5, factor=3.0)
    (processed,) = chain.apply([np.array([0.0, 0.1, 0.2])])
    np.testing.assert_allclose(processed, [1.5, 1.8, 2.1])  # the mean moves from 0.6 to 1.8


def test_each_step_of_the_chain_is_kept_where_the_ccc_rises():
    gold = [smooth(1) + 0.1, smooth(2) + 0.1]
    exact, ccc = fit_avec_chain(gold, gold, RATE)
    assert exact == AvecChain() and ccc == pytest.approx(1.0)
    # Offset and gain around 0, with a mean of 0 after centring: scaling of values and of distances are the same.
    level = np.concatenate(gold).mean()
    flat = [signal - level for signal in gold]
    chain, ccc = fit_avec_chain(flat, [0.25 * signal + 0.3 for signal in flat], RATE)
    assert ccc == pytest.approx(1.0)
    assert (chain.median_frames, chain.offset, chain.factor) == (1, pytest.approx(-0.3), pytest.approx(4.0))
    # With a mean far from 0, the scaled values miss it by more than scaling gains.
    chain, ccc = fit_avec_chain([signal + 5 for signal in flat], [0.9 * signal + 5 for signal in flat], RATE)
    assert chain.factor == 1.0


def test_the_median_filter_takes_out_single_frames_and_runs_over_the_joined_recordings():
    gold = [np.repeat(smooth(3), 2), np.repeat(smooth(4), 2)]
    spoilt = [signal.copy() for signal in gold]
    for signal in spoilt:
        signal[::7] += 2.0
    chain, ccc = fit_avec_chain(gold, spoilt, RATE)
    assert 1 < chain.median_frames <= 499 and ccc > 0.95
    joined = np.pad(np.concatenate(spoilt), chain.median_frames // 2, mode="edge")
    by_loop = [np.median(joined[k : k + chain.median_frames]) for k in range(len(joined) - chain.median_frames + 1)]
    processed = chain.apply(spoilt)
    assert [len(signal) for signal in processed] == [800, 800]
    np.testing.assert_allclose(np.concatenate(processed), (np.array(by_loop) + chain.offset) * chain.factor)


def table_files(folder, name, table, **facts):
    """Writes one table as a corpus's, and returns what reads it with the recording."""
    write_features(folder / "r.h5", {name: table})
    entry = SimpleNamespace(
        name="r", features="r.h5", has_audio=True, has_video=True, frames=len(table.values) - 1, faces_found=1,
        partition="train",
    )  # fmt: skip
    entry = SimpleNamespace(**vars(entry) | facts)
    return FeatureFiles(folder, SimpleNamespace(frame_rate_hz=25, recordings=[entry]), folder), entry


def test_rows_are_those_at_the_end_of_each_frame(tmp_path):
    times = np.arange(101) * 0.04  # AVEC's tables begin at t = 0
    table = FeatureTable(("a", "b"), times, np.column_stack([times, np.ones(101)]))
    files, entry = table_files(tmp_path, "features_audio.arousal", table)
    read = files.read(AUDIO, "corpus", "arousal", entry)
    np.testing.assert_allclose(read.values[:, 0], times[1:], rtol=1e-6)
    assert read.measured.all()


def test_rows_without_a_face_are_interpolated_and_marked(tmp_path):
    times = np.arange(101) * 0.04
    values = np.column_stack([np.sin(times), np.cos(2 * times), np.zeros(101)]).astype(np.float32)
    values[:6] = values[31:41] = values[98:] = 0.0
    files, entry = table_files(
        tmp_path, "features_video_appearance.valence", FeatureTable(("a", "b", "c"), times, values)
    )
    read = files.read(APPEARANCE, "corpus", "valence", entry)
    known = np.flatnonzero((values[1:] != 0).any(axis=1))
    np.testing.assert_array_equal(np.flatnonzero(read.measured), known)
    for column in (0, 1):
        inside = PchipInterpolator(known, values[1:][known, column])(np.arange(30, 40))
        np.testing.assert_allclose(read.values[30:40, column], inside, rtol=1e-6)
    np.testing.assert_array_equal(read.values[:5], np.repeat(values[6:7], 5, axis=0))
    np.testing.assert_array_equal(read.values[97:], np.repeat(values[97:98], 3, axis=0))


def test_zeros_are_values_in_audio_tables(tmp_path):
    values = np.ones((51, 2))
    values[20:30] = 0.0
    files, entry = table_files(
        tmp_path, "features_audio.arousal", FeatureTable(("a", "b"), np.arange(51) * 0.04, values)
    )
    read = files.read(AUDIO, "corpus", "arousal", entry)
    np.testing.assert_array_equal(read.values, values[1:])
    assert read.measured.all()


def test_our_tables_of_a_recording_without_any_face_count_as_not_measured(tmp_path):
    table = FeatureTable(("a",), np.arange(51) * 0.04, np.ones((51, 1)))
    files, entry = table_files(tmp_path, "handcrafted_geometric.arousal", table, faces_found=0)
    assert not files.read(GEOMETRIC, "ours", "arousal", entry).measured.any()


def test_the_tables_of_the_corpus_are_preferred(tmp_path):
    times = (np.arange(50) + 1) / 25
    table = FeatureTable(("a",), times, np.ones((50, 1)))
    shipped = {f"features_audio.{dimension}": table for dimension in ("arousal", "valence")}
    ours = {
        f"handcrafted_{name}.{dimension}": table
        for name in ("audio", "geometric")
        for dimension in ("arousal", "valence")
    }
    files, entry = table_files(tmp_path, "features_audio.arousal", table)
    (tmp_path / "ours").mkdir()
    write_features(tmp_path / "r.h5", shipped)
    write_features(tmp_path / "ours/r.h5", ours)
    files = FeatureFiles(tmp_path, SimpleNamespace(frame_rate_hz=25, recordings=[entry]), Path(tmp_path / "ours"))
    assert [files.source(one) for one in FEATURE_SETS] == ["corpus", None, "ours"]


@pytest.mark.parametrize(
    ("name", "times", "message"),
    [
        ("features_audio.arousal", np.arange(101) * 40.0, "its times, 0 to 4000 s, cover less than half"),
        ("features_ECG.arousal", np.arange(101) * 0.04, "r has no table features_audio.arousal; make the"),
    ],
)  # fmt: skip
def test_a_table_that_is_missing_or_has_other_times_is_refused(tmp_path, name, times, message):
    files, entry = table_files(tmp_path, name, FeatureTable(("a",), times, np.ones((101, 1))))
    with pytest.raises(UserError, match=message):
        files.read(AUDIO, "corpus", "arousal", entry)
