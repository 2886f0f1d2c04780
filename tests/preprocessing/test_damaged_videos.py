"""Damage that FFmpeg conceals is an error; sound files of every kind are read."""

import io
import logging
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from keras_pe.preprocessing import PEVideoConverter, VideoError
from keras_pe.preprocessing.container_rules import check_container
from keras_pe.preprocessing.decoder_reports import (
    DamageReported,
    errors_raised,
)
from keras_pe.preprocessing.mpeg_streams import check_mpeg_stream
from keras_pe.preprocessing.video_file import VideoFileFrames
from tests.fuzz.video_evidence import noticed
from tests.fuzz.videos import frames

sys.path.insert(0, str(Path(__file__).parent))
from odd_videos import encode, greys

av = pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.once]


def read(content, count=4):
    return PEVideoConverter(16, num_frames=count)(content)


def flipped(content, place, bit=0):
    data = bytearray(content)
    data[place] ^= 1 << bit
    return bytes(data)


def frames_of(content):
    """All frames, and the decoder's plain opinion of how many there are."""
    opened = VideoFileFrames(content, "a", 10**6, 1000)
    return [frame for _, frame in opened.read(range(opened.count))]


# === What must be read ===
GROUPS = {"g": "6", "keyint_min": "6"}
# As Video CDs, HDV tapes and many broadcasts: images are filled up with zeros.
CONSTANT = {"b": "2M", "minrate": "2M", "maxrate": "2M", "bufsize": "400k", "g": "6"}
SOUND = {  # container, codec, options of the codec
    "mp4": ("mp4", "libx264", {}),
    "mp4, open groups": (
        "mp4",
        "libx264",
        {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3:scenecut=0"},
    ),
    "mkv, open groups": (
        "matroska",
        "libx264",
        {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3:scenecut=0"},
    ),
    "ts, groups": ("mpegts", "libx264", GROUPS),
    "mp4, hevc": ("mp4", "libx265", {"x265-params": "log-level=none:keyint=6"}),
    "mp4, av1": ("mp4", "libsvtav1", {"svtav1-params": "keyint=6"}),
    "mov": ("mov", "mpeg4", {"bf": "2", "g": "6"}),
    "mov, prores": ("mov", "prores_ks", {}),
    "mkv, ffv1": ("matroska", "ffv1", {"level": "3", "slices": "4"}),
    "webm": ("webm", "libvpx", GROUPS),
    "webm, vp9": ("webm", "libvpx-vp9", GROUPS),
    "avi": ("avi", "mpeg4", {"bf": "2", "g": "6"}),
    "avi, mjpeg": ("avi", "mjpeg", {}),
    "ts": ("mpegts", "mpeg2video", {"bf": "2"}),
    "ts, constant rate": ("mpegts", "mpeg2video", CONSTANT),
    "mpeg": ("mpeg", "mpeg1video", {"bf": "2"}),
    "mpeg, constant rate": ("mpeg", "mpeg1video", CONSTANT),
    "flv": ("flv", "flv1", {}),
    "flv, h264": ("flv", "libx264", {}),
    "ogg": ("ogg", "libvpx", {}),
    "asf": ("asf", "wmv2", {}),
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_videos_are_read(kind, caplog):
    container, codec, options = SOUND[kind]
    pixels = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
    content = encode(frames(), container, codec, pixels, rate=25, **options)
    found = frames_of(content)
    assert len(found) == 16
    for frame, expected in zip(found, frames(), strict=True):
        assert np.abs(np.asarray(frame, int) - expected).mean() < 25
    assert not caplog.records
    # One by one, from the last to the first: each from its own key frame.
    opened = VideoFileFrames(content, "a", 10**6, 1000)
    for number in (15, 9, 6, 3, 0):
        [(_, frame)] = opened.read([number])
        np.testing.assert_array_equal(np.asarray(frame), np.asarray(found[number]))


@pytest.mark.parametrize(
    ("container", "options"),
    [
        ("mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("webm", {"live": "1"}),  # clusters of unknown length
        ("matroska", {"write_crc32": "0"}),
    ],
)
def test_other_ways_of_writing_a_container(container, options):
    codec = "libvpx" if container == "webm" else "libx264"
    whole = encode(frames(), container, codec, g="6")
    stream = io.BytesIO()
    with (
        av.open(io.BytesIO(whole)) as source,
        av.open(stream, "w", format=container, options=options) as output,
    ):
        video = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                output.mux(packet)
    np.testing.assert_array_equal(read(stream.getvalue()), read(whole))


def test_times_with_gaps_leave_empty_frames_in_an_avi():
    times = [0, 1, 2, 9, 10, 11, 20, 21]
    content = encode(greys(8, step=30), "avi", "mpeg4", times=times)
    levels = np.rint((read(content, 8).mean(axis=(0, 2, 3, 4)) + 1) * 127.5)
    np.testing.assert_allclose(levels, 30 * np.arange(8), atol=3)


def test_a_broadcast_may_be_recorded_from_the_middle_of_a_group():
    content = encode(greys(18, step=14), "mpegts", "libx264", g="6", bf="0")
    with av.open(io.BytesIO(content)) as container:
        third = [packet.pos for packet in container.demux(video=0) if packet.size][2]
    tail = content[: 188 * 3] + content[third - third % 188 :]  # its tables, then this
    found = [np.asarray(frame).mean() for frame in frames_of(tail)]
    np.testing.assert_allclose(found, 14 * np.arange(6, 18), atol=3)


def rewritten(content, kind):
    """A transport or program stream as other programs write it."""
    packets = [content[i : i + 188] for i in range(0, len(content), 188)]
    if kind == "Blu-ray":
        return b"".join(b"time" + packet for packet in packets)
    if kind == "with parity":
        return b"".join(packet + bytes(16) for packet in packets)
    if kind == "from within a packet":
        return b"end of a packet" + content
    last = content.rindex(b"\0\0\1\xba")
    return {
        "filled sectors": content[:last] + bytes(300) + content[last:] + bytes(2048),
        "with an end": content + b"\0\0\1\xb9",
        "from within a pack": content[100:200] + content,
    }[kind]


@pytest.mark.parametrize(
    ("container", "codec", "kind", "count"),
    [
        ("mpegts", "mpeg2video", "Blu-ray", 16),
        ("mpegts", "mpeg2video", "with parity", 16),
        ("mpegts", "libx264", "from within a packet", 16),
        ("mpeg", "mpeg1video", "filled sectors", 16),
        ("mpeg", "mpeg1video", "with an end", 16),
        ("vob", "mpeg2video", "with an end", 16),
        ("mpeg", "mpeg1video", "from within a pack", 16),
    ],
)
def test_streams_of_other_programs_are_read(container, codec, kind, count):
    content = encode(frames(), container, codec, rate=25)
    found = frames_of(rewritten(content, kind))
    assert len(found) == count
    for frame, right in zip(found, frames_of(content), strict=True):
        np.testing.assert_array_equal(np.asarray(frame), np.asarray(right))


# === What must be refused ===
# Codes of variable length, in which FFmpeg sees that bits are wrong; one group.
CLEAR = {"bf": "0", "g": "100", "b": "4000000"}


@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "libx264"), ("matroska", "ffv1")]
)
def test_no_bit_of_matroska_changes_frames_in_silence(container, codec):
    content = encode(frames(), container, codec)
    right = read(content)
    refused = 0
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 60):
        try:
            found = read(flipped(content, place, place % 8))
        except VideoError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, right)
    assert refused > 40
    cluster = content.index(b"\x1f\x43\xb6\x75")
    with pytest.raises(VideoError, match="wrong checksum of the Cluster at"):
        read(flipped(content, cluster + 200))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("mp4", "libx265"),
        ("mov", "mpeg4"),
        ("webm", "libvpx"),
        ("mpegts", "libx264"),
        ("avi", "mjpeg"),
        ("flv", "flv1"),
        ("asf", "wmv2"),
    ],
)
def test_other_frames_only_where_a_strict_decoder_sees_nothing(container, codec):
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    content = encode(frames(), container, codec, pixels, **options)
    right, refused = read(content), 0
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(content), 40):
        odd = flipped(content, place, place % 8)
        try:
            found = read(odd)
        except VideoError:
            refused += 1
            continue
        if not np.array_equal(found, right):
            assert noticed(odd) is None
    assert refused > 0


