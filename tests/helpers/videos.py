"""Writes small videos as they occur in the wild: turned, joined, cut, in other codecs and colours."""

import struct

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

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
