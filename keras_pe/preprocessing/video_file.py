"""The frames of a video file, decoded by FFmpeg, without trusting the file.

Sizes are checked before pixels are decoded, and only frames that are asked for are
ever in memory. PyAV is imported when the first video file is opened.
"""

import bisect
import contextlib
import functools
import itertools
import os
from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.preprocessing import image_decoding
from keras_pe.preprocessing.container_rules import check_container
from keras_pe.preprocessing.decoder_reports import (
    DamageReported,
    RaisesOnce,
    errors_raised,
)
from keras_pe.preprocessing.frame_choice import Timeline
from keras_pe.preprocessing.frame_image import frame_image
from keras_pe.preprocessing.image_errors import (
    CONTAINERS,
    NO_FRAMES,
    NO_TIMES,
    UNKNOWN_CODEC,
    ImageError,
    VideoError,
    check_count,
    check_pixels,
    damaged,
)
from keras_pe.preprocessing.mp4_index import read_index
from keras_pe.preprocessing.mpeg_streams import check_mpeg_stream
from keras_pe.preprocessing.time_limit import TimedFile, TimeLimit
from keras_pe.preprocessing.unreferenced import is_unreferenced, length_size

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
_COUNTED_AT_ONCE = 8  # packets, where none is decoded: listening costs as much as one


