"""The frames of a video file, decoded by FFmpeg, without trusting the file.

Sizes are checked before pixels are decoded, and only frames that are asked for are
ever in memory. PyAV is imported when the first video file is opened.
"""

import bisect
import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from keras_pe.preprocessing import image_decoding
from keras_pe.preprocessing.container_rules import check_container
from keras_pe.preprocessing.decoder_reports import DamageReported, errors_raised
from keras_pe.preprocessing.image_errors import (
    CONTAINERS,
    NO_FRAMES,
    UNKNOWN_CODEC,
    ImageError,
    VideoError,
    check_count,
    check_pixels,
    damaged,
)
from keras_pe.preprocessing.mpeg_streams import check_mpeg_stream

# Decoders that read the alpha channel of WebM, by those that don't.
_ALPHA_CODECS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Checksums are compared, what a codec's rules forbid and what ends too early is an
# error. FFmpeg has more such flags; they refuse what DivX and Xvid wrote.
_STRICT = "crccheck+bitstream+buffer+explode"
# MPEG-1 and 2 say where a group of frames begins: with one that needs no other. At a
# constant rate they fill frames up with zeros, which "bitstream" takes for damage.
_GROUPED, _GROUP = ("mpeg1video", "mpeg2video"), b"\0\0\1\xb8"
_SEQUENCE = b"\0\0\1\xb3"  # sizes and rates: they may come again, with any group
_GROUPED_STRICT = "crccheck+buffer+explode"
# What FFmpeg calls the readers of `CONTAINERS`.
_MOV, _TS, _PS = "mov,mp4,m4a,3gp,3g2,mj2", "mpegts", "mpeg"
_DEMUXERS = (_MOV, "matroska,webm", "avi", _TS, _PS, "flv", "ogg", "asf")