def test_a_damaged_frame_spoils_the_frames_after_it():
    content = encode(frames(), "mp4", "mpeg4", **CLEAR)
    with av.open(io.BytesIO(content)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    place, size = packets[7]
    odd = bytearray(content)
    odd[place + size // 2 : place + size // 2 + 40] = bytes(40)
    converter = PEVideoConverter(16, num_frames=2)  # the first and the last
    with pytest.raises(VideoError, match="mpeg4"):
        converter(bytes(odd))
    # In another group of images it touches nothing.
    grouped = encode(frames(), "mp4", "mpeg4", **{**CLEAR, "g": "8"})
    with av.open(io.BytesIO(grouped)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    place, size = packets[5]
    odd = bytearray(grouped)
    odd[place + size // 2 : place + size // 2 + 40] = bytes(40)
    np.testing.assert_array_equal(converter(bytes(odd)), converter(grouped))


ASF_FILE = uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le


def pages(content):
    """Where the pages of an Ogg file begin."""
    found, place = [], 0
    while place < len(content):
        found.append(place)
        count = content[place + 26]
        place += 27 + count + sum(content[place + 27 : place + 27 + count])
    return found


@pytest.mark.parametrize(
    ("container", "codec", "damage", "said"),
    [
        ("ogg", "libvpx", lambda c: c[: pages(c)[-1] + 50], "page is cut short"),
        (
            "ogg",
            "libvpx",
            lambda c: c[: pages(c)[3]] + c[pages(c)[4] :],
            "page 3 is missing|page .* is missing",
        ),
        ("ogg", "libvpx", lambda c: c + b"more", "no page begins"),
        ("ogg", "libvpx", lambda c: flipped(c, pages(c)[-1] + 200), "CRC mismatch"),
        ("flv", "flv1", lambda c: c[:-200], "tag is cut short"),
        ("mpegts", "mpeg2video", lambda c: c[:-100], "packet is cut short"),
        ("mpegts", "mpeg2video", lambda c: c[:-1880] + c[-1870:], "no sync byte"),
        ("mpegts", "mpeg2video", lambda c: c[:-1504] + c[-1316:], "packets are lost"),
        ("mpegts", "mpeg2video", lambda c: c + c, "or recordings were joined"),
        ("mpegts", "mpeg2video", lambda c: flipped(c, 564, 3), "3 has no sync byte"),
        ("mpegts", "mpeg2video", lambda c: c[:700] + c[732:], "no sync byte"),
        (
            "mpegts",
            "mpeg2video",
            lambda c: flipped(c, c.index(b"\0\0\1\xe0"), 7),
            "packet 3 begins without a start code",
        ),
        (
            "mpegts",
            "mpeg2video",
            lambda c: flipped(c, c.index(b"\0\0\1\0"), 4),
            "group's first frame is damaged",
        ),
        (
            "mpeg",
            "mpeg1video",
            lambda c: flipped(c, c.index(b"\0\0\1\xe0") + 2, 1),
            "no packet begins at",
        ),
        (
            "mpeg",
            "mpeg1video",
            lambda c: flipped(c, c.index(b"\0\0\1\xe0") + 5, 3),
            "no packet begins at",
        ),
        (
            "mpeg",
            "mpeg1video",
            lambda c: flipped(c, c.index(b"\0\0\1\xe0") + 3, 1),
            "video 2 at .* was not declared",
        ),
        (
            "mpeg",
            "mpeg1video",
            lambda c: flipped(c, c.index(b"\0\0\1\xb3") + 1, 4),
            "first group has no sequence header",
        ),
        ("mpeg", "mpeg1video", lambda c: c[:-30], "packet is cut short"),
        (
            "asf",  # a packet of 2 GB
            "wmv2",
            lambda c: flipped(c, c.index(ASF_FILE) + 95, 7),
            "Invalid data|damaged",
        ),
        (
            "asf",
            "wmv2",
            lambda c: flipped(c, c.index(b"\x01\x08\0\0\0\0\x08"), 2),
            "of stream 5: there is none",
        ),
        (
            "asf",
            "wmv2",
            lambda c: flipped(c, c.index(b"\x01\x08\0\0\0\0\x08") + 1, 5),
            "frames are missing before packet 0",
        ),
    ],
)
def test_missing_parts_are_named(container, codec, damage, said):
    content = encode(frames(), container, codec, rate=25 if "mpeg" in codec else 10)
    assert read(content).shape == (1, 4, 16, 16, 3)
    with pytest.raises(VideoError, match=said) as caught:
        read(damage(content))
    assert caught.value.reason == "damaged video"


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["", "mpegts", "mpeg"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"OggS",
        b"\0\0\1\xba",
        b"\0\0\1\xba" + bytes(5000),
        b"\0\0\1\xba" + bytes(8) + b"\0\0\1",
        b"FLV",
        b"FLV\1\1\0\0\0\x09",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\xff",
        b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe",
        b"\x1a\x45\xdf\xa3\x80\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xfe",
        b"G" * 4000,
        b"\0" * 4000,
    ],
)
def test_checks_of_containers_end_on_any_bytes(content, kind, tmp_path):
    path = tmp_path / "a.video"
    path.write_bytes(content)
    with path.open("rb") as file:  # which can't go beyond what the disk could hold
        for stream in (io.BytesIO(content), file):
            try:
                check_mpeg_stream(stream, kind) if kind else check_container(stream)
            except ValueError as error:
                assert "packet" in str(error) or "page" in str(error)  # noqa: PT017


# === The log of FFmpeg ===
def test_the_log_is_left_as_it_was(caplog):
    content = encode(frames(), "mp4", "mpeg4", **CLEAR)
    odd = bytearray(content)
    middle = len(content) // 2
    odd[middle : middle + 40] = bytes(40)
    for level in (None, av.logging.FATAL, av.logging.INFO):
        av.logging.set_level(level)
        try:
            for _ in range(2):  # the same message again is no repetition
                with pytest.raises(VideoError, match="mpeg4"):
                    read(bytes(odd))
            assert av.logging.get_level() == level
            assert av.logging.get_skip_repeated() is True
        finally:
            av.logging.set_level(None)


def test_messages_of_other_parts_and_threads_are_not_ours():
    def log(part, level=av.logging.ERROR):
        av.logging.log(level, part, "message")

    with errors_raised(av, ["h264"]):
        log("aac")
        log("h264", av.logging.WARNING)
        other = threading.Thread(target=log, args=("h264",))
        logging.getLogger("libav").addHandler(logging.NullHandler())
        other.start()
        other.join()
    with (
        pytest.raises(DamageReported, match="h264: message"),
        errors_raised(av, ["h264"]),
    ):
        log("h264")


def test_videos_in_several_threads():
    content = encode(frames(), "mp4", "mpeg4", **CLEAR)
    odd = bytearray(content)
    middle = len(content) // 2
    odd[middle : middle + 40] = bytes(40)
    right, seen = read(content), []

    def work(which):
        for _ in range(10):
            try:
                seen.append((which, np.array_equal(read(which), right)))
            except VideoError:
                seen.append((which, "refused"))

    threads = [threading.Thread(target=work, args=(c,)) for c in (content, bytes(odd))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.count((content, True)) == 10
    assert seen.count((bytes(odd), "refused")) == 10
    assert av.logging.get_level() is None
