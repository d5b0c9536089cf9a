"""PCM on stdin to CSV lines on stdout, as they come."""

import functools
import io
import os
import select
import signal
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest
import soundfile

from affect.errors import UserError
from affect.evaluation.chain import PostProcessing
from affect.serving import model, predict
from affect.serving.live import predict_stdin
from affect.serving.model import ServedModel
from affect.serving.streaming import LiveStream, SoundConstants, Stream
from affect.serving.wording import MEANING, SYNTHETIC
from affect.storage import write_json
from tests.helpers.commands import REPOSITORY
from tests.helpers.in_process import call_main
from tests.helpers.served import TINY, contract_of, export_network, in_chunks, network_of

CONFIG = msgspec.structs.replace(TINY, frame_samples=640)
CHAINS = {
    "arousal": PostProcessing(25.0, median_frames=9, offset=0.1, gain=2.0, centre=0.05, shift_frames=1),
    "valence": PostProcessing(25.0, median_frames=3, offset=-0.2, gain=0.5, centre=0.1, shift_frames=12),
}


# Lines of the first second that come before the second one.
LATE = 21


class Pipe(io.BytesIO):
    """Bytes that come in blocks of given sizes, and then Ctrl-C if `interrupted`."""

    def __init__(self, content: bytes, sizes=(1 << 16,), interrupted: bool = False):
        super().__init__(content)
        self.sizes, self.interrupted = list(sizes), interrupted

    def read1(self, size=-1):  # noqa: D102
        block = super().read1(min(size, self.sizes[0]))
        self.sizes = [*self.sizes[1:], self.sizes[0]]
        if not block and self.interrupted:
            raise KeyboardInterrupt
        return block


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The export of a tiny audio network that takes frames of 640 samples, with chains and a label delay."""
    folder = tmp_path_factory.mktemp("live") / "export"
    folder.mkdir()
    contract = contract_of(CONFIG, "audio", postprocessing=CHAINS, label_delay_secs=0.2)
    export_network(network_of(CONFIG, "audio"), CONFIG, contract, folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Loads each SavedModel once; its contract is read every time."""
    load = functools.cache(model._load)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_load", lambda folder: load((folder / "saved_model.pb").resolve().parent))
        yield


@pytest.fixture
def changed(exported, tmp_path):
    """Makes an export whose contract has other values."""

    def make(**changes):
        folder = tmp_path / "changed"
        folder.mkdir(exist_ok=True)
        for path in exported.iterdir():
            if path.name != "predict.json" and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
        contract = ServedModel.load(exported).contract
        write_json(folder / "predict.json", msgspec.structs.replace(contract, **changes))
        return folder

    return make


def pcm_of(samples: int) -> np.ndarray:
    """Int16 [samples]: noise of changing loudness."""
    rng = np.random.default_rng(5)
    loudness = 1_500 + 1_400 * np.sin(np.arange(samples) / 3_000)
    return (rng.normal(size=samples) * loudness).astype("<i2")


def lines_of(folder, stdin, **options) -> list[str]:
    output = io.StringIO()
    predict_stdin(str(folder), stdin=stdin, stdout=output, **options)
    return output.getvalue().splitlines()


# 40 frames and a half; 40 frames and a bit; less than the window of the median; one frame.
@pytest.mark.parametrize(("samples", "rows"), [(40 * 640 + 321, 41), (40 * 640 + 100, 40), (3 * 640, 3), (400, 1)])
@pytest.mark.parametrize("raw", [False, True])
def test_lines_equal_those_of_a_file_of_the_same_samples(exported, tmp_path, samples, rows, raw):
    pcm = pcm_of(samples)
    soundfile.write(tmp_path / "talk.wav", pcm, 16_000, subtype="PCM_16")
    flags = [f"--model_dir={exported}", f"--input={tmp_path}/talk.wav", f"--output={tmp_path}/talk.csv"]
    call_main(predict, *flags, *(["--raw"] if raw else []))
    expected = (tmp_path / "talk.csv").read_text().splitlines()
    assert len(expected) == rows + 1
    found = lines_of(exported, Pipe(pcm.tobytes(), [1, 6_401, 1_280, 30_000]), raw=raw)
    assert found[0] == expected[0] == "time,arousal,valence,face_found"
    values, wanted = ([line.split(",") for line in lines[1:]] for lines in (found, expected))
    assert [row[0] for row in values] == [row[0] for row in wanted] == [f"{(k + 1) / 25:.3f}" for k in range(rows)]
    assert {row[3] for row in values} == {""}
    numbers = [np.array([row[1:3] for row in table], float) for table in (values, wanted)]
    # Six digits are printed, and the network takes other chunks.
    np.testing.assert_allclose(*numbers, rtol=0, atol=2e-6)


