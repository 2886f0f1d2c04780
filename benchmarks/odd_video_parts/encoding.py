"""Frames cut out of photographs, and their way into a container, with PyAV."""

import functools
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

COUNT, HEIGHT, WIDTH = 16, 96, 128
ROTATABLE = ("mp4", "mov", "3gp", "mkv")  # containers that say how frames lie


@dataclass(frozen=True)
class Codec:
    """How a codec is asked for.

    Attributes:
        name: FFmpeg's name of the encoder.
        pixels: its pixel format.
        options: of the encoder.
        size: height and width, where it takes few.
    """

    name: str
    pixels: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = (HEIGHT, WIDTH)


@dataclass(frozen=True)
class Container:
    """A container and what is put into it.

    Attributes:
        name: as its files end.
        muxer: FFmpeg's name of it.
        codec: most of its files have this one.
        sound: codec of the sound; None if it has none.
        others: further codecs.
        tiny: one that takes frames of any size; None for `codec`.
        see_through: one with an alpha channel, if there is one.
        timed: whether frames may be shown unequally long.
        rate: frames a second.
    """

    name: str
    muxer: str
    codec: Codec
    sound: str | None
    others: tuple[Codec, ...] = ()
    tiny: Codec | None = None
    see_through: Codec | None = None
    timed: bool = True
    rate: int = 10


_GOOD = {"b": "3000000"}
_X264 = {"preset": "veryfast", "crf": "18"}
_X265 = {"preset": "ultrafast", "x265-params": "log-level=none"}
_VP8 = {"b": "3000000", "deadline": "realtime", "cpu-used": "8"}
_H264 = Codec("libx264", options=_X264)
_HEVC = Codec("libx265", options=_X265)
_AV1 = Codec("libsvtav1", options={"preset": "12", "crf": "20"})
_MPEG4 = Codec("mpeg4", options=_GOOD)
_MJPEG = Codec("mjpeg", "yuvj420p", _GOOD)
_VP9 = Codec("libvpx-vp9", options=_VP8)
_MPEG2 = Codec("mpeg2video", options=_GOOD)
_H264_FULL = Codec("libx264", "yuv444p", _X264)
_ALPHA_VP8 = Codec("libvpx", "yuva420p", {**_VP8, "auto-alt-ref": "0"})

CONTAINERS = {
    one.name: one
    for one in (
        Container("mp4", "mp4", _H264, "aac", (_HEVC, _AV1, _MPEG4), _H264_FULL),
        Container(
            "mov",
            "mov",
            _MPEG4,
            "aac",
            (_MJPEG, Codec("prores_ks", "yuv422p10le"), Codec("png", "rgb24"), _H264),
            Codec("qtrle", "rgb24"),
            Codec("qtrle", "argb"),
        ),
        Container(
            "3gp",
            "3gp",
            _MPEG4,
            "aac",
            (_H264, Codec("h263", options=_GOOD, size=(144, 176))),
        ),
        Container(
            "mkv",
            "matroska",
            _H264,
            "flac",
            (_VP9, _MPEG4, _HEVC, _MJPEG),
            Codec("ffv1", "yuv444p"),
            Codec("ffv1", "yuva444p"),
        ),
        Container(
            "webm",
            "webm",
            Codec("libvpx", options=_VP8),
            "libopus",
            (_VP9, _AV1),
            Codec("libvpx-vp9", "yuv444p", _VP8),
            _ALPHA_VP8,
        ),
        Container(
            "avi",
            "avi",
            _MPEG4,
            "pcm_s16le",  # others begin before the frames, which FFmpeg moves then
            (
                _MJPEG,
                _H264,
                Codec("msmpeg4", options=_GOOD),
                Codec("cinepak", "rgb24"),
                Codec("rawvideo", "bgr24"),
            ),
            Codec("ffv1", "yuv444p"),
            timed=False,
        ),
        # FFmpeg gives Ogg's frames the time at which the one before ends.
        Container("ogv", "ogg", Codec("libvpx", options=_VP8), "libopus", timed=False),
        Container("ts", "mpegts", _H264, "aac", (_MPEG2, _HEVC)),
        Container(
            "mpg",
            "mpeg",
            Codec("mpeg1video", options=_GOOD),
            "mp2",
            (_MPEG2,),
            timed=False,
            rate=25,
        ),
        Container("flv", "flv", Codec("flv", options=_GOOD), "libmp3lame", (_H264,)),
        Container(
            "wmv",
            "asf",
            Codec("wmv2", options=_GOOD),
            "wmav2",
            (Codec("msmpeg4", options=_GOOD), _MPEG4),
        ),
        Container("gif", "gif", Codec("gif", "rgb8"), None),
        Container(
            "webp",
            "webp",
            Codec("libwebp_anim", "bgra", {"lossless": "0", "quality": "90"}),
            None,
            see_through=Codec("libwebp_anim", "bgra", {"lossless": "1"}),
        ),
        Container(
            "png",
            "apng",
            Codec("apng", "rgb24"),
            None,
            see_through=Codec("apng", "rgba"),
        ),
    )
}


