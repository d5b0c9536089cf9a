"""Sound that is read back equals what was written, or one line says why not."""

import os
import re
import tracemalloc

import av
import numpy as np
import pytest
import soundfile

from affect.errors import UserError
from affect.media.audio import mean_and_std, read_audio
from tests.helpers.sounds import AMPLITUDE, amplitude, encode, encoder, plain, tone, with_chunk, with_sizes
from tests.helpers.trees import snr_db, tones, write_video
from tests.helpers.videos import write_clip

AAC = {"codec": "aac", "rate_hz": 44_100, "signal": tone(44_100)}
# Each file has two seconds of the tone: its name, how it is written, and by how much it may be longer. Codecs fill
# their last block; MPEG data without a tag also keep the padding in front.
KINDS = {
    "flac from a pipe": ("a.flac", encoder("flac", "flac", piped=True), 0),
    "Ogg FLAC": ("a.flac", encoder("flac", "ogg"), 0),
    "AAC": ("a.wav", encoder("aac", "adts"), 0.06),
    "m4a": ("a.wav", encoder("aac", "ipod"), 0),
    "Opus": ("a.wav", encoder("libopus", "ogg", 48_000), 0.02),
    "WMA": ("a.wav", encoder("wmav2", "asf", bit_rate=128_000), 0.1),
    "WMA in WAV": ("a.wav", encoder("wmav2", "wav", bit_rate=128_000), 0.1),
    "AC-3 in WAV": ("a.wav", encoder("ac3", "wav"), 0.05),
    "MP3 in WAV": ("a.wav", encoder("libmp3lame", "wav"), 0.06),
    "MP3": ("a.wav", encoder("libmp3lame", "mp3"), 0),
    "G.726": ("a.wav", encoder("g726", "wav", 8_000, bit_rate=32_000), 0),
    "GSM": ("a.wav", plain("GSM610", rate_hz=8_000), 0.05),
    "IMA ADPCM": ("a.wav", plain("IMA_ADPCM"), 0.05),
    "Microsoft ADPCM": ("a.wav", plain("MS_ADPCM"), 0.05),
    "A-law": ("a.wav", plain("ALAW"), 0),
    "mu-law": ("a.wav", plain("ULAW"), 0),
    "64-bit float": ("a.wav", plain("DOUBLE"), 0),
    "extensible header": ("a.wav", plain("PCM_24", "WAVEX"), 0),
    "RF64": ("a.wav", plain("PCM_16", "RF64"), 0),
    "Wave64": ("a.wav", plain("PCM_16", "W64"), 0),
    "AIFF": ("a.wav", plain("PCM_16", "AIFF"), 0),
    "AIFF-C": ("a.aiff", plain("FLOAT", "AIFF"), 0),
    "WAV": ("a.mp3", plain("PCM_16"), 0),
    "sizes of 0": ("a.wav", with_sizes(0, 0), 0),
    "a data size of 0": ("a.wav", with_sizes(None, 0), 0),
    "sizes of all ones": ("a.wav", with_sizes(2**32 - 1, 2**32 - 1), 0),
    "an odd chunk": ("a.wav", with_chunk(b"note", b"odd"), 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_and_not_the_name_says_how_sound_is_read(tmp_path, kind):
    name, write, longer_secs = KINDS[kind]
    write(tmp_path / name)
    remarks = []
    read = read_audio(tmp_path / name, remarks)
    assert -0.001 < read.size / 16_000 - 2 <= longer_secs + 0.001
    size, rest = amplitude(read)
    assert size == pytest.approx(AMPLITUDE, rel=0.06) and rest < 0.04
    assert remarks == []


@pytest.mark.parametrize("muxer", ["mp3", "wav"])
def test_mpeg_sound_that_is_cut_ends_where_it_is_cut(tmp_path, muxer):
    """The header announces the length of the whole and fills the rest with whatever the memory held."""
    encoder("libmp3lame", muxer)(tmp_path / "a.wav")
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    remarks = []
    read = read_audio(tmp_path / "a.wav", remarks)
    assert read.size / 16_000 == pytest.approx(1.0, abs=0.06)
    assert amplitude(read)[0] == pytest.approx(AMPLITUDE, rel=0.06)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), read)
    (remark,) = remarks
    assert "of sound, but the file holds 0.9" in remark or "of sound, but the file holds 1.0" in remark


