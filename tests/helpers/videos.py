"""Writes small videos as they occur in the wild: turned, joined, cut, in other codecs and colours."""

import struct
from fractions import Fraction

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from tests.helpers.sounds import Pipe, sound_frame

_IDENTITY = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
CORNERS = {"R": (200, 40, 40), "G": (40, 200, 40), "B": (40, 40, 200), "Y": (200, 200, 40)}


def grey(level, height=64, width=64):
    """Returns an RGB picture of one grey."""
    return np.full((height, width, 3), level, np.uint8)


def four_colours(height=48, width=64):
    """Returns an RGB picture whose quarters are red, green (top), blue and yellow (bottom)."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = CORNERS["R"], CORNERS["G"]
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = CORNERS["B"], CORNERS["Y"]
    return picture


def corners_of(picture):
    """Returns the letters of `CORNERS` at top left, top right, bottom left and bottom right."""
    height, width = picture.shape[:2]
    seen = [picture[y, x].astype(int) for y in (height // 4, -height // 4) for x in (width // 4, -width // 4)]
    return "".join(min(CORNERS, key=lambda name: np.abs(colour - CORNERS[name]).sum()) for colour in seen)


def set_display_matrix(path, a, b, c, d, u=0.0):
    """Writes a display matrix into the header of an mp4: x' = a x + c y and y' = b x + d y; u is its perspective."""
    content = path.read_bytes()
    at = content.index(_IDENTITY, content.index(b"tkhd"))
    matrix = [round(a * 65536), round(b * 65536), round(u * (1 << 30)), round(c * 65536), round(d * 65536)]
    path.write_bytes(content[:at] + struct.pack(">9i", *matrix, 0, 0, 0, 1 << 30) + content[at + 36 :])


def with_number(content, box, offset, number):
    """Returns the bytes of an mp4 with another 32-bit number behind the name of the first box of a kind."""
    changed = bytearray(content)
    struct.pack_into(">I", changed, content.index(box) + 4 + offset, number)
    return bytes(changed)


def write_coded(path, codec, pixel_format, pictures, container_options=None, **context):
    """Writes RGB pictures in any codec at 25 fps; `context` sets attributes of the codec context, such as color_trc."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            colours = {"dst_colorspace": context.get("colorspace"), "dst_color_range": context.get("color_range")}
            frame = frame.reformat(format=pixel_format, **{k: v for k, v in colours.items() if v is not None})
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_clip(
    path, pictures=(), times_secs=None, sound=None, video=("libx264", "yuv420p"), audio=("aac", 48_000, "mono"),
    sound_start_secs=0.0, muxer=None, piped=False, timecode=None, muxer_options=None, options=None, **context,
):  # fmt: skip
    """Writes a video as recorders do: sound and pictures interleaved, each picture at its own time.

    Args:
      path: the file.
      pictures: RGB pictures; none for sound only.
      times_secs: their presentation times; None: 25 pictures per second.
      sound: a function that returns the signal, [samples] or [samples, channels], at a given sampling rate.
      video: codec and pixel format of the pictures.
      audio: codec, sampling rate and channel layout of the sound.
      sound_start_secs: presentation time of the first sample.
      muxer: FFmpeg's name of the format; None: by the suffix.
      piped: the muxer cannot go back to complete its header, as in a browser.
      timecode: of the first picture; MOV keeps it in a data track.
      muxer_options: of the muxer.
      options: of the encoder of the pictures.
      context: attributes of the codec context of the pictures, such as color_trc.
    """
    clock = Fraction(1, 12_800) if times_secs is None else Fraction(1, 90_000)
    pipe = Pipe()
    with av.open(pipe if piped else str(path), "w", format=muxer, options=muxer_options or {}) as container:
        packets, stream, track = [], None, None
        if len(pictures):
            stream = container.add_stream(video[0], rate=25, options=options or {})
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = video[1]
            if times_secs is not None:
                stream.codec_context.time_base = clock
            if timecode:
                stream.metadata["timecode"] = timecode
            for name, value in context.items():
                setattr(stream.codec_context, name, value)
        if sound is not None:
            codec, rate_hz, layout = audio
            track = container.add_stream(codec, rate=rate_hz, layout=layout, bit_rate=128_000)
        if stream is not None:
            for k, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=video[1])
                if times_secs is not None:
                    frame.pts, frame.time_base = round(times_secs[k] / clock), clock
                packets += stream.encode(frame)
            packets += stream.encode()
        if track is not None:
            packets += track.encode(sound_frame(sound(rate_hz), rate_hz, sound_start_secs, layout))
            packets += track.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    if piped:
        path.write_bytes(pipe.content)


def remux(source, target, change=lambda index, packet: packet, bitstream_filter=None, **options):
    """Copies the packets of a video; `change` returns the packet to be written instead, None to leave it out.

    `options` are those of the multiplexer.
    """
    with av.open(str(source)) as read, av.open(str(target), "w", options=options) as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        through = BitStreamFilterContext(bitstream_filter or "null", stream, copy)
        packets = [packet for packet in read.demux(stream) if packet.size]
        for index, packet in enumerate([*packets, None]):
            for changed in through.filter(packet):
                changed = change(index, changed)
                if changed is not None:
                    changed.stream = copy
                    written.mux(changed)


def not_coded(packet):
    """Returns a packet of MPEG-4 in the place of another that says that its picture is not coded."""
    empty = av.Packet(b"\0\0\1\xb6\x50\x20")
    empty.pts, empty.dts, empty.time_base, empty.duration = packet.pts, packet.dts, packet.time_base, packet.duration
    return empty


def append(target, *sources):
    """Copies the packets of files of one codec one after the other, as a recorder of a video call does."""
    with av.open(str(target), "w") as written:
        copy, end = None, 0
        for source in sources:
            with av.open(str(source)) as read:
                stream = read.streams.video[0]
                copy = copy or written.add_stream_from_template(stream)
                packets = [packet for packet in read.demux(stream) if packet.size]
            for packet in packets:
                packet.pts, packet.dts = (packet.pts or 0) + end, (packet.dts or 0) + end
                packet.stream = copy
                written.mux(packet)
            end = (packets[-1].pts or 0) + (packets[-1].duration or 0)


def join(target, *sources):
    """Appends the bytes of files, as `cat` does."""
    target.write_bytes(b"".join(source.read_bytes() for source in sources))