class VideoFileFrames:
    """Frames of a video file, decoded by FFmpeg through PyAV."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        name: str,
        max_pixels: int,
        max_frames: int,
        max_side: int = image_decoding.DEFAULT_MAX_SIDE,
    ) -> None:
        self.source, self.name = source, name
        self.limits = max_pixels, max_side
        # Containers may not say how many frames they hold, or say it wrongly. Counting
        # packets reads the file but decodes nothing.
        times: list[int | None] = []  # when each frame is shown
        self.alpha_codec: str | None = None
        self._twin: Any = None  # a frame without alpha, which the stream describes
        keys: set[int] = set()  # ... and where decoding can begin
        held = 0
        self._check(check_container)
        with self._opened() as (container, stream):
            kind, pixels = container.format.name, stream.codec_context.pix_fmt
            self._check(functools.partial(check_mpeg_stream, kind=kind))
            for packet in self._packets(container, stream):
                held += packet.dts is not None or bool(packet.size)
                if packet.is_corrupt:
                    raise DamageReported("packets are lost, or recordings were joined")
                if not packet.size or packet.is_discard or _unseen(packet, stream):
                    continue
                times.append(packet.pts)
                check_count(len(times), name, max_frames)
                if packet.is_keyframe and packet.pts is not None:
                    keys.add(packet.pts)
            # AVI has a count too, but two of six sound files count frames that nobody
            # recorded.
            missing = held < stream.frames and kind == _MOV
        if missing:
            self._check_unedited()
        self.count = len(times)
        known = [time for time in times if time is not None]
        # Program streams have few times: after a seek, frames get those of others.
        # Palettes come once, with the first packet: after a seek, there is none.
        unique = len(set(known)) == len(times) and kind != _PS and pixels != "pal8"
        self.times = sorted(known) if unique else []  # empty: no seeking
        self.keys = sorted(keys)

    def _check(self, check: Callable[[BinaryIO], None]) -> None:
        with image_decoding.open_stream(self.source, self.name) as file:
            try:
                check(file)
            except ValueError as error:
                raise damaged(self.name, error) from error

    def _check_unedited(self) -> None:
        """Counts again what an edit list may have cut: a trimmed video is a sound one.

        FFmpeg leaves out the packets of frames that the list does not show.
        """
        with self._opened(ignore_editlist="1") as (container, stream):
            packets = self._packets(container, stream)
            held = sum(p.dts is not None or bool(p.size) for p in packets)
            if held < stream.frames:
                raise DamageReported(f"{held:,} of {stream.frames:,} frames are there")

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        done = -1
        for number, frame in self._seeking(numbers):
            done = number
            yield number, frame
        rest = [number for number in numbers if number > done]
        if rest:  # no seeking in this file, or it did not lead where it should
            yield from self._in_order(rest)

    def _seeking(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """Decodes from the key frame before each number; stops at any surprise."""
        surprises = _pyav().error.FFmpegError, DamageReported
        with self._opened() as (container, stream):
            reached: int | None = None
            decoder: Iterator[Any] = iter(())
            for number in numbers:
                if number >= len(self.times):
                    return
                time = self.times[number]
                before = bisect.bisect_right(self.keys, time)
                if not before:
                    return
                key = self.keys[before - 1]
                try:
                    if reached is None or key > reached:
                        container.seek(key, stream=stream)
                        decoder = self._expected(self._decoded(container, stream), key)
                    frame = next((x for x in decoder if x.pts == time), None)
                except surprises:
                    return
                if frame is None:
                    return
                reached = time
                yield number, self._image(frame)

    def _expected(self, frames: Iterator[Any], key: int) -> Iterator[Any]:
        """Yields the frames from a key frame on, as long as each is the next in time.

        Each is held back until its successor is seen: a frame whose time is wrong
        would be taken for another.
        """
        number, held = bisect.bisect_left(self.times, key), None
        for frame in frames:
            if held is None and (frame.pts is None or frame.pts < key):
                continue  # it depends on the group before, and is shown before
            if number >= len(self.times) or frame.pts != self.times[number]:
                raise DamageReported("frames are out of order")
            if held is not None:
                yield held
            number, held = number + 1, frame
        if number != len(self.times):
            raise DamageReported("frames are missing")
        if held is not None:
            yield held

    def _in_order(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """Decodes from the beginning; corrects `count` if the file ends early."""
        wanted, decoded = set(numbers), 0
        with self._opened() as (container, stream):
            for number, frame in enumerate(self._decoded(container, stream)):
                decoded = number + 1
                if number in wanted:
                    yield number, self._image(frame)
                    if number == numbers[-1]:
                        return
        self.count = decoded

    def _image(self, frame: Any) -> Image.Image:
        check_pixels(frame.width, frame.height, self.name, *self.limits)
        return frame_image(frame, self._twin)

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yields packets from where the container stands."""
        packets, begun = container.demux(stream), False
        while True:
            with errors_raised(_pyav(), _DEMUXERS):
                packet = next(packets, None)
            if packet is None:
                return
            # Broadcasts are recorded from any moment on: what comes before the first
            # key frame cannot be decoded.
            begun = begun or not packet.size or _begins(packet, container, stream)
            if begun or container.format.name != _TS:
                yield packet
            elif stream.codec_context.name in _GROUPED and _GROUP in bytes(packet):
                raise DamageReported("a group's first frame is damaged")

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yields frames in the order of showing, from where the container stands.

        A frame that is damaged spoils those after it, so it need not be one that is
        asked for to end this.
        """
        decoder = stream.codec_context
        if self.alpha_codec is not None:
            # FFmpeg's own decoders of WebM leave the alpha channel out.
            decoder = _pyav().CodecContext.create(self.alpha_codec, "r")
            decoder.thread_count = 1
        for packet in self._packets(container, stream):
            with errors_raised(_pyav(), [decoder.name]):
                if self.alpha_codec is not None and self._twin is None:
                    self._twin = next(iter(stream.decode(packet)), None)
                frames = decoder.decode(packet)
            for frame in frames:
                if frame.is_corrupt:
                    raise DamageReported("parts of a frame are made up")
                yield frame

    @contextlib.contextmanager
    def _opened(self, **more: str) -> Iterator[tuple[Any, Any]]:
        """Opens the file, with more options of FFmpeg; any fault is a VideoError."""
        av = _pyav()
        with image_decoding.open_stream(self.source, self.name) as file:
            try:
                options = {"format_whitelist": CONTAINERS, "err_detect": _STRICT}
                options |= more
                with errors_raised(av, _DEMUXERS):
                    # Titles in Latin-1 or worse are no reason to refuse frames.
                    container = av.open(
                        file, options=options, metadata_errors="replace"
                    )
                with container:
                    stream = self._stream(container)
                    codec = stream.codec_context
                    size = codec.width, codec.height
                    check_pixels(*size, self.name, *self.limits)
                    codec.thread_count = 1  # see `errors_raised`
                    strict = _GROUPED_STRICT if codec.name in _GROUPED else _STRICT
                    codec.options = {"err_detect": strict}
                    tags = {key.lower(): tag for key, tag in stream.metadata.items()}
                    if tags.get("alpha_mode") == "1":  # a copied tag is in capitals
                        self.alpha_codec = _ALPHA_CODECS.get(codec.name)
                    yield container, stream
            except ImageError:
                raise
            except Exception as error:  # PyAV raises nearly anything on hostile bytes
                raise damaged(self.name, error) from error

    def _stream(self, container: Any) -> Any:
        """Returns the video among the streams of a file."""
        stream = container.streams.best("video")
        if stream is None:
            raise VideoError(self.name, NO_FRAMES, "It holds no video.")
        if stream.disposition & _pyav().stream.Disposition.attached_pic:
            raise VideoError(
                self.name, NO_FRAMES, "It holds a cover image, but no video."
            )
        if stream.codec_context is None:
            raise VideoError(
                self.name,
                UNKNOWN_CODEC,
                "This FFmpeg has no decoder for it: re-encode it, as H.264 or AV1.",
            )
        return stream


def _begins(packet: Any, container: Any, stream: Any) -> bool:
    """Says whether decoding can begin with a packet."""
    kind = container.format.name
    # Elsewhere the container holds the header.
    headed = kind in (_TS, _PS) and stream.codec_context.name in _GROUPED
    if not packet.is_keyframe or not headed or _SEQUENCE in bytes(packet):
        return bool(packet.is_keyframe)
    if kind == _PS:  # decoders leave the group out without a word
        raise DamageReported("the first group has no sequence header")
    return False


def _unseen(packet: Any, stream: Any) -> bool:
    """Says whether a packet holds a frame that is only referred to, never shown."""
    if stream.codec_context.name not in ("vp8", "libvpx"):
        return False
    # RFC 6386, section 9.1: show_frame is bit 4 of the first byte.
    return not bytes(memoryview(packet)[:1])[0] >> 4 & 1


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            'Video files are read with PyAV: pip install "keras-pe[video]". Animated '
            "GIF and WebP, folders of frames and arrays work without."
        ) from error
    return av


# === One decoded frame, as its maker saw it ===
# The upper left four numbers of a display matrix say where a pixel at (x, y), counted
# to the right and down, is shown: at (a x + c y, b x + d y). Telephones turn their
# videos with it, and mirror those of the camera on the front.
_TRANSPOSE_OF_MATRIX = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,  # clockwise by 90 degrees
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def frame_image(frame: Any, twin: Any = None) -> Image.Image:
    """Turns a frame into an image: colours by the frame's own matrix and range.

    Args:
        frame: an `av.VideoFrame`.
        twin: a frame of the same video that says what the container says of both:
            how it lies, and its colours. A decoder of one's own does not know.

    Returns:
        Mode RGB, or RGBA if the frame has an alpha channel; upright. Pixels are
        taken as square, as the reference does, whatever the file says.
    """
    if twin is not None:
        frame.colorspace, frame.color_range = twin.colorspace, twin.color_range
    if any(component.is_alpha for component in frame.format.components):
        image = Image.fromarray(frame.to_ndarray(format="rgba"))
    else:
        image = frame.to_image()
    turn = transposition(_display_matrix(frame if twin is None else twin))
    return image if turn is None else image.transpose(turn)


def transposition(matrix: np.ndarray | None) -> Image.Transpose | None:
    """Returns what makes a frame upright, of the eight ways that it can lie.

    Args:
        matrix: a, b, c, d of the display matrix at any scale; None if there is none.

    Returns:
        None for a frame that is upright, or a matrix that is none of the eight: few
        players turn by other angles.

    Example:
        >>> transposition(np.array([-65536, 0, 0, 65536])).name
        'FLIP_LEFT_RIGHT'
    """
    if matrix is None:
        return None
    small = np.abs(matrix) * 16 <= np.abs(matrix).max()
    a, b, c, d = np.sign(np.where(small, 0, matrix)).tolist()
    return _TRANSPOSE_OF_MATRIX.get((a, b, c, d))


def _display_matrix(frame: Any) -> np.ndarray | None:
    for item in frame.side_data:
        if item.type.name == "DISPLAYMATRIX":
            numbers = np.frombuffer(bytes(item), "int32", 9).astype("int64")
            return numbers[[0, 1, 3, 4]]
    return None