def test_a_long_sound_is_standardised_by_its_first_seconds_and_stderr_says_so(exported, capsys):
    pcm = pcm_of(100 * 640)
    lines = lines_of(exported, Pipe(pcm.tobytes()), calibration_secs=1.2, raw=True)
    samples = pcm[: 30 * 640] / 32_768
    sound = SoundConstants(samples.mean(), samples.std())
    curve = in_chunks(Stream(ServedModel.load(exported), sound), {"audio": pcm.reshape(-1, 640)}, [100])
    delayed = curve[np.maximum(np.arange(100) - 5, 0)]
    np.testing.assert_allclose([[float(v) for v in line.split(",")[1:3]] for line in lines[1:]], delayed, atol=2e-6)
    # The network is 1 frame late.
    assert capsys.readouterr().err.splitlines() == [
        MEANING,
        "reading 16000 Hz mono PCM from stdin; values come 0.04 s late",
        "the first lines come after 1.2 s, whose sound gives mean and deviation",
        f"the sound is standardised by its first 1.2 s; a whole file would use all of it ({sound})",
    ]


def test_known_constants_need_no_calibration(exported, capsys):
    pcm = pcm_of(20 * 640)
    sound = SoundConstants(0.001, 0.07)
    lines = lines_of(exported, Pipe(pcm.tobytes()), sound=sound, raw=True)
    curve = in_chunks(Stream(ServedModel.load(exported), sound), {"audio": pcm.reshape(-1, 640)}, [20])
    assert lines[-1] == f"0.800,{curve[14, 0]:.6g},{curve[14, 1]:.6g},"
    assert capsys.readouterr().err.splitlines()[2:] == [
        "the sound is standardised by given constants (mean 0.001, deviation 0.07)"
    ]


def read_times(pipe: int, count: int) -> list[str]:
    """The first columns of the next `count` lines; fails where they do not come."""
    content = b""
    while content.count(b"\n") < count:
        assert select.select([pipe], [], [], 30)[0], f"{content.count(10)} of {count} lines have come"
        part = os.read(pipe, 1)
        assert part, f"the output ended after {content.count(10)} of {count} lines"
        content += part
    return [line.split(",")[0] for line in content.decode().splitlines()]