class VideoFileFrames:
    """Frames of a video file, decoded by FFmpeg through PyAV."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        name: str,
        max_pixels: int,
        max_frames: int,
        max_side: int = image_decoding.DEFAULT_MAX_SIDE,
        limit: TimeLimit | None = None,
    ) -> None:
        self.source, self.name = source, name
        self.limits = max_pixels, max_side
        self.limit = limit or TimeLimit(name)
        self.alpha_codec: str | None = None
        self._twin: Any = None  # a frame without alpha, which the stream describes
        # When each frame is shown, and those of them where decoding can begin.
        self._known, self._keys = array("q"), array("q")
        self._last = 0  # how long the frame lasts that is shown last
        self._check(check_container)
        with self._opened() as (container, stream):
            kind, pixels = container.format.name, stream.codec_context.pix_fmt
            self._check(functools.partial(check_mpeg_stream, kind=kind))
            # Of other containers it may be guessed by the size of the file.
            length = stream.duration if kind == _MOV else None
            self._unit = Fraction(stream.time_base)
            if kind != _MOV:
                self._count(container, stream, max_frames)
            counted = kind != _MOV or self._index(container, stream, max_frames)
        if not counted:
            with self._opened() as (container, stream):
                missing = self._count(container, stream, max_frames)
            if missing:
                self._check_unedited()
        known = np.sort(np.frombuffer(self._known, np.int64))
        keys = np.unique(np.frombuffer(self._keys, np.int64))
        unique = len(known) == self.count and bool((known[1:] > known[:-1]).all())
        # Program streams have few times: after a seek, frames get those of others.
        self._timed = unique and kind != _PS
        # Palettes come once, with the first packet: after a seek, there is none.
        seeking = self._timed and pixels != "pal8"
        self._known = array("q", known.tobytes())
        self.times = self._known if seeking else array("q")  # empty: no seeking
        self.keys = array("q", keys.tobytes())
        if self._timed and self.count:
            first, last = self._known[0], self._known[-1]
            step = self._last or (last - self._known[-2] if self.count > 1 else 1)
            self._end = max(first + (length or 0), last + (1 if length else step))

    def timeline(self) -> Timeline:
        """Returns when each frame is shown.

        Raises:
            VideoError: if the file does not say it of each.
        """
        if not self._timed:
            raise VideoError(
                self.name,
                NO_TIMES,
                'Not every frame has a time of its own. Take frame_rule="benchmark" '
                "and no start or end, which count frames, or re-encode it as MP4.",
            )
        return Timeline(self._known, self._end, self._unit)

    def _index(self, container: Any, stream: Any, max_frames: int) -> bool:
        """Reads the index of an MP4 file, if that is all it takes."""
        check_count(stream.frames, self.name, max_frames)
        with (
            image_decoding.open_stream(self.source, self.name) as file,
            errors_raised(_pyav(), _DEMUXERS),
        ):
            index = read_index(file, container, stream)
        if index is None:
            return False
        self.count = len(index.times)
        self._known.frombytes(index.times.tobytes())
        self._keys.frombytes(index.times[index.is_key].tobytes())
        return True

    def _count(self, container: Any, stream: Any, max_frames: int) -> bool:
        """Counts packets: that reads the file, but decodes nothing.

        Containers may not say how many frames they hold, or say it wrongly.

        Returns:
            Whether frames are missing that an MP4 file declares.
        """
        self.count, held, latest = 0, 0, None
        for packet in self._packets(container, stream, _COUNTED_AT_ONCE):
            held += packet.dts is not None or bool(packet.size)
            if packet.is_corrupt:
                raise DamageReported("packets are lost, or recordings were joined")
            if not packet.size or packet.is_discard or _unseen(packet, stream):
                continue
            self.count += 1
            check_count(self.count, self.name, max_frames)
            if packet.pts is None:
                continue
            self._known.append(packet.pts)
            if latest is None or packet.pts > latest:
                latest, self._last = packet.pts, packet.duration or 0
            if packet.is_keyframe:
                self._keys.append(packet.pts)
        # AVI has a count too, but two of six sound files count frames that nobody
        # recorded.
        return held < stream.frames and container.format.name == _MOV

    def _check(self, check: Callable[[Any], None]) -> None:
        with image_decoding.open_stream(self.source, self.name) as file:
            try:
                check(TimedFile(file, self.limit))
            except ImageError:
                raise
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
        wanted = {self.times[n] for n in numbers if n < len(self.times)}
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
                        left_out: set[int] = set()
                        frames = self._decoded(container, stream, wanted, left_out)
                        decoder = self._expected(frames, key, left_out)
                    frame = next((x for x in decoder if x.pts == time), None)
                except surprises:
                    return
                if frame is None:
                    return
                reached = time
                yield number, self._image(frame)

    def _expected(
        self, frames: Iterator[Any], key: int, left_out: Container[int]
    ) -> Iterator[Any]:
        """Yields the frames from a key frame on, as long as each is the next in time.

        Each is held back until its successor is seen: a frame whose time is wrong
        would be taken for another. The next is the next of those that are decoded.
        """

        def next_of(number: int) -> int:
            while number < len(self.times) and self.times[number] in left_out:
                number += 1
            return number

        number, held = bisect.bisect_left(self.times, key), None
        for frame in frames:
            if held is None and (frame.pts is None or frame.pts < key):
                continue  # it depends on the group before, and is shown before
            number = next_of(number)
            if number >= len(self.times) or frame.pts != self.times[number]:
                raise DamageReported("frames are out of order")
            if held is not None:
                yield held
            number, held = number + 1, frame
        if next_of(number) != len(self.times):
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

    def _packets(self, container: Any, stream: Any, at_once: int = 1) -> Iterator[Any]:
        """Yields packets from where the container stands."""
        packets, begun = container.demux(stream), False
        while True:
            with errors_raised(_pyav(), _DEMUXERS):
                some = list(itertools.islice(packets, at_once))
            if not some:
                return
            self.limit.check()
            for packet in some:
                # Broadcasts are recorded from any moment on: what comes before the
                # first key frame cannot be decoded.
                begun = begun or not packet.size or _begins(packet, container, stream)
                if begun or container.format.name != _TS:
                    yield packet
                elif stream.codec_context.name in _GROUPED and _GROUP in bytes(packet):
                    raise DamageReported("a group's first frame is damaged")

    def _decoded(
        self,
        container: Any,
        stream: Any,
        wanted: Container[int] | None = None,
        left_out: set[int] | None = None,
    ) -> Iterator[Any]:
        """Yields frames in the order of showing, from where the container stands.

        A frame that is damaged spoils those after it, so it need not be one that is
        asked for to end this. Frames that no other depends on are left out where those
        that are `wanted` are said, by their times, and noted in `left_out`.
        """
        decoder, size = stream.codec_context, 0
        if self.alpha_codec is not None:
            # FFmpeg's own decoders of WebM leave the alpha channel out.
            decoder = _pyav().CodecContext.create(self.alpha_codec, "r")
            decoder.thread_count = 1
        elif wanted is not None and left_out is not None:
            size = length_size(stream)
        for packet in self._packets(container, stream):
            if (
                size
                and packet.pts is not None
                and packet.pts not in wanted  # type: ignore[operator]
                and is_unreferenced(memoryview(packet), size)
            ):
                left_out.add(packet.pts)  # type: ignore[union-attr]
                continue
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
                        RaisesOnce(TimedFile(file, self.limit)),
                        options=options,
                        metadata_errors="replace",
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
            kinds = sorted({one.type for one in container.streams}) or ["nothing"]
            raise VideoError(
                self.name,
                NO_FRAMES,
                f"It holds {' and '.join(kinds)}; expected a video among it: leave it "
                "out.",
            )
        if stream.disposition & _pyav().stream.Disposition.attached_pic:
            raise VideoError(
                self.name,
                NO_FRAMES,
                "It holds a cover image; expected a video: leave it out.",
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