def test_only_what_libsndfile_delivers_is_used(tmp_path, monkeypatch):
    """A decoder that stops early gives up to FFmpeg, which reads the rest."""
    plain("PCM_16")(tmp_path / "a.wav")
    deliver = soundfile.SoundFile._cdata_io  # read() and blocks() both come here
    monkeypatch.setattr(
        soundfile.SoundFile, "_cdata_io", lambda self, action, data, ctype, frames: min(
            deliver(self, action, data, ctype, frames), 44_100 if self.tell() <= 88_200 else 0
        ),
    )  # fmt: skip
    remarks = []
    read = read_audio(tmp_path / "a.wav", remarks)
    assert read.size == 32_000 and amplitude(read)[0] == pytest.approx(AMPLITUDE, rel=1e-3)
    assert remarks == ["the file is damaged (libsndfile: 1.00 s of 2.00 s could be read); it was read with FFmpeg"]


def test_a_wav_that_is_cut_is_read_to_its_end_with_a_remark(tmp_path):
    plain("PCM_16")(tmp_path / "a.wav")
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: 44 + 2 * 22_050])
    remarks = []
    assert read_audio(tmp_path / "a.wav", remarks).size == 8_000
    assert remarks == ["the header announces 2.00 s of sound, but the file holds 0.50 s; is it truncated?"]


def test_fragments_of_sound_of_which_the_last_is_cut_are_read_with_a_remark(tmp_path):
    path, remarks = tmp_path / "a.m4a", []
    fragments = {"movflags": "empty_moov+delay_moov", "frag_duration": "200000"}
    write_clip(path, sound=tone, audio=("alac", 48_000, "mono"), muxer="mp4", muxer_options=fragments)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"moof") + 20])
    read = read_audio(path, remarks)
    assert 1.5 < read.size / 16_000 < 2.0 and amplitude(read)[0] == pytest.approx(AMPLITUDE, rel=1e-3)
    (remark,) = remarks
    assert re.fullmatch(r"the last \d+ bytes of the file are missing; it is cut", remark)


def test_chunks_after_an_empty_sound_are_not_sound(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 44_100)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes() + b"LIST\xe8\x03\0\0" + bytes(range(250)) * 4)
    with pytest.raises(UserError, match=r"a\.wav: the file contains no samples"):
        read_audio(tmp_path / "a.wav")


def test_what_both_decoders_refuse_is_refused_with_both_reasons(tmp_path):
    (tmp_path / "a.wav").write_text("not a sound\n" * 100)
    with pytest.raises(UserError) as refused:
        read_audio(tmp_path / "a.wav")
    assert str(refused.value) == (
        f"{tmp_path}/a.wav: cannot be decoded as sound (libsndfile: Format not recognised; FFmpeg: Invalid data found "
        "when processing input); check the file"
    )


