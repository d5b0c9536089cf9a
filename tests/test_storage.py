"""Corpora, shards and trainings on object stores and web servers: real ones, on this machine."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from affect import storage
from affect.errors import UserError
from tests.helpers import trees
from tests.helpers.commands import REPOSITORY, error_lines, train_flags

boto3 = pytest.importorskip("boto3")


def has_tensorflow_io():
    """In another process: its S3 client aborts the one that used it."""
    code = "import tensorflow_io as io; io.experimental; print('ok')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return "ok" in done.stdout


@pytest.fixture(scope="module")
def s3():
    """A client of a fresh S3 server, and the environment in which TensorFlow finds it."""
    pytest.importorskip("moto")
    if not has_tensorflow_io():
        pytest.skip("tensorflow-io does not load here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket="affect")
            break
        except Exception:
            assert time.monotonic() < deadline and server.poll() is None, "the S3 server does not start"
            time.sleep(0.2)
    yield client, keys | {"S3_ENDPOINT": address, "S3_USE_HTTPS": "0", "S3_VERIFY_SSL": "0"}
    server.terminate()
    server.wait()


class FilesInParts(http.server.SimpleHTTPRequestHandler):
    """Python's own server, and ranges, which every web server for large files has."""

    def do_GET(self):  # noqa: N802
        """Sends a file or the asked part of it."""
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range")
        if wanted is None or not path.is_file():
            return super().do_GET()
        first, last = wanted.removeprefix("bytes=").split("-")
        content = path.read_bytes()
        part = content[int(first) : int(last or len(content)) + 1]
        if not part:
            self.send_error(416)
            return None
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def web(tmp_path):
    """A folder, and the address at which a web server shows it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(FilesInParts, directory=tmp_path / "web"))
    (tmp_path / "web").mkdir()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "web", f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def run(environment, *arguments):
    """A command, as a user would run it; it must end well, with exit code 0 after S3 too."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pure virtual" not in done.stderr
    return done.stdout


def upload(client, folder, prefix):
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "affect", f"{prefix}/{path.relative_to(folder).as_posix()}")


def download(client, prefix):
    listed = client.list_objects_v2(Bucket="affect", Prefix=prefix).get("Contents", [])
    return {
        item["Key"].removeprefix(f"{prefix}/"): client.get_object(Bucket="affect", Key=item["Key"])["Body"].read()
        for item in listed
    }


def test_corpus_and_shards_in_s3_training_from_s3_and_evaluation_over_http(s3, web, corpus_dir, data_dir, tmp_path):
    client, environment = s3
    upload(client, corpus_dir, "corpus")
    command = [
        "-m",
        "tfrecords_tools.make_tfrecords",
        "--corpus_dir=s3://affect/corpus",
        "--output_dir=s3://affect/records",
    ]
    assert "layout avec2016, 6 complete recordings" in run(environment, *command)
    made = download(client, "records")
    here = {path.relative_to(data_dir).as_posix(): path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    assert made == here
    run(environment, *command)  # complete: nothing to do
    assert download(client, "records") == here

    trained = run(environment, "train.py", *train_flags("s3://affect/records", tmp_path / "run"))
    assert "best mean dev CCC" in trained
    folder, address = web
    (folder / "records").symlink_to(data_dir)
    run({}, "eval.py", f"--run_dir={tmp_path / 'run'}", f"--data_dir={address}/records")
    assert (tmp_path / "run/eval/test/metrics.json").is_file()


def test_a_table_of_recordings_over_http(s3, web, tmp_path):
    folder, address = web
    trees.table_tree(folder)
    out = run(
        {}, "-m", "tfrecords_tools.make_tfrecords", f"--corpus_dir={address}/corpus.csv", f"--output_dir={tmp_path}/out"
    )
    assert "layout table, 1 complete recordings" in out
    run({}, "-m", "tfrecords_tools.inspect_tfrecords", f"--data_dir={tmp_path}/out")


def test_what_a_web_server_cannot_do_is_said():
    with pytest.raises(UserError, match="cannot be listed; give the address of a table"):
        storage.list_files("http://127.0.0.1/corpus")
    with pytest.raises(UserError, match="web servers are read-only"):
        storage.check_writable("https://example.org/records")
    with pytest.raises(UserError, match="ftp:// is not known; there are s3, http"):
        storage.is_remote("ftp://example.org/records")
    with pytest.raises(UserError, match="--run_dir=s3://a/b: must be a folder of this machine"):
        storage.local_folder("s3://a/b", "run_dir")


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(UserError, match=r"s3://a/b: s3:// needs the extra io \(pip install 'affect\[io\]'"):
        storage.file_system("s3://a/b")


def test_a_bucket_that_is_not_there_is_one_line(s3, tmp_path):
    _, environment = s3
    done = subprocess.run(
        [sys.executable, "-m", "tfrecords_tools.inspect_tfrecords", "--data_dir=s3://nowhere/records"],
        cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = [line for line in error_lines(done) if line.startswith("error:")]
    assert "s3://nowhere/records" in line and "Traceback" not in done.stderr