# === Frames ===
@functools.lru_cache(maxsize=64)
def photographed(
    count: int = COUNT,
    height: int = HEIGHT,
    width: int = WIDTH,
    photograph: str = "china.jpg",
) -> np.ndarray:
    """Returns what a camera sees that moves over a photograph: no frame is another.

    Args:
        count: frames.
        height: of each, in pixels.
        width: of each.
        photograph: one of scikit-learn's.

    Returns:
        uint8 `(count, height, width, 3)`.
    """
    from sklearn.datasets import load_sample_image

    picture = load_sample_image(photograph)  # (427, 640, 3)
    picture = np.pad(picture, ((0, height), (0, width), (0, 0)), mode="wrap")
    corners = [((180 + 3 * i) % 427, (120 + 5 * i) % 640) for i in range(count)]
    return np.stack(
        [picture[top : top + height, left : left + width] for top, left in corners]
    )


# === Encoding ===
def encode(
    container: Container,
    frames: Sequence[np.ndarray] | None,
    codec: Codec | None = None,
    times: Sequence[int] | None = None,
    sound: float = 0.0,
    rotation: int = 0,
    muxing: dict[str, str] | None = None,
    seekable: bool = True,
    stamped: Callable[[Any, int], None] | None = None,
    **options: str,
) -> bytes:
    """Returns the bytes of a video.

    Args:
        container: what it is put into.
        frames: uint8 `(height, width, 3 or 4)` each; None for sound alone.
        codec: None takes the container's own.
        times: when each frame is shown, in frames of even steps.
        sound: seconds of it.
        rotation: degrees by which a player is to turn the frames.
        muxing: options of the container.
        seekable: whether the muxer may go back and fill in what it knows at the end.
        stamped: changes the times of a packet, which is given with its number.
        options: of the encoder, beside the codec's.
    """
    codec = codec or container.codec
    with tempfile.TemporaryDirectory() as folder:
        # A file, since some muxers read again what they wrote.
        path = Path(folder) / f"video.{container.name}"
        with path.open("wb") as file:
            target: Any = str(path) if seekable else _OneWay(file)
            with _opened(target, container, muxing) as output:
                video: Any = None
                if frames is not None:
                    video = _video(output, container, codec, rotation, frames, options)
                audio = _audio(output, container) if sound else None
                for number, packet in enumerate(
                    _packets(video, container, codec, frames, times)
                ):
                    if stamped is not None:
                        stamped(packet, number)
                    output.mux(packet)
                if audio is not None:
                    _add_sound(output, audio, sound)
        return path.read_bytes()


def _opened(target: Any, container: Container, muxing: dict[str, str] | None) -> Any:
    import av

    return av.open(target, "w", format=container.muxer, options=muxing or {})


def _video(
    output: Any,
    container: Container,
    codec: Codec,
    rotation: int,
    frames: Sequence[np.ndarray],
    options: dict[str, str],
) -> Any:
    every = {**codec.options, **options}
    video = output.add_stream(codec.name, rate=container.rate, options=every)
    video.height, video.width = frames[0].shape[:2]
    video.pix_fmt, video.codec_context.thread_count = codec.pixels, 1
    if rotation:
        video.set_display_rotation(rotation)
    return video


def _audio(output: Any, container: Container) -> Any:
    rate = 48_000 if container.sound == "libopus" else 44_100
    audio = output.add_stream(container.sound, rate=rate, layout="mono")
    audio.bit_rate = 64_000
    return audio


def _packets(
    video: Any,
    container: Container,
    codec: Codec,
    frames: Sequence[np.ndarray] | None,
    times: Sequence[int] | None,
) -> Iterator[Any]:
    for number, image in enumerate(frames if frames is not None else ()):
        frame = _frame(image, codec.pixels)
        frame.pts = number if times is None else times[number]
        frame.time_base = Fraction(1, container.rate)
        yield from video.encode(frame)
    if video is not None:
        yield from video.encode()


def _frame(image: np.ndarray, pixels: str) -> Any:
    import av

    kind = "rgb24" if image.shape[-1] == 3 else "rgba"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), kind)
    return frame.reformat(format=pixels)


def _add_sound(output: Any, audio: Any, seconds: float) -> None:
    """Adds a tone."""
    import av

    rate = audio.codec_context.sample_rate
    wave = np.sin(np.arange(int(rate * seconds)) * 0.05).astype("float32")[None]
    tone = av.AudioFrame.from_ndarray(wave * 0.3, "fltp", layout="mono")
    tone.sample_rate, tone.pts = rate, 0
    fitting = av.AudioResampler(
        audio.codec_context.format, audio.codec_context.layout, rate
    )
    fifo = av.AudioFifo()
    for piece in fitting.resample(tone):
        fifo.write(piece)
    size = audio.codec_context.frame_size or 1024
    while (piece := fifo.read(size, partial=True)) is not None:
        output.mux(audio.encode(piece))
    output.mux(audio.encode())


class _OneWay:
    """A file that only grows, as a pipe: a muxer can't fill in what it knows later."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def write(self, content: bytes) -> int:
        return self.stream.write(content)


def repackaged(contents: Sequence[bytes], container: Container) -> bytes:
    """Returns the packets of several videos, one after the other, as one stream."""
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=container.muxer) as output:
        copied, later = None, 0
        for content in contents:
            with av.open(io.BytesIO(content)) as source:
                given = source.streams.video[0]
                if copied is None:
                    copied = output.add_stream_from_template(given)
                end = 0
                for packet in source.demux(given):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.dts + (packet.duration or 1))
                    packet.pts = (packet.pts or 0) + later
                    packet.dts += later
                    packet.stream = copied
                    output.mux(packet)
                later += end
    return stream.getvalue()