def test_header_and_lines_appear_while_the_sound_is_still_coming(exported):
    """The next second is sent only when the lines of the one before have been read."""
    pcm = pcm_of(100 * 640).reshape(4, -1)
    (sound_out, sound_in), (lines_out, lines_in) = os.pipe(), os.pipe()
    with open(sound_out, "rb") as stdin, open(lines_in, "w") as stdout, open(lines_out, "rb", buffering=0):
        worker = threading.Thread(
            target=predict_stdin, args=(str(exported), 1.0), kwargs={"stdin": stdin, "stdout": stdout}, daemon=True
        )
        with open(sound_in, "wb", buffering=0) as source:
            worker.start()
            assert read_times(lines_out, 1) == ["time"]
            # The network is 1 frame late, and the median filter of arousal 4 frames less the shift of 1.
            for first, last in ((0, LATE), (LATE, LATE + 25), (LATE + 25, LATE + 50), (LATE + 50, LATE + 75)):
                source.write(pcm[last // 25].tobytes())
                assert read_times(lines_out, last - first)[-1] == f"{last / 25:.3f}"
        assert read_times(lines_out, 100 - last)[-1] == "4.000"
        worker.join(30)
        assert not worker.is_alive()


def test_a_synthetic_model_says_so_in_every_line_and_on_stderr(changed, capsys):
    training_data = msgspec.structs.replace(contract_of(CONFIG, "audio").training_data, synthetic=True)
    lines = lines_of(changed(training_data=training_data), Pipe(pcm_of(6_400).tobytes()))
    assert lines[0] == "time,arousal,valence,face_found,training_data"
    assert len(lines) == 11 and all(line.endswith(",,synthetic") for line in lines[1:])
    assert capsys.readouterr().err.splitlines()[0] == SYNTHETIC


def test_a_model_that_was_not_evaluated_gives_the_raw_curve_and_says_so(changed, capsys):
    folder = changed(postprocessing=None)
    remark = "the curve is raw: the run was not evaluated before its export, so there is no post-processing"
    pcm = pcm_of(6_400).tobytes()
    without = lines_of(folder, Pipe(pcm))
    assert remark in capsys.readouterr().err.splitlines()
    assert without == lines_of(folder, Pipe(pcm), raw=True)
    assert remark not in capsys.readouterr().err


def test_a_chain_that_needs_the_whole_recording_is_refused_before_anything_is_printed(changed):
    chain = {name: PostProcessing(25.0, recording_mean=0.1) for name in ("arousal", "valence")}
    output = io.StringIO()
    with pytest.raises(UserError, match="add --raw"):
        predict_stdin(str(changed(postprocessing=chain)), stdin=Pipe(b""), stdout=output)
    assert output.getvalue() == ""


def test_a_model_with_video_is_refused(tmp_path):
    export_network(network_of(TINY, "video"), TINY, contract_of(TINY, "video"), tmp_path)
    with pytest.raises(UserError, match=r"the model takes video, .*; predict from a file$"):
        predict_stdin(str(tmp_path), stdin=Pipe(b""), stdout=io.StringIO())


def test_stdin_that_is_a_terminal_or_closed_is_refused(exported, monkeypatch):
    terminal, device = os.openpty()
    with open(device, "rb", buffering=0) as stdin, pytest.raises(UserError, match=r"^--input=- needs sound on stdin"):
        predict_stdin(str(exported), stdin=stdin)
    os.close(terminal)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match=r"^--input=- needs sound on stdin.*ffmpeg -i FILE -f s16le -ar 16000 -ac 1 - "):
        predict_stdin(str(exported))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no sound came in on stdin; use ffmpeg"),
        (b"\0" * 640, "the sound on stdin is shorter than one frame of 40 ms"),
        (b"RIFF" + b"\0" * 4_000, "stdin holds a WAV file, but --input=- reads samples without a header; use ffmpeg"),
        (b"ID3" + b"\0" * 4_000, "stdin holds a MP3 file"),
    ],
)
def test_stdin_without_sound_is_refused_in_one_line(exported, content, message):
    with pytest.raises(UserError) as refused:
        lines_of(exported, Pipe(content, [3]))
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_half_a_sample_at_the_end_is_left_out_with_a_remark(exported, capsys):
    pcm = pcm_of(6_400).tobytes()
    assert lines_of(exported, Pipe(pcm + b"\1", [999])) == lines_of(exported, Pipe(pcm, [999]))
    assert "stdin ended in the middle of a sample, which is left out; is it 16-bit PCM?" in capsys.readouterr().err


def test_ctrl_c_prints_the_lines_of_the_sound_so_far(exported):
    output = io.StringIO()
    pcm = pcm_of(6_400).tobytes()
    with pytest.raises(KeyboardInterrupt):
        predict_stdin(str(exported), stdin=Pipe(pcm, interrupted=True), stdout=output)
    assert output.getvalue().splitlines() == lines_of(exported, Pipe(pcm))


def test_ctrl_c_while_the_network_works_prints_the_lines_of_the_sound_so_far(exported, monkeypatch):
    push, output, before = LiveStream.push, io.StringIO(), signal.getsignal(signal.SIGINT)

    def interrupted(stream, frames):
        values = push(stream, frames)
        os.kill(os.getpid(), signal.SIGINT)
        return values

    monkeypatch.setattr(LiveStream, "push", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_stdin(str(exported), stdin=Pipe(pcm_of(6_400).tobytes(), sizes=(2560,)), stdout=output)
    monkeypatch.setattr(LiveStream, "push", push)
    assert output.getvalue().splitlines() == lines_of(exported, Pipe(pcm_of(6_400)[:1280].tobytes()))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_reader_that_has_enough_ends_the_command_quietly(exported):
    out, into = os.pipe()
    with open(into, "w") as stdout:
        os.close(out)
        predict_stdin(str(exported), stdin=Pipe(pcm_of(64_000).tobytes()), stdout=stdout)
        stdout.write("goes nowhere")  # closing would fail if the pipe were still there


@pytest.mark.slow
def test_in_a_shell_head_gets_its_lines_and_both_commands_succeed(exported, tmp_path):
    (tmp_path / "sound.raw").write_bytes(pcm_of(16_000 * 60).tobytes())
    command = f"{sys.executable} -m affect.serving.predict --model_dir={exported} --input=- < {tmp_path}/sound.raw"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -3"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "Error" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["time", "0.040", "0.080"]
