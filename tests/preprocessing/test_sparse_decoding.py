"""Reading the index alone, and leaving out frames: the same frames to the bit."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_pe.preprocessing import PEVideoConverter, VideoError, video_file
from keras_pe.preprocessing.unreferenced import is_unreferenced, length_size
from keras_pe.preprocessing.video_file import VideoFileFrames

sys.path.insert(0, str(Path(__file__).parent))
from odd_videos import encode, greys

av = pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.once]
B_FRAMES = "keyint=30:min-keyint=30:bframes=3:b-adapt=0:scenecut=0"


def moving(count, side=64):
    """A pattern that moves on noise: no frame is like another."""
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 256, (side, side, 3), "uint8")
    return [np.roll(pattern, (number, 2 * number), (0, 1)) for number in range(count)]


def reading_packets(monkeypatch):
    monkeypatch.setattr(video_file, "read_index", lambda *given: None)


def decoding_all(monkeypatch):
    monkeypatch.setattr(video_file, "length_size", lambda stream: 0)


def opened(content):
    return VideoFileFrames(content, "a", 10**6, 1000)


# === The index ===
INDEXED = {
    "h264": ("libx264", {"x264-params": B_FRAMES}),
    "h264, open groups": (
        "libx264",
        {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3:scenecut=0"},
    ),
    "h264, no B": ("libx264", {"bf": "0", "g": "6"}),
    "hevc": ("libx265", {"x265-params": "log-level=none:keyint=6"}),
    "mpeg4": ("mpeg4", {"bf": "2", "g": "6"}),
}


def counting_reads(monkeypatch):
    """Notes how often packets are counted, which reads the file."""
    counted = []
    count = VideoFileFrames._count

    def noted(self, *given):
        counted.append(self.name)
        return count(self, *given)

    monkeypatch.setattr(VideoFileFrames, "_count", noted)
    return counted


@pytest.mark.parametrize("kind", INDEXED)
@pytest.mark.parametrize("front", [False, True])
def test_the_index_says_what_packets_say(tmp_path, monkeypatch, kind, front):
    codec, options = INDEXED[kind]
    times = [3 * n + (n > 9) for n in range(31)]
    content = encode(moving(31), "mp4", codec, times=times, rate=25, **options)
    if front:
        content = index_in_front(content, tmp_path / "a.mp4")
    counted = counting_reads(monkeypatch)
    quick = opened(content)
    assert not counted
    reading_packets(monkeypatch)
    slow = opened(content)
    assert counted
    assert (quick.count, quick.times, quick.keys) == (31, slow.times, slow.keys)
    assert quick.timeline() == slow.timeline()
    for number in (0, 7, 30):
        [(_, one)], [(_, other)] = quick.read([number]), slow.read([number])
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def index_in_front(content, path):
    """As files for the web are written."""
    with (
        av.open(io.BytesIO(content)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as output,
    ):
        video = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                output.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(
    "muxing",
    [{"movflags": "frag_keyframe+empty_moov"}, {"movflags": "frag_keyframe"}],
)
def test_fragments_are_read(monkeypatch, muxing):
    counted = counting_reads(monkeypatch)
    content = encode(moving(20), "mp4", "libx264", muxing=muxing, g="6")
    assert opened(content).count == 20
    assert counted


def boxes(content, kind):
    return [i for i in range(len(content)) if content.startswith(kind, i)]


def test_an_index_that_is_damaged_gives_what_packets_give(monkeypatch):
    content = encode(moving(20), "mp4", "libx264", g="6", bf="2")
    [place] = boxes(content, b"ctts")
    read = 0
    for at in range(place + 4, place + 40):
        odd = bytearray(content)
        odd[at] ^= 0x41
        given = []
        for without in (False, True):
            with monkeypatch.context() as patch:
                if without:
                    reading_packets(patch)
                try:
                    given.append(PEVideoConverter(16, 4)(bytes(odd)))
                except VideoError:
                    given.append(None)
        found, right = given
        assert (found is None) == (right is None)
        if found is not None:
            read += 1
            np.testing.assert_array_equal(found, right)
    assert read > 0


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("cut", [100, 1000])
def test_a_file_that_is_cut_short_is_refused(tmp_path, front, cut):
    content = encode(moving(20), "mp4", "libx264", g="6")
    if front:
        content = index_in_front(content, tmp_path / "a.mp4")
    with pytest.raises(VideoError) as caught:
        PEVideoConverter(16, 4)(content[:-cut])
    assert caught.value.reason == "damaged video"


def test_what_lies_beyond_the_file_is_refused():
    content = encode(moving(20), "mp4", "libx264", g="6")
    [place] = boxes(content, b"stco")
    odd = bytearray(content)
    odd[place + 12 : place + 16] = struct.pack(">I", len(content) - 50)
    with pytest.raises(VideoError):
        PEVideoConverter(16, 4)(bytes(odd))


# === Frames that are left out ===
def x264(count=60, **more):
    return encode(moving(count), rate=25, **{"x264-params": B_FRAMES}, **more)


@pytest.mark.parametrize("container", ["mp4", "matroska", "flv"])
@pytest.mark.parametrize("pyramid", ["none", "normal"])
def test_frames_are_the_same_where_others_are_left_out(monkeypatch, container, pyramid):
    options = {"x264-params": f"{B_FRAMES}:b-pyramid={pyramid}"}
    content = encode(moving(60), container, "libx264", rate=25, **options)
    decoded = []
    monkeypatch.setattr(
        VideoFileFrames,
        "_decoded",
        counting_frames(VideoFileFrames._decoded, decoded),
    )
    asked = [[0, 17, 59], [29], [30], [43, 44, 45], list(range(60)), [58, 59]]
    sparse = [[np.asarray(f) for _, f in opened(content).read(some)] for some in asked]
    few = len(decoded)
    decoded.clear()
    decoding_all(monkeypatch)
    for some, found in zip(asked, sparse, strict=True):
        right = [np.asarray(frame) for _, frame in opened(content).read(some)]
        np.testing.assert_array_equal(found, right)
        assert len(found) == len(some)
    assert few < 0.8 * len(decoded)


def counting_frames(method, seen):
    def counted(self, *given):
        for frame in method(self, *given):
            seen.append(frame.pts)
            yield frame

    return counted


def test_where_units_begin_with_codes_all_are_decoded():
    for container, size in (("mp4", 4), ("matroska", 4), ("mpegts", 0)):
        content = x264(8, container=container)
        with av.open(io.BytesIO(content)) as file:
            assert length_size(file.streams.video[0]) == size
    with av.open(io.BytesIO(encode(greys(4), "mp4", "mpeg4"))) as file:
        assert length_size(file.streams.video[0]) == 0


def test_what_is_left_out_is_what_nothing_refers_to():
    with av.open(io.BytesIO(x264(60))) as file:
        kinds = [is_unreferenced(bytes(p), 4) for p in file.demux(video=0) if p.size]
    assert not kinds[0]
    assert 25 <= sum(kinds) <= 45  # two of each three B frames


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"", False),
        (b"\0\0\0\2\x01\xff", True),
        (b"\0\0\0\2\x06\xff\0\0\0\2\x01\xff", True),
        (b"\0\0\0\2\x06\xff", False),  # remarks alone
        (b"\0\0\0\2\x21\xff", False),  # a reference
        (b"\0\0\0\2\x01\xff\0\0\0\2\x61\xff", False),  # its second slice is one
        (b"\0\0\0\2\x05\xff", False),  # a key frame
        (b"\0\0\0\2\x07\xff\0\0\0\2\x01\xff", False),  # brings sizes of its own
        (b"\0\0\0\3\x01\xff", False),  # cut short
        (b"\0\0\0\0", False),
        (b"\0\0\0\2\x01\xff\0\0", False),
    ],
)
def test_packets_by_hand(packet, expected):
    assert is_unreferenced(packet, 4) is expected
    assert is_unreferenced(memoryview(packet), 4) is expected


def test_damage_in_a_frame_that_is_a_reference_is_seen():
    content = x264(30, container="mp4")
    with av.open(io.BytesIO(content)) as file:
        packets = [
            (p.pos, p.size, is_unreferenced(bytes(p), 4))
            for p in file.demux(video=0)
            if p.size
        ]
    seen = {True: 0, False: 0}
    converter = PEVideoConverter(16, 2)  # the first and the last frame
    right = converter(content)
    for place, size, unreferenced in packets[1:20]:
        odd = bytearray(content)
        odd[place + size // 2 : place + size // 2 + 30] = bytes(30)
        try:
            found = converter(bytes(odd))
        except VideoError:
            seen[unreferenced] += 1
        else:
            if unreferenced:  # nothing that is asked for depends on it
                np.testing.assert_array_equal(found, right)
    assert seen[False] > 0
    assert seen[True] == 0
