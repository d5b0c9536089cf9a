"""Where evaluation, the baseline and the report write: refused before any work, and nothing of others is replaced."""

import pytest

from affect.errors import UserError
from affect.evaluation import baseline, eval_command, report
from tests.helpers.in_process import call_main
from tests.helpers.text_folders import content_of, write_folder


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "^--output is empty"),
        (".", r"^--output=\. is a folder; give the path of a file in it"),
        ("file/scores", "^--output=file/scores: .*/file is not a folder"),
        ("http://host/scores", "^http://host/scores: web servers are read-only"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(output, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match=message):
        call_main(report, "--run_dirs=nowhere", f"--output={output}")
    assert content_of(tmp_path) == {"file": "text"}


def test_the_report_and_the_baseline_refuse_remote_folders(tmp_path):
    with pytest.raises(UserError, match="^--run_dirs=s3://bucket/run must be a local folder"):
        call_main(report, "--run_dirs=s3://bucket/run", f"--output={tmp_path}/report.html")
    with pytest.raises(UserError, match="^--output_dir=s3://bucket/baseline must be a local folder"):
        call_main(baseline, "--data_dir=nowhere", "--output_dir=s3://bucket/baseline")


def test_evaluation_does_not_replace_a_folder_of_other_files(run_dir):
    (run_dir / "eval").mkdir()
    write_folder(run_dir / "eval/test", notes="the only copy")
    with pytest.raises(UserError, match=r"eval/test holds other files \(no predictions_postprocessed of ours\)"):
        call_main(eval_command, f"--run_dir={run_dir}")
    assert content_of(run_dir / "eval") == {"test/notes": "the only copy"}
