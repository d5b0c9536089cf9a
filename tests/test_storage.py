"""Files on this machine, and on object stores and web servers that run on this machine.

The S3 tests need moto, boto3 and tensorflow-io (the extras io-tests and io).
"""

import http.server
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import msgspec
import pytest
import tensorflow as tf

from affect import storage
from affect.errors import UserError
from tests.helpers import trees
from tests.helpers.commands import REPOSITORY, error_lines, train_flags
from tests.helpers.text_folders import content_of, write_folder
from tfrecords_tools.inspection import inspect


@pytest.fixture(scope="module")
def tensorflow_io():
    """Skips where tensorflow-io is not installed; `test_environment` tests that an installed one loads."""
    if importlib.util.find_spec("tensorflow_io") is None:
        pytest.skip("tensorflow-io does not load here")


@pytest.fixture(scope="module")
def s3(tensorflow_io):
    """A client of a new S3 server, and the environment variables with which TensorFlow finds the server."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("moto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline and server.poll() is None, "the S3 server does not start"
            time.sleep(0.2)
    address = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_bucket(Bucket="affect")
    yield client, keys | {"S3_ENDPOINT": address, "S3_USE_HTTPS": "0", "S3_VERIFY_SSL": "0"}
    server.terminate()
    server.wait()


class FilesInParts(http.server.SimpleHTTPRequestHandler):
    """Python's web server with support for ranges, which every web server for large files has."""

    def do_GET(self):  # noqa: N802
        """Sends a file, or the range of it that the request asks for."""
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
        """Logs nothing."""


