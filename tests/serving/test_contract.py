"""The contract: how it is read, and which inputs it calls far from the training data."""

import math
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from affect.errors import UserError
from affect.serving.contract import CONTRACT_NAME, distance_remarks, read_contract, sound_level_dbfs
from affect.storage import read_json, write_json
from tests.helpers.contracts import CONTRACT, TRAINING_DATA

OLD_EXPORT = Path(__file__).parents[1] / "compatibility/v0.1.0/export"


def test_what_is_written_is_read(tmp_path):
    write_json(tmp_path / CONTRACT_NAME, CONTRACT)
    assert read_contract(tmp_path) == CONTRACT


def test_an_unknown_a_missing_and_a_wrong_field_are_refused(tmp_path):
    write_json(tmp_path / CONTRACT_NAME, CONTRACT)
    content = read_json(tmp_path / CONTRACT_NAME)
    without_modality = {name: value for name, value in content.items() if name != "modality"}
    for wrong, message in (
        (content | {"gain": 2}, "predict.json: .*unknown field `gain`"),
        (content | {"standardise": "batch"}, r"predict.json: Invalid enum value 'batch' - at `\$.standardise"),
        (content | {"outputs": ["valence", "arousal"]}, "outputs are valence, arousal; expected arousal, valence"),
        (content | {"label_delay_secs": -0.2}, "label_delay_secs is -0.2; it must be at least 0"),
        (content | {"postprocessing": {"arousal": {"frame_rate": 25.0}}}, "has chains of arousal; it needs both"),
        (without_modality, "predict.json: .*missing required field `modality`"),
    ):
        write_json(tmp_path / CONTRACT_NAME, wrong)
        with pytest.raises(UserError, match=message):
            read_contract(tmp_path)


def test_a_folder_that_is_no_export_is_refused_with_the_way_to_one(tmp_path):
    with pytest.raises(UserError, match="predict.json does not exist; give the --output_dir of .*serving.export$"):
        read_contract(tmp_path)


def test_an_export_of_version_0_1_0_is_refused_in_one_line_that_says_export_again(tmp_path):
    shutil.copy(OLD_EXPORT / "affect.json", tmp_path)
    with pytest.raises(UserError) as refused:
        read_contract(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} has no predict.json: it was exported by an earlier version; export the run again"
    )


def test_label_delay_in_frames():
    assert CONTRACT.label_delay_frames == 12  # half a second at 25 Hz is 12.5 frames, rounded to even
    assert msgspec.structs.replace(CONTRACT, label_delay_secs=0.4).label_delay_frames == 10


def test_level_of_a_sine_is_3_db_below_full_scale_and_of_silence_minus_infinity():
    sine = np.sin(2 * np.pi * np.arange(16_000) / 160)
    assert sound_level_dbfs(sine.std()) == pytest.approx(-3.0103, abs=1e-4)
    assert sound_level_dbfs(0.1) == pytest.approx(-20.0)
    assert sound_level_dbfs(0.0) == -math.inf


@pytest.mark.parametrize(
    ("level_dbfs", "face_share", "wanted"),
    [
        (-25.0, 1.0, []),
        (-43.0, 0.55, []),  # exactly at the thresholds
        (-10.0, 0.551, []),
        (-43.1, 1.0, ["the sound's level of -43.1 dBFS is far from .* training recordings .-33.0 to -20.0 dBFS."]),
        (-9.9, 1.0, ["the sound's level of -9.9 dBFS is far from"]),
        (-math.inf, 1.0, ["digital silence"]),
        (-25.0, 0.54, [r"a face was found in only 54% of the frames \(training recordings: 75% to 100%\)"]),
        (-60.0, 0.0, ["level of -60.0", "only 0% of the frames"]),
        (None, None, []),
    ],
)
def test_remarks_on_an_input_far_from_the_training_data(level_dbfs, face_share, wanted):
    remarks = distance_remarks(CONTRACT, level_dbfs, face_share)
    assert len(remarks) == len(wanted)
    for remark, pattern in zip(remarks, wanted, strict=True):
        assert re.search(pattern, remark), remark


def test_an_input_that_the_network_does_not_take_is_never_far():
    audio, video = (msgspec.structs.replace(CONTRACT, modality=name) for name in ("audio", "video"))
    assert len(distance_remarks(CONTRACT, -math.inf, 0.0)) == 2
    assert [remark[:9] for remark in distance_remarks(audio, -math.inf, 0.0)] == ["the sound"]
    assert [remark[:6] for remark in distance_remarks(video, -math.inf, 0.0)] == ["a face"]


def test_without_known_training_data_only_silence_is_remarked_on():
    unknown = msgspec.structs.replace(CONTRACT, training_data=None)
    assert distance_remarks(unknown, -90.0, 0.0) == []
    assert len(distance_remarks(unknown, -math.inf, 0.0)) == 1


def test_a_model_is_synthetic_only_if_its_training_data_are_known_to_be():
    synthetic = msgspec.structs.replace(TRAINING_DATA, synthetic=True)
    assert msgspec.structs.replace(CONTRACT, training_data=synthetic).synthetic
    assert not CONTRACT.synthetic
    assert not msgspec.structs.replace(CONTRACT, training_data=None).synthetic