def test_a_damaged_block_of_flac_is_silence_and_not_noise(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.1, 0.1, 88_200), 44_100)
    intact = read_audio(tmp_path / "a.flac")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[len(content) // 2] ^= 0x55
    (tmp_path / "a.flac").write_bytes(content)
    remarks = []
    read = read_audio(tmp_path / "a.flac", remarks)
    changed = np.flatnonzero(read != intact)
    assert read.size == intact.size and 0 < np.ptp(changed) / 16_000 < 0.11
    inner = read[changed[0] + 160 : changed[-1] - 160]  # without the resampler's transients
    assert inner.size > 1_200 and not inner.any()
    assert remarks[0].startswith("the file is damaged (libsndfile: ") and remarks[1].startswith(
        "the file has no sound for 0.09 s in total"
    )


def test_damage_that_cannot_be_passed_over_is_refused_with_its_time(tmp_path):
    encode(tmp_path / "a.ts", AAC)
    packets = (tmp_path / "a.ts").read_bytes()
    middle = len(packets) // 188 // 2
    (tmp_path / "a.ts").write_bytes(packets[: 188 * middle] + packets[188 * (middle + 3) :])
    with pytest.raises(
        UserError, match=r"a\.ts: cannot be decoded as sound \(FFmpeg: Invalid data .* at (0\.9|1\.0)\d"
    ):
        read_audio(tmp_path / "a.ts")


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "aac"), ("webm", "libopus")])
def test_a_clock_that_starts_again_is_refused_with_its_time(tmp_path, suffix, codec):
    encode(tmp_path / f"a.{suffix}", AAC | {"codec": codec, "rate_hz": 48_000, "signal": tone(48_000)})
    part = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(part + part)
    message = r"the clock of the sound jumps back from 2\.0\d s to -?0\.0\d s; .*concat demuxer, or split the recording"
    with pytest.raises(UserError, match=message):
        read_audio(tmp_path / f"a.{suffix}")


def test_files_of_which_only_the_first_part_would_be_read_are_refused(tmp_path):
    encode(tmp_path / "a.m4a", AAC)
    (tmp_path / "a.m4a").write_bytes((tmp_path / "a.m4a").read_bytes() * 2)
    with pytest.raises(UserError, match=r"a\.m4a: the file was joined from several, and only the first would be read"):
        read_audio(tmp_path / "a.m4a")


def test_the_parts_of_chained_ogg_follow_each_other(tmp_path):
    encoder("libopus", "ogg", 48_000)(tmp_path / "a.ogg")
    part = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "a.ogg").write_bytes(part + part)
    read = read_audio(tmp_path / "a.ogg")
    assert read.size / 16_000 == pytest.approx(4.0, abs=0.03)
    assert amplitude(read[-32_000:])[0] == pytest.approx(AMPLITUDE, rel=0.06)


