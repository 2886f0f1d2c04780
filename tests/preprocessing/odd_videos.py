"""Small video files whose every frame is known, and the bytes to make them odd with."""

import io
import struct

import numpy as np

ONE = 1 << 16
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# a, b, c, d of the display matrix, and the quadrants as they are to be seen: upper
# left, upper right, lower left, lower right of what is stored as red, green / blue,
# white. By hand, from the definition of the matrix.
ORIENTATIONS = {
    (1, 0, 0, 1): "RGBW",
    (-1, 0, 0, 1): "GRWB",
    (1, 0, 0, -1): "BWRG",
    (-1, 0, 0, -1): "WBGR",
    (0, 1, 1, 0): "RBGW",
    (0, 1, -1, 0): "BRWG",
    (0, -1, 1, 0): "GWRB",
    (0, -1, -1, 0): "WGBR",
}


def encode(
    frames,
    container="mp4",
    codec="libx264",
    pixels="yuv420p",
    times=None,
    metadata=None,
    rate=10,
    muxing=None,
    rotation=0,
    tags=None,
    **options,
):
    """The bytes of a video of frames (height, width, 3 or 4); times in 1 / rate s.

    It is to be shown turned by `rotation` degrees; `tags` are those of the stream.
    """
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=container, options=muxing or {}) as output:
        output.metadata.update(metadata or {})
        video = output.add_stream(codec, rate=rate, options=options)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixels
        video.metadata.update(tags or {})
        if rotation:
            video.set_display_rotation(rotation)
        for number, frame in enumerate(frames):
            kind = "rgba" if frame.shape[-1] == 4 else "rgb24"
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), kind)
            image.pts = number if times is None else times[number]
            output.mux(video.encode(image.reformat(format=pixels)))
        output.mux(video.encode())
    return stream.getvalue()


def remuxed(content, container):
    """The same stream in another container, its display matrix with it."""
    import av

    stream = io.BytesIO()
    with (
        av.open(io.BytesIO(content)) as source,
        av.open(stream, "w", format=container) as output,
    ):
        video = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                output.mux(packet)
    return stream.getvalue()


def turned(content, matrix):
    """An MP4 or MOV with another matrix in its track header."""
    a, b, c, d = (ONE * number for number in matrix)
    straight = struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    place = content.index(straight, content.index(b"tkhd"))
    other = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return content[:place] + other + content[place + len(other) :]


def trimmed(content, start, count, rate=10):
    """An MP4 whose edit list shows only `count` of its frames."""
    place = content.index(b"elst") + 12  # after size, version and number of edits
    (unit,) = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)
    (movie,) = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)
    _, begin = struct.unpack_from(">Ii", content, place)
    edit = struct.pack(">Ii", count * movie // rate, begin + start * unit // rate)
    return content[:place] + edit + content[place + 8 :]


def quadrants(height=48, width=64):
    """Red and green above blue and white."""
    frame = np.zeros((height, width, 3), "uint8")
    rows, columns = slice(height // 2), slice(width // 2)
    frame[:], frame[rows], frame[rows, columns] = WHITE, GREEN, RED
    frame[height // 2 :, columns] = BLUE
    return frame


def greys(count=20, height=48, width=64, step=10):
    """Frames whose grey level says their number."""
    levels = np.arange(count, dtype="uint8")[:, None, None, None] * step
    return np.broadcast_to(levels, (count, height, width, 3)).copy()


def sound(container="mp4", cover=False):
    """A file of silence, with or without a cover image."""
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        audio = output.add_stream("aac", rate=44100, layout="mono")
        if cover:
            image = output.add_stream("mjpeg", rate=1)
            image.width, image.height, image.pix_fmt = 32, 32, "yuvj420p"
            image.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame(32, 32, "yuvj420p")
            frame.pts = 0
            output.mux(image.encode(frame))
            output.mux(image.encode())
        samples = np.zeros((1, 1024), "float32")
        silence = av.AudioFrame.from_ndarray(samples, "fltp", layout="mono")
        silence.sample_rate, silence.pts = 44100, 0
        output.mux(audio.encode(silence))
        output.mux(audio.encode())
    return stream.getvalue()
