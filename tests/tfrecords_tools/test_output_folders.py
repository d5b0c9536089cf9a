"""The synthetic corpus and contact sheets are written to local folders only, and never over other files."""

import pytest

from affect.errors import UserError
from tests.helpers.in_process import call_main
from tests.helpers.text_folders import content_of, write_folder
from tfrecords_tools import inspect_tfrecords
from tfrecords_tools.synthetic import __main__ as synthetic


@pytest.mark.parametrize(
    ("output_dir", "message"),
    [
        ("s3://bucket/corpus", "^--output_dir=s3://bucket/corpus must be a local folder"),
        ("", "^--output_dir is empty"),
        ("file", "^--output_dir=file: .*/file is not a folder"),
        ("file/corpus", "^--output_dir=file/corpus: .*/file is not a folder"),
        ("others", "^others is not empty; choose another --output_dir"),
        (".", r"^\. is not empty; choose another --output_dir"),
    ],
)
def test_a_synthetic_corpus_is_written_only_to_a_new_or_empty_local_folder(output_dir, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    write_folder(tmp_path / "others", a="thesis")
    with pytest.raises(UserError, match=message):
        call_main(synthetic, f"--output_dir={output_dir}", "--recordings=1,0,0", "--seconds=2")
    assert content_of(tmp_path) == {"file": "text", "others/a": "thesis"}


def test_contact_sheets_are_drawn_only_in_a_local_folder(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for sheets, message in (("s3://bucket/sheets", "must be a local folder"), ("", "^--contact_sheets is empty")):
        with pytest.raises(UserError, match=message):
            call_main(inspect_tfrecords, f"--data_dir={data_dir}", f"--contact_sheets={sheets}")
    assert content_of(tmp_path) == {}