@pytest.mark.parametrize("by_secs", [-0.3, 0.3, 2.0])
def test_sound_stays_at_its_time_after_a_gap_or_an_overlap(tmp_path, by_secs):
    """A stream of two seconds, and one that starts earlier or later than its end and has a burst at 0.5 s."""
    burst = np.zeros(44_100)
    burst[22_050:26_460] = 0.5
    encode(tmp_path / "a.ts", AAC | {"codec": "mp2", "signal": np.zeros(88_200)})
    encode(tmp_path / "b.ts", AAC | {"codec": "mp2", "signal": burst, "start_secs": 2 + by_secs})
    (tmp_path / "a.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    remarks = []
    loud = np.flatnonzero(np.abs(read_audio(tmp_path / "a.ts", remarks)) > 8_000)
    assert loud[0] / 16_000 == pytest.approx(2.5 + by_secs, abs=0.015)
    assert loud[-1] / 16_000 == pytest.approx(2.6 + by_secs, abs=0.015)
    if by_secs == 2.0:
        (remark,) = remarks
        assert re.fullmatch(
            r"the file has no sound for (1\.9|2\.0)\d s in total, first at 2\.0\d s; .* silence here", remark
        )
    else:
        assert remarks == []


def test_a_late_start_is_silence_with_a_remark(tmp_path):
    encode(tmp_path / "a.mkv", AAC | {"codec": "flac", "start_secs": 1.5})
    remarks = []
    read = read_audio(tmp_path / "a.mkv", remarks)
    assert read.size / 16_000 == pytest.approx(3.5, abs=0.001) and not read[:23_900].any()
    assert remarks == ["the file has no sound for 1.50 s in total, first at 0.00 s; this is silence here"]


def test_the_padding_of_aac_in_mp4_is_not_sound(tmp_path):
    encode(tmp_path / "a.m4a", AAC)
    read = read_audio(tmp_path / "a.m4a")
    assert read.size == 32_000
    assert snr_db(tone(16_000), read / 32_768) > 30  # in phase


def test_the_number_of_channels_may_change_but_not_the_sampling_rate(tmp_path):
    part = AAC | {"codec": "ac3"}
    encode(tmp_path / "two.ac3", part | {"signal": np.stack([tone(44_100)] * 2, axis=1)})
    encode(tmp_path / "one.ac3", part)
    encode(tmp_path / "48.ac3", part | {"rate_hz": 48_000, "signal": tone(48_000)})
    two, one, faster = ((tmp_path / f"{name}.ac3").read_bytes() for name in ("two", "one", "48"))
    (tmp_path / "a.ac3").write_bytes(two + one)
    read = read_audio(tmp_path / "a.ac3")
    assert read.size / 16_000 == pytest.approx(4.0, abs=0.1)
    for half in (read[:32_000], read[-32_000:]):
        assert amplitude(half)[0] == pytest.approx(AMPLITUDE, rel=0.06)
    (tmp_path / "a.ac3").write_bytes(two + faster)
    with pytest.raises(UserError, match=r"changes from 44100 to 48000 Hz at 2\.0\d s within the file; convert"):
        read_audio(tmp_path / "a.ac3")


def test_pipes_and_folders_are_refused_without_reading_them(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")  # reading it would wait for a writer
    (tmp_path / "folder.wav").mkdir()
    for name in ("pipe.wav", "folder.wav"):
        with pytest.raises(UserError, match=rf"{name}: is not a regular file but a folder, pipe or device"):
            read_audio(tmp_path / name)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with pytest.raises(UserError, match=r"loop\.wav: audio file does not exist"):
        read_audio(tmp_path / "loop.wav")


@pytest.mark.parametrize("suffix", ["wav", "mov"])
def test_one_channel_is_used_where_two_cancel_each_other(tmp_path, suffix):
    both = np.stack([0.9 * tone(44_100), -tone(44_100)], axis=1)
    encode(tmp_path / f"a.{suffix}", {"codec": "pcm_s16le", "rate_hz": 44_100, "signal": both})
    remarks = []
    read = read_audio(tmp_path / f"a.{suffix}", remarks)
    assert amplitude(read)[0] == pytest.approx(AMPLITUDE, rel=1e-3)
    assert remarks == [
        "the 2 channels cancel each other (channels 1 and 2 have a correlation of -1.00; one is probably inverted); "
        "only channel 2, the loudest, was used"
    ]


def test_a_silent_channel_beside_a_live_one_halves_the_sound_as_before(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(44_100), np.zeros(88_200)], axis=1), 44_100)
    remarks = []
    assert amplitude(read_audio(tmp_path / "a.wav", remarks))[0] == pytest.approx(AMPLITUDE / 2, rel=1e-3)
    assert remarks == []


@pytest.mark.parametrize(
    ("rate_hz", "subtype", "suffix", "min_snr_db"),
    [
        (16_000, "PCM_16", "wav", 60),
        (22_050, "PCM_16", "flac", 60),
        (44_100, "PCM_24", "wav", 60),
        (48_000, "FLOAT", "WAV", 60),
        (96_000, "PCM_32", "wav", 60),
        (48_000, "PCM_24", "flac", 60),
        (44_100, "PCM_U8", "wav", 35),  # the limit of 8 bits
        (44_100, "MPEG_LAYER_III", "mp3", 30),  # the codec is lossy
    ],
)
def test_sound_in_any_format_is_read_as_the_same_tones_at_16_khz(tmp_path, rate_hz, subtype, suffix, min_snr_db):
    signal = tones(rate_hz)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([signal, signal], axis=1), rate_hz, subtype=subtype, format=suffix.upper())
    read = read_audio(path) / 32_768.0
    expected = tones(16_000)
    assert suffix == "mp3" or read.size == expected.size
    assert snr_db(expected, read[: expected.size]) > min_snr_db


