"""Damaged and wrong files: each gives one line that names the fault, and no incomplete output is left."""

import json
import os
import re
import shutil
import struct
import zlib

import av
import numpy as np
import pytest
import soundfile

from affect.errors import UserError
from tests.helpers import sounds, trees, videos
from tests.helpers.commands import error_lines, made_once, run_command
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing


@pytest.fixture(scope="module")
def intact_trees(tmp_path_factory, worker_id):
    """One corpus per layout, without any fault."""

    def make(path):
        trees.avec2016_tree(path / "avec2016", boxes=True)
        rows = [f"'train_1';{k / 25:.6f};{k / 7:e}" for k in range(trees.FRAMES)]
        trees.write_lines(path / "avec2016" / FEATURES, ["name;frameTime;loudness", *rows])
        trees.write_lines(
            path / "avec2016/recordings_video_frame_time/train_1.csv",
            ["frame;time", *(f"{k};{k / 25:.2f}" for k in range(trees.FRAMES))],
        )
        trees.recola_tree(path / "recola")
        trees.tzirakis_tree(path / "tzirakis")
        trees.table_tree(path / "table")

    return made_once(tmp_path_factory, worker_id, "intact_trees", make)


def text(path, old, new):
    """Replaces text in a file; the old text must be there."""
    content = path.read_text(encoding="utf-8")
    assert old in content
    path.write_text(content.replace(old, new, 1), encoding="utf-8")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_png_as_video(path):
    """Writes a picture of 15 000 x 15 000 black pixels in 30 kB."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(15_000 * (15_000 // 8 + 1)))
    header = struct.pack(">IIBBBBB", 15_000, 15_000, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(png)


def write_huge_pictures(path):
    """Writes uncompressed pictures of 16 x 16 pixels under a header that says 15 000 x 15 000."""
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")))
    content = path.read_bytes()
    assert content.count(struct.pack("<ii", 16, 16)) == 2  # in the headers of the file and of the track
    path.write_bytes(content.replace(struct.pack("<ii", 16, 16), struct.pack("<ii", 15_000, 15_000)))


def list_playlist(table, instead_of):
    """Lists a playlist in the table, for a video with sound that lies outside the corpus."""
    outside = table.parent.parent / "secret.ts"
    trees.write_video(outside, trees.face_pictures(), sound=trees.tones(44_100), sound_codec="aac")
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", "#EXTINF:4,", str(outside), "#EXT-X-ENDLIST"]
    trees.write_lines(table.with_name("v.m3u8"), lines)
    text(table, instead_of, "v.m3u8")


def write_list_of_videos(path):
    path.rename(path.with_name("other.mp4"))
    trees.write_lines(path, ["ffconcat version 1.0", "file other.mp4"])


def write_sound_without_pictures(path):
    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), "fltp", "mono")
        frame.sample_rate = 44_100
        container.mux(track.encode(frame))
        container.mux(track.encode())


def encode_twice(path, codec, muxer, **options):
    """Writes a tone with FFmpeg, and the same bytes behind it once more, as `cat` does."""
    sounds.encode(path, {"codec": codec, "rate_hz": 48_000, "signal": sounds.tone(48_000)}, muxer=muxer, **options)
    path.write_bytes(2 * path.read_bytes())


def write_with_lost_packets(path):
    """Writes a tone as AAC in a transport stream, of which packets in the middle are missing."""
    sounds.encoder("aac", "mpegts")(path)
    packets = [path.read_bytes()[at : at + 188] for at in range(0, path.stat().st_size, 188)]
    path.write_bytes(b"".join(packets[: len(packets) // 2] + packets[len(packets) // 2 + 3 :]))


def write_two_rates(path):
    """Writes two tones of different sampling rates into one file."""
    parts = []
    for rate_hz in (44_100, 48_000):
        sounds.encoder("ac3", "ac3", rate_hz)(path)
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))


def write_cut_flac(path):
    sounds.plain("PCM_16", "FLAC")(path)
    truncate(path)


def write_empty_sound_before_another_chunk(path):
    soundfile.write(path, np.zeros(0), 44_100, format="WAV")
    path.write_bytes(path.read_bytes() + b"LIST\x04\0\0\0INFO")


def rewrite_video(path, suffix, spoil=lambda path: None):
    """Writes a second of grey pictures in another format, whatever the name of the video says; then spoils it."""
    other = path.with_name(f"other{suffix}")
    trees.write_video(other, [videos.grey(40 + 4 * k) for k in range(25)])
    spoil(other)
    other.replace(path)


def cut_to_60_percent(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def twice(path):
    path.write_bytes(2 * path.read_bytes())


def encrypt(path):
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    videos.write_coded(path, "libx264", "yuv420p", [videos.grey(40 + 4 * k) for k in range(25)], key)


def write_with_a_pause(path):
    """Writes two pictures 700 s apart."""
    other = path.with_name("other.mkv")
    trees.write_video(other, [videos.grey(40), videos.grey(80)], times_secs=[0.0, 700.0])
    other.replace(path)


def header_claims(path, rate_hz):
    """Changes the sampling rate in the header of a WAV file."""
    content = bytearray(path.read_bytes())
    content[24:28] = rate_hz.to_bytes(4, "little")
    path.write_bytes(bytes(content))


def codes(path, known, unknown):
    """Renames a codec in the sample table of an mp4 file."""
    content = path.read_bytes()
    at = content.rindex(known)
    path.write_bytes(content[:at] + unknown + content[at + 4 :])


def write_hours_of_silence(path):
    """Writes half a megabyte of FLAC under the name of a WAV file."""
    with soundfile.SoundFile(path, "w", 2_000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(20):
            file.write(np.zeros(2_000 * 3_600, np.int16))


def link_loop(path):
    path.unlink()
    os.symlink(path.with_suffix(".b"), path)
    os.symlink(path, path.with_suffix(".b"))


def folder_loop(folder):
    shutil.rmtree(folder)
    os.symlink(folder.parent, folder)


WAV, MP4, BOXES = (
    "recordings_audio/train_1.wav",
    "recordings_video/train_1.mp4",
    "features_video_face_bounding_box/train_1.arff",
)
GOLD, TIMES = "ratings_gold_standard/arousal/train_1.arff", "recordings_video_frame_time/train_1.csv"
RECOLA = "RECOLA-Annotation/emotional_behaviour/arousal/P16.csv"
TZIRAKIS = "Ratings_affective_behaviour_CCC_centred/valence/P16.csv"
LABELS = "labels/anna.csv"
FEATURES = "features_audio/train_1.csv"
ROW = "anna,train,sound/anna voice.wav,anna.mp4,labels/anna.csv"

# For every fault: the layout, the file, what is done to it, and a part of the message.
FAULTS = {
    "empty wav": ("avec2016", WAV, lambda p: p.write_bytes(b""), "train_1.wav: cannot be decoded as sound"),
    "garbage wav": ("avec2016", WAV, lambda p: p.write_bytes(b"RIFFnonsense"), "cannot be decoded as sound"),
    "wav cut": ("avec2016", WAV, truncate, "sound, video and labels differ in length (audio 2.00 s"),
    "wav without samples": ("avec2016", WAV, lambda p: soundfile.write(p, np.zeros(0), 44_100), "contains no samples"),
    "wav with NaN": (
        "avec2016", WAV, lambda p: soundfile.write(p, np.full(176_400, np.nan), 44_100, subtype="FLOAT"),
        "samples that are NaN or infinite",
    ),
    "wav of 1 MHz": ("avec2016", WAV, lambda p: header_claims(p, 1_000_000), "sampling rate of 1000000 Hz"),
    "wav of 3 Hz": ("avec2016", WAV, lambda p: header_claims(p, 3), "a sampling rate of 3 Hz is not plausible"),
    "empty mp4": ("avec2016", MP4, lambda p: p.write_bytes(b""), "train_1.mp4: cannot be decoded as video"),
    "mp4 cut": ("avec2016", MP4, truncate, "train_1.mp4: cannot be decoded as video"),
    "text as mp4": ("avec2016", MP4, lambda p: p.write_text("hello"), "cannot be decoded as video"),
    "mp4 without pictures": ("avec2016", MP4, write_sound_without_pictures, "has no video track"),
    "huge picture as video": ("avec2016", MP4, write_png_as_video, "files of format png_pipe are not read"),
    "video of huge pictures": ("avec2016", MP4, write_huge_pictures, "15000 x 15000 pixels are too large for a video"),
    "playlist as video": (
        "table", "corpus.csv", lambda p: list_playlist(p, "anna.mp4"), "v.m3u8: files of format hls are not read",
    ),
    "playlist as sound": (
        "table", "corpus.csv", lambda p: list_playlist(p, "sound/anna voice.wav"), "files of format hls are not read",
    ),
    "list of videos as video": (
        "table", "anna.mp4", write_list_of_videos, "anna.mp4: files of format concat are not read; convert it",
    ),
    "address as video": (
        "table", "corpus.csv", lambda p: text(p, "anna.mp4", "http://127.0.0.1:9/v.mp4"),
        "missing: http://127.0.0.1:9/v.mp4",
    ),
    "protocol as video": (
        "table", "corpus.csv", lambda p: text(p, "anna.mp4", "concat:anna.mp4|anna.mp4"), "missing: concat:anna.mp4|",
    ),
    "video of two pictures": (
        "avec2016", MP4, lambda p: trees.write_video(p, trees.face_pictures(2)),
        "differ in length (audio 4.00 s, video 0.08 s",
    ),
    "pictures years apart": (
        "tzirakis", "Video_recordings_MP4/P16.mp4",
        lambda p: trees.write_video(p, trees.face_pictures(2), [0.0, 20_000.0]), "no picture for 20000 s",
    ),
    "mp4 without its sound": (
        "tzirakis", "Video_recordings_MP4/P16.mp4", lambda p: trees.write_video(p, trees.face_pictures()),
        "P16.mp4: the file has no sound track",
    ),
    "link that leads in circles": ("avec2016", MP4, link_loop, "missing: recordings_video/train_1.mp4"),
    "folder that holds itself": (
        "avec2016", "recordings_audio", folder_loop, "missing: recordings_audio/train_1.wav",
    ),
    "empty arff": ("avec2016", GOLD, lambda p: p.write_bytes(b""), "train_1.arff: has no @data line"),
    "arff cut in a row": ("avec2016", GOLD, lambda p: text(p, ",3.96,", ","), "was it cut?"),
    "arff of fewer rows": ("avec2016", GOLD, truncate, "ratings_gold_standard"),
    "arff with a word": ("avec2016", GOLD, lambda p: text(p, ",0.04,", ",soon,"), "line 10: 'frameTime' is 'soon'"),
    "arff with NaN": (
        "avec2016", GOLD, lambda p: p.write_text(p.read_text().rsplit(",", 1)[0] + ",nan\n"),
        "line 109: the rating is nan",
    ),
    "arff with ?": (
        "avec2016", GOLD, lambda p: p.write_text(p.read_text().rsplit(",", 1)[0] + ",?\n"),
        "line 109: the rating is nan",
    ),
    "arff unsorted": ("avec2016", GOLD, lambda p: text(p, ",0.08,", ",0.02,"), "line 11: time 0.02 follows 0.04"),
    "arff time twice": ("avec2016", GOLD, lambda p: text(p, ",0.08,", ",0.04,"), "line 11: time 0.04 is repeated"),
    "arff off the grid": ("avec2016", GOLD, lambda p: text(p, ",3.96,", ",3.98,"), "a rating at 3.98 s where 3.96 s"),
    "arff of other columns": ("avec2016", GOLD, lambda p: text(p, "GoldStandard", "Silver"), "expected columns"),
    "arff beyond the scale": (
        "avec2016", GOLD, lambda p: p.write_text(p.read_text().rsplit(",", 1)[0] + ",77\n"), "ratings lie in [-1, 1]",
    ),
    "boxes not in pixels": (
        "avec2016", BOXES,
        lambda p: p.write_text(p.read_text().replace(",90,100", ",0.2,0.3")), "boxes must be in pixels",
    ),
    "boxes outside the pictures": (
        "avec2016", BOXES,
        lambda p: p.write_text(re.sub(r",[-.0-9]+,[-.0-9]+,90,100", ",5000,5000,90,100", p.read_text())),
        "does not lie in the video's pictures of 320 x 240 pixels",
    ),
    "boxes as corners": ("avec2016", BOXES, lambda p: text(p, "width", "right"), "boxes must be left, top, width and"),
    "video of an unknown codec": (
        "avec2016", MP4, lambda p: codes(p, b"avc1", b"xxxx"), "the codec of the video track is unknown",
    ),
    "sound of an unknown codec": (
        "tzirakis", "Video_recordings_MP4/P16.mp4", lambda p: codes(p, b"alac", b"zzzz"),
        "the codec of the sound track is unknown",
    ),
    "flac of twenty hours": ("avec2016", WAV, write_hours_of_silence, "longer than 6 hours"),
    "labels for 30 years": (
        "table", LABELS, lambda p: p.write_text("time,arousal,valence\n0,0,0\n1e9,0,0\n"), "times in milliseconds?",
    ),
    "ratings after what counts": (
        "recola", RECOLA, lambda p: p.write_text("time;FM1 ;FM2 \n301;0;0\n301.04;0;0\n"), "no ratings in the first",
    ),
    "a quotation mark not closed": (
        "table", "corpus.csv", lambda p: text(p, ROW, ROW + '\nben,"' + "x" * 200_000), "mark not closed?",
    ),
    "a name of 120 bytes": ("table", "corpus.csv", lambda p: text(p, "anna,", "\u8a71" * 40 + ","), "up to 100 bytes"),
    "a table from a spreadsheet": (
        "table", "corpus.csv", lambda p: p.write_text(p.read_text().replace(",", ";")), "expected the header",
    ),
    "boxes of five values": (
        "avec2016", BOXES, lambda p: text(p, "@attribute height numeric", "@attribute height string"),
        "left, top, width",
    ),
    "fewer frame times than pictures": (
        "avec2016", TIMES, lambda p: p.write_text("".join(p.read_text().splitlines(True)[:90])),
        "more pictures than the 89 listed frame times",
    ),
    "frame times go back": ("avec2016", TIMES, lambda p: text(p, "7;0.28", "7;0.01"), "line 9: time 0.01 follows 0.24"),
    "ratings separated by commas": (
        "recola", RECOLA, lambda p: p.write_text(p.read_text().replace(";", ",")),
        "line 1: only one column; are the cells separated by ';'?",
    ),
    "ratings with a hole": ("recola", RECOLA, lambda p: text(p, "0.04;", "0.04;;"), "line 3: 8 cell(s) where 7"),
    "ratings with an empty cell": (
        "recola", RECOLA, lambda p: p.write_text(p.read_text().replace(";0.1000\n", ";\n", 1)),
        "line 2: '' is not a number",
    ),
    "ratings not UTF-8": (
        "recola", RECOLA, lambda p: p.write_bytes(p.read_bytes().replace(b"FM1", b"F\xe9")), "byte 0xE9 is not UTF-8",
    ),
    "gold standard with a header": (
        "tzirakis", TZIRAKIS, lambda p: p.write_text("time,gold\n" + p.read_text()),
        "'time' is",
    ),
    "gold standard of three columns": (
        "tzirakis", TZIRAKIS, lambda p: p.write_text(p.read_text().replace("\n", ",0\n")), "expected two columns",
    ),
    "table in Latin-1": (
        "table", "corpus.csv", lambda p: p.write_bytes(p.read_bytes().replace(b"anna,", b"Ren\xe9,")),
        "line 2: byte 0xE9",
    ),
    "table of other columns": ("table", "corpus.csv", lambda p: text(p, "recording,", "name,"), "none of the layouts"),
    "table without rows": ("table", "corpus.csv", lambda p: text(p, ROW, ""), "lists no recordings"),
    "table with a short row": ("table", "corpus.csv", lambda p: text(p, ROW, "anna,train"), "line 2: 2 cell(s)"),
    "name with a space": ("table", "corpus.csv", lambda p: text(p, "anna,", "anna b,"), "line 2: recording 'anna b'"),
    "name with a quote": ("table", "corpus.csv", lambda p: text(p, "anna,", "an'na,"), "recording \"an'na\""),
    "name that leaves the folder": (
        "table", "corpus.csv", lambda p: text(p, "anna,", "../anna,"),
        "recording '../anna'",
    ),
    "name that is absolute": ("table", "corpus.csv", lambda p: text(p, "anna,", "/tmp/anna,"), "recording '/tmp/anna'"),
    "name without letters": ("table", "corpus.csv", lambda p: text(p, "anna,", "..,"), "recording '..'"),
    "name twice": ("table", "corpus.csv", lambda p: text(p, ROW, f"{ROW}\nANNA{ROW[4:]}"), "ANNA is already in line 2"),
    "partition that is none": (
        "table", "corpus.csv", lambda p: text(p, ",train,", ",training,"),
        "partition 'training'",
    ),
    "path that leaves the folder": (
        "table", "corpus.csv", lambda p: text(p, "anna.mp4", "../../etc/passwd"), "video '../../etc/passwd' must be",
    ),
    "path that is absolute": (
        "table", "corpus.csv", lambda p: text(p, "anna.mp4", "/etc/passwd"),
        "video '/etc/passwd'",
    ),
    "path to nothing": ("table", "corpus.csv", lambda p: text(p, "anna.mp4", "berta.mp4"), "missing: berta.mp4"),
    "neither sound nor pictures": (
        "table", "corpus.csv", lambda p: text(p, ROW, "anna,train,,,labels/anna.csv"), "neither audio nor video",
    ),
    "labels of other columns": ("table", LABELS, lambda p: text(p, "arousal", "anger"), "header time,arousal,valence"),
    "labels at odd times": ("table", LABELS, lambda p: text(p, "\n1.5,", "\n1.55,"), "must come at a regular rate"),
    "text as sound": (
        "avec2016", WAV, lambda p: p.write_text("hello\n" * 99), "(libsndfile: Format not recognised; FFmpeg:",
    ),
    "sound joined from two transport streams": (
        "avec2016", WAV, lambda p: encode_twice(p, "aac", "mpegts"), "the clock of the sound jumps back from",
    ),
    "sound joined from two webm": (
        "avec2016", WAV, lambda p: encode_twice(p, "libopus", "webm"), "the clock of the sound jumps back from",
    ),
    "sound joined from two m4a": (
        "avec2016", WAV, lambda p: encode_twice(p, "aac", "ipod"), "only the first would be read",
    ),
    "sound of two sampling rates": (
        "avec2016", WAV, write_two_rates, "the sampling rate changes from 44100 to 48000 Hz at 2.",
    ),
    "sound with lost packets": ("avec2016", WAV, write_with_lost_packets, "FFmpeg: Invalid data found"),
    "flac that is cut": ("avec2016", WAV, write_cut_flac, "(libsndfile: flac decoder lost sync; FFmpeg:"),
    "wav of chunks without samples": ("avec2016", WAV, write_empty_sound_before_another_chunk, "contains no samples"),
    "the cover of an album as video": (
        "avec2016", MP4,
        lambda p: sounds.encode(
            p, {"codec": "aac", "rate_hz": 44_100, "signal": sounds.tone(44_100)}, cover=videos.grey(40)
        ),
        "the file has no video track",
    ),
    "video joined from two transport streams": (
        "table", "anna.mp4", lambda p: rewrite_video(p, ".ts", twice), "the clock of the video jumps back from",
    ),
    "video joined from two mkv": (
        "table", "anna.mp4", lambda p: rewrite_video(p, ".mkv", twice), "the clock of the video jumps back from",
    ),
    "video joined from two mp4": ("avec2016", MP4, twice, "joined from several, and only the first would be read"),
    "video joined from two flv": (
        "avec2016", MP4, lambda p: rewrite_video(p, ".flv", twice), "only the first would be read",
    ),
    "video that is encrypted": ("avec2016", MP4, encrypt, "the video track is encrypted"),
    "video without its index": (
        "avec2016", MP4, lambda p: rewrite_video(p, ".mp4", cut_to_60_percent), "it may be cut, or not a video",
    ),
    "video with a pause of minutes": ("table", "anna.mp4", write_with_a_pause, "no picture for 700 s before 700 s"),
    "labels as a spreadsheet": (
        "table", LABELS, lambda p: p.write_bytes(b"PK\x03\x04 [Content_Types].xml"),
        "anna.csv: is a spreadsheet or an archive, not text; export it as CSV",
    ),
    "labels in UTF-16 without a mark": (
        "table", LABELS, lambda p: p.write_bytes(p.read_text().encode("utf-16-le")),
        "line 1: contains a zero byte, which text does not; save the file as UTF-8 text",
    ),
    "labels in UTF-16 that is cut": (
        "table", LABELS, lambda p: p.write_bytes(p.read_text().encode("utf-16")[:-1]), "is not UTF-16; save the file",
    ),
    "labels in one huge line": (
        "table", LABELS, lambda p: p.write_text("time,arousal,valence\n" + "0," * 3_000_000),
        "line 2: a line of 6000000 characters is too long for a table",
    ),
    "labels in a cell that never ends": (
        "table", LABELS, lambda p: p.write_text('time,arousal,valence\n0,0,"' + "0" * 200_000), "mark not closed?",
    ),
    "labels of a header only": ("table", LABELS, lambda p: p.write_text("time,arousal,valence"), "no rows of numbers"),
    "labels with an empty cell": (
        "table", LABELS, lambda p: p.write_text("time,arousal,valence\n0,0,0\n1,,0\n"),
        "line 3: '' is not a number (column 'arousal')",
    ),
    "labels with decimal commas between commas": (
        "table", LABELS, lambda p: p.write_text('time,arousal,valence\n0,0,0\n1,"0,5",0\n'),
        "line 3: '0,5' is not a number (column 'arousal'); the decimal mark of this file is '.'",
    ),
    "labels with mixed decimal marks": (
        "table", LABELS, lambda p: p.write_text("time;arousal;valence\n0;0;0\n1;0,5;0\n2;0.5;0\n"),
        "line 4: '0.5' is not a number (column 'arousal'); the decimal mark of this file is ','",
    ),
    "labels with marks of thousands": (
        "table", LABELS, lambda p: p.write_text("time,arousal,valence\n0,0,0\n1_000,0,0\n"),
        "line 3: '1_000' is not a number",
    ),
    "labels from 1 to 9": (
        "table", LABELS, lambda p: p.write_text("time,arousal,valence\n0,5,1\n4,5,9\n"),
        "line 2: arousal is 5; ratings lie in [-1, 1]; write (x - 3) / 2 for a scale from 1 to 5, (x - 5) / 4 for 1",
    ),
    "frame times without a header": (
        "avec2016", TIMES, lambda p: text(p, "frame;time\n", ""),
        "line 1: expected the names of the columns, got 0, 0.00",
    ),
    "labels without a header": ("table", LABELS, lambda p: p.write_text("0,0,0\n4,0,0\n"), "columns, got 0, 0, 0"),
    "ratings of one rater twice": (
        "recola", RECOLA, lambda p: text(p, ";FM2 ;", ";FM1 ;"), "two columns are named 'FM1'; give each a name",
    ),
    "ratings of a rater without a name": ("recola", RECOLA, lambda p: text(p, ";FM2 ;", ";;"), "column 3 has no name"),
    "features without times": (
        "avec2016", FEATURES, lambda p: text(p, "frameTime", "F0"),
        "expected frameTime and then values, got F0, loudness",
    ),
    "features without a header": (
        "avec2016", FEATURES, lambda p: p.write_text("'train_1';0.00;1.5\n'train_1';0.04;1.5\n"),
        "line 1: expected the names of the columns, got 'train_1', 0.00, 1.5",
    ),
    "features of one name twice": (
        "avec2016", FEATURES, lambda p: p.write_text("frameTime;F0;F0\n0;1;2\n"), "two columns are named 'F0'",
    ),
    "features with an unknown column of text": (
        "avec2016", FEATURES, lambda p: text(p, "name;", "who;"),
        "line 2: \"'train_1'\" is not a number (column 'who')",
    ),
    "features in milliseconds": (
        "avec2016", FEATURES, lambda p: p.write_text("frameTime;F0\n0;1\n40;2\n80;2\n"),
        "rows are 40 s apart; are the times in milliseconds?",
    ),
    "features at one time twice": (
        "avec2016", FEATURES, lambda p: text(p, ";0.080000;", ";0.040000;"), "line 4: time 0.04 is repeated",
    ),
    "features cut in a row": (
        "avec2016", FEATURES, lambda p: text(p, ";0.080000;", ";"),
        "line 4: 2 cell(s) where 3 were expected; was it cut?",
    ),
    "features as an old spreadsheet": (
        "avec2016", FEATURES, lambda p: p.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "is a spreadsheet or an",
    ),
    "a picture as labels": ("table", LABELS, write_png_as_video, "is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_no_output_is_left(intact_trees, tmp_path, fault):
    layout, relative, spoil, message = FAULTS[fault]
    shutil.copytree(intact_trees / layout, tmp_path / "corpus", symlinks=True)
    spoil(tmp_path / "corpus" / relative)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as refused:
        make_tfrecords(find_corpus(str(tmp_path / "corpus")), tmp_path / "out", Preprocessing(), processes=1)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was written outside the output folder or left in it


def test_the_corpora_without_a_fault_are_accepted(intact_trees, tmp_path):
    for layout in ("avec2016", "recola", "tzirakis", "table"):
        corpus = find_corpus(str(intact_trees / layout))
        assert corpus.layout == layout
        assert not make_tfrecords(corpus, tmp_path / layout, Preprocessing(), processes=1)


def test_a_failed_recording_is_reported_the_others_are_kept_and_the_exit_code_is_two(intact_trees, tmp_path):
    root = tmp_path / "corpus"
    shutil.copytree(intact_trees / "table", root)
    (root / "broken.mp4").write_bytes(b"garbage")
    rows = [ROW, "ben,dev,,anna.mp4,labels/anna.csv", "carla,dev,,broken.mp4,labels/anna.csv"]
    trees.write_lines(root / "corpus.csv", ["recording,partition,audio,video,labels", *rows])
    command = ["-m", "tfrecords_tools.make_tfrecords", f"--corpus_dir={root}", f"--output_dir={tmp_path}/records"]
    done = run_command(*command, "--processes=1")
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert line.startswith("error: 1 of 3 recording(s) failed: carla: ") and "broken.mp4: cannot be decoded" in line
    assert not (tmp_path / "records/manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "records").glob("*/*.tfrecord")}
    assert len(kept) == 2

    (root / "broken.mp4").unlink()
    shutil.copy(root / "anna.mp4", root / "broken.mp4")
    make_tfrecords(find_corpus(str(root)), tmp_path / "records", Preprocessing(), processes=1)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # finished recordings were not made again
    manifest = json.loads((tmp_path / "records/manifest.json").read_text())
    assert [entry["name"] for entry in manifest["recordings"]] == ["anna", "ben", "carla"]


def test_failed_recordings_can_be_left_out_on_purpose(intact_trees, tmp_path):
    root = tmp_path / "corpus"
    shutil.copytree(intact_trees / "table", root)
    (root / "broken.mp4").write_bytes(b"garbage")
    rows = [ROW, "carla,dev,,broken.mp4,labels/anna.csv"]
    trees.write_lines(root / "corpus.csv", ["recording,partition,audio,video,labels", *rows])
    left_out = make_tfrecords(
        find_corpus(str(root)), tmp_path / "records", Preprocessing(), allow_missing=True, processes=1
    )
    assert list(left_out) == ["carla"]
    manifest = (tmp_path / "records/manifest.json").read_text()
    assert "broken.mp4: cannot be decoded as video" in manifest and str(tmp_path) not in manifest