@pytest.fixture
def web(tmp_path):
    """A folder, and the address of a web server that serves it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(FilesInParts, directory=tmp_path / "web"))
    (tmp_path / "web").mkdir()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "web", f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def run(environment, *arguments):
    """Runs a command as a user would; it must end with exit code 0, also after using S3."""
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

    run(environment, "-c", BASELINE_AND_REPORT, f"--run_dirs={tmp_path / 'run'}", str(tmp_path / "baseline"))
    assert (tmp_path / "baseline/audiovisual/eval/test/metrics.json").is_file()
    (page,) = download(client, "report.html").values()
    assert b"loudness and brightness" in page


BASELINE_AND_REPORT = """
import sys
from affect import cli
from affect.evaluation import baseline, report
from tests.helpers.in_process import call_main
call_main(baseline, "--data_dir=s3://affect/records", f"--output_dir={sys.argv[2]}", "--protocol=quick")
call_main(report, sys.argv[1], f"--baseline={sys.argv[2]}", "--output=s3://affect/report.html")
cli.leave_without_destructors(0)
"""


def test_a_table_of_recordings_over_http(tensorflow_io, web, tmp_path):
    folder, address = web
    trees.table_tree(folder)
    out = run(
        {}, "-m", "tfrecords_tools.make_tfrecords", f"--corpus_dir={address}/corpus.csv", f"--output_dir={tmp_path}/out"
    )
    assert "layout table, 1 complete recordings" in out
    inspect(tmp_path / "out")


def test_paths_that_cannot_be_used_are_refused_with_what_to_use_instead():
    with pytest.raises(UserError, match="cannot be listed; give the address of a table"):
        storage.list_files("http://127.0.0.1/corpus")
    with pytest.raises(UserError, match="web servers are read-only"):
        storage.check_writable("https://example.org/records")
    with pytest.raises(UserError, match="unknown scheme ftp://; use a local path or one of s3, http"):
        storage.is_remote("ftp://example.org/records")
    with pytest.raises(UserError, match="--run_dir=s3://a/b must be a local folder"):
        storage.local_folder("s3://a/b", "run_dir")


def test_without_tensorflow_io_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(UserError, match=r"s3://a/b: s3:// needs the extra io \(pip install 'affect\[io\]'"):
        storage.file_system("s3://a/b")


def test_a_missing_bucket_is_reported_in_one_line(s3, tmp_path):
    _, environment = s3
    done = subprocess.run(
        [sys.executable, "-m", "tfrecords_tools.inspect_tfrecords", "--data_dir=s3://nowhere/records"],
        cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = [line for line in error_lines(done) if line.startswith("error:")]
    assert "s3://nowhere/records" in line and "Traceback" not in done.stderr


class Point(msgspec.Struct, forbid_unknown_fields=True):
    """Content of a JSON file."""

    x: int
    name: str = "origin"


def test_json_is_written_indented_and_escaped_and_is_read_back(tmp_path):
    path = tmp_path / "new folder/point.json"
    storage.write_json(path, Point(3, "Zoë b\udce9n"))
    assert path.read_text() == '{\n  "x": 3,\n  "name": "Zo\\u00eb b\\udce9n"\n}\n'
    assert storage.read_json(path, Point) == Point(3, "Zoë b\udce9n")
    assert storage.read_json(path) == {"x": 3, "name": "Zoë b\udce9n"}
    assert os.listdir(path.parent) == ["point.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"point\.json: the text is not JSON \("),
        ("[" * 100_000, r"point\.json: the text is not JSON \("),
        ("7" * 5_000, r"point\.json: the text is not JSON \("),
        ("[]", r"point\.json: Expected `object`, got `array`"),
        ('{"x": "far"}', r"point\.json: Expected `int`, got `str` - at `\$\.x`"),
        ('{"x": 1, "y": 2}', r"point\.json: Object contains unknown field `y`"),
        ("{}", r"point\.json: Object missing required field `x`"),
    ],
    ids=lambda text: text[:20],
)
def test_json_with_wrong_content_is_refused_with_file_and_field(tmp_path, content, message):
    (tmp_path / "point.json").write_text(content)
    with pytest.raises(UserError, match=message):
        storage.read_json(tmp_path / "point.json", Point)


def test_a_missing_json_file_is_named_with_the_hint(tmp_path):
    with pytest.raises(UserError, match=r"point\.json does not exist$"):
        storage.read_json(tmp_path / "point.json", Point)
    with pytest.raises(UserError, match=r"point\.json does not exist; run it first$"):
        storage.read_json(tmp_path / "point.json", Point, hint="run it first")


def test_local_files_are_stamped_put_and_removed(tmp_path):
    write_folder(tmp_path / "staging", a="12345")
    path = storage.join(tmp_path, "train/a")
    storage.put(tmp_path / "staging/a", path)
    assert storage.exists(path) and not storage.exists(str(tmp_path / "train"))
    assert storage.stamp(path) == (5, os.stat(path).st_mtime_ns)
    assert storage.read_bytes(path) == b"12345"
    storage.remove(path)
    storage.remove(path)  # nothing to do
    storage.remove(str(tmp_path / "train"))
    assert os.listdir(tmp_path) == ["staging"] and os.listdir(tmp_path / "staging") == []


def test_addresses_keep_their_slashes_and_are_quoted_only_for_web_servers():
    assert storage.join("s3://bucket/corpus/", "a b/c.wav") == "s3://bucket/corpus/a b/c.wav"
    assert storage.join("https://example.org/corpus", "a b/c.wav") == "https://example.org/corpus/a%20b/c.wav"
    assert storage.absolute("gs://bucket/corpus/") == "gs://bucket/corpus"
    assert storage.absolute("corpus/") == os.path.join(os.getcwd(), "corpus")
    assert storage.local_folder("runs/a", "run_dir") == Path("runs/a")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A current folder with a file, an empty folder, a folder of ours, one of others, and links."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "ours", **{"point.json": '{"x": 1}', "a": "old a"})
    write_folder(tmp_path / "others", a="thesis", **{".hidden": "notes"})
    write_folder(tmp_path / "theirs", **{"point.json": '{"x": 1, "y": 2}'})
    write_folder(tmp_path / "hidden", **{".hidden": "notes"})
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "found"),
    [("new", "new"), ("new/deep", "new/deep"), ("empty", "empty"), ("ours", "ours"), ("others/../ours/", "ours")],
)
def test_a_new_an_empty_and_an_own_folder_may_be_replaced(places, path, found):
    before = content_of(places)
    assert storage.check_replaceable(Path(path), "point.json", Point) == places.resolve() / found
    assert content_of(places) == before and not (places / "new").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("others", r"^others holds other files \(no point\.json of ours\) and is not replaced; choose another folder$"),
        ("hidden", r"^hidden holds other files"),
        ("theirs", r"^theirs is not replaced, because we did not write it: .*point\.json: .*unknown field `y`"),
        ("link", r"^link is a link and is not replaced"),
        ("broken", r"^broken is a link and is not replaced"),
        ("file", r"^file cannot be written: .*/file is not a folder"),
        ("file/below", r"^file/below cannot be written: .*/file is not a folder"),
        ("broken/below", r"^broken/below cannot be written: .*/broken is not a folder"),
        (".", r"^\. is the current folder and is not replaced"),
        ("ours/..", r"^ours/\.\. is the current folder"),
        ("..", r"^\.\. contains the current folder and is not replaced"),
        ("/", r"^/ (is a mount point|contains the current folder)"),
        ("/proc", r"^/proc is a mount point and cannot be replaced; choose a folder in it$"),
    ],
)
def test_every_other_folder_is_refused(places, path, message):
    with pytest.raises(UserError, match=message) as refused:
        storage.check_replaceable(Path(path), "point.json", Point)
    assert "\n" not in str(refused.value)


def test_what_must_be_kept_is_never_replaced_with_the_folder_around_it(places):
    (places / "ours/run").mkdir()
    (places / "shortcut").symlink_to(places / "ours/run")
    storage.check_replaceable(Path("ours"), "point.json", keep={"the run": "others", "the data": "s3://bucket/ours"})
    for kept in ("ours/run", places / "ours/run", "shortcut", "others/../ours/run/weights"):
        with pytest.raises(UserError, match="^ours contains the run and is not replaced; choose another folder$"):
            storage.check_replaceable(Path("ours"), "point.json", keep={"the run": kept})
    with pytest.raises(UserError, match="^ours is the run and is not replaced"):
        storage.check_replaceable(Path("ours"), "point.json", keep={"the run": "ours"})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "^--output_dir is empty; give it a path$"),
        ("file", "^--output_dir=file: .*/file is not a folder; choose another path$"),
        ("file/below", "^--output_dir=file/below: .*/file is not a folder"),
        ("broken", "^--output_dir=broken: .*/broken is not a folder"),
        ("s3://bucket/folder", "^--output_dir=s3://bucket/folder must be a local folder"),
    ],
)
def test_a_path_that_cannot_be_a_local_folder_is_refused(places, path, message):
    with pytest.raises(UserError, match=message):
        storage.local_folder(path, "output_dir")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "^--output is empty; give it a path$"),
        ("file/below.json", "^--output=file/below.json: .*/file is not a folder; choose another path$"),
        *[
            (path, f"^--output={path} is a folder; give the path of a file in it$")
            for path in ("empty", ".", "..", "/")
        ],
        ("https://example.org/page.html", "web servers are read-only"),
    ],
)
def test_a_path_that_cannot_be_an_output_file_is_refused(places, path, message):
    with pytest.raises(UserError, match=message):
        storage.check_output_file(path, "output")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~/runs/audio", "the shell has not replaced the ~; write the path in full, or with $HOME"),
        ("~", "the shell has not replaced the ~; write the path in full, or with $HOME"),
        ("a/" + "é" * 121 + "/b", f"{'é' * 20}... has more than 240 bytes; choose a shorter name"),
        ("a\udcff/b", "the name is not valid UTF-8, which TensorFlow needs; choose another one"),
    ],
)
def test_a_name_that_is_a_mistake_is_refused_wherever_something_is_written(places, path, message):
    for check in (
        lambda: storage.local_folder(path, "output_dir"),
        lambda: storage.check_output_file(path, "output"),
        lambda: storage.check_writable(path),
    ):
        with pytest.raises(UserError) as refused:
            check()
        assert str(refused.value).endswith(f"{path}: {message}")


def test_names_with_signs_that_mean_something_elsewhere_may_be_written(places):
    for path in ("-run", "a b", "[1]", "$HOME", "a~", "./~", "50 %", "é" * 120, "'\"", "a:b", "a\nb"):
        assert storage.local_folder(path, "run_dir") == Path(path)


@pytest.mark.parametrize("folder", ["study [2024]", "a\\b", "plain * ?"])
def test_a_folder_is_reached_by_a_path_that_is_no_pattern(tmp_path, folder):
    file = tmp_path / folder / "run/file"
    storage.write_bytes(str(file), b"content")
    with storage.without_patterns(file.parent) as path:
        assert tf.io.gfile.glob(f"{path}/file") == [f"{path}/file"]
        assert (path / "file").read_bytes() == b"content"
    assert (path == file.parent) == (folder == "plain * ?")
    assert os.path.lexists(path) == (folder == "plain * ?") and file.exists()


def test_new_and_existing_files_may_be_written(places):
    for path in ("file", "new.json", "new/deep.json", "link/a", "../x.json"):
        storage.check_output_file(path, "output")
    for path in ("new/deep", "link", ".", "empty"):
        assert storage.local_folder(path, "run_dir") == Path(path)
    assert not (places / "new").exists()