@pytest.mark.parametrize("codec", ["alac", "aac"])
@pytest.mark.parametrize("late_secs", [0.0, 0.3])
def test_the_sound_track_of_a_video_keeps_its_place_in_time(tmp_path, codec, late_secs):
    """A burst is 1.5 s into the sound track, which starts at 0 or late."""
    burst = np.zeros(3 * 44_100)
    burst[66_150 : 66_150 + 4_410] = np.random.default_rng(0).uniform(-0.5, 0.5, 4_410)
    write_video(
        tmp_path / "v.mp4",
        [np.full((64, 64, 3), 50, np.uint8)] * 75,
        sound=burst,
        sound_codec=codec,
        sound_start_secs=late_secs,
    )
    read = read_audio(tmp_path / "v.mp4").astype(float)
    loud = np.flatnonzero(np.abs(read) > 0.2 * np.abs(read).max())
    assert loud[0] / 16_000 == pytest.approx(1.5 + late_secs, abs=0.003)
    assert loud[-1] / 16_000 == pytest.approx(1.6 + late_secs, abs=0.003)
    assert read.size / 16_000 == pytest.approx(3.0 + late_secs, abs=0.07)


def test_two_channels_are_averaged_and_full_scale_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile([[0.5, -0.25]], (16_000, 1)), 16_000, subtype="FLOAT")
    assert set(read_audio(tmp_path / "a.wav")) == {4096}
    soundfile.write(tmp_path / "b.wav", np.full(16_000, 1.5), 16_000, subtype="FLOAT")
    assert set(read_audio(tmp_path / "b.wav")) == {32_767}


@pytest.mark.parametrize("content", [b"", b"RIFFnonsense"])
def test_unreadable_sound_names_the_file(tmp_path, content):
    (tmp_path / "broken.wav").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.wav: cannot be decoded as sound"):
        read_audio(tmp_path / "broken.wav")
    with pytest.raises(UserError, match=r"missing\.wav: audio file does not exist"):
        read_audio(tmp_path / "missing.wav")


def test_lost_sound_packets_become_silence_and_do_not_shift_the_rest(tmp_path):
    sound = np.zeros(3 * 44_100)
    sound[66_150:70_560] = 0.5
    write_video(tmp_path / "v.mp4", [np.full((64, 64, 3), 50, np.uint8)] * 75, sound=sound)
    with av.open(str(tmp_path / "v.mp4")) as source, av.open(str(tmp_path / "lossy.mkv"), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            lost = (
                packet.stream.type == "audio" and packet.pts is not None and 0.5 < packet.pts * packet.time_base < 1.1
            )
            if packet.size and not lost:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    read = read_audio(tmp_path / "lossy.mkv").astype(float)
    loud = np.flatnonzero(np.abs(read) > 0.5 * np.abs(read).max())
    assert loud[0] / 16_000 == pytest.approx(1.5, abs=0.003) and loud[-1] / 16_000 == pytest.approx(1.6, abs=0.003)
    assert read.size / 16_000 == pytest.approx(3.0, abs=0.05)


def test_mean_and_std_are_those_of_the_samples():
    pcm = np.random.default_rng(0).integers(-30_000, 30_000, 3_000_000).astype(np.int16)
    mean, std = mean_and_std(pcm)
    assert mean == pytest.approx(pcm.mean() / 32_768, abs=1e-9)
    assert std == pytest.approx(pcm.std() / 32_768, rel=1e-9)


def test_a_long_recording_is_held_only_once(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(1200 * 16_000, np.int16), 16_000)
    tracemalloc.start()
    try:
        pcm = read_audio(tmp_path / "long.wav")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pcm.size == 1200 * 16_000 and peak < 1.7 * pcm.nbytes
