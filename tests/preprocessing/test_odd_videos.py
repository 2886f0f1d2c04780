"""Videos that are turned, transparent or oddly coded: right frames, or refused."""

import gc
import io
import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_pe.preprocessing import PEImageConverter, PEVideoConverter, VideoError
from keras_pe.preprocessing.frame_image import transposition
from keras_pe.preprocessing.image_errors import (
    NO_FRAMES,
    UNKNOWN_CODEC,
    UNKNOWN_CONTAINER,
)
from keras_pe.preprocessing.video_file import VideoFileFrames

sys.path.insert(0, str(Path(__file__).parent))
from odd_videos import (
    ORIENTATIONS,
    encode,
    greys,
    quadrants,
    remuxed,
    sound,
    trimmed,
    turned,
)

av = pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.once]


def frame_of(content, number=0):
    [(_, frame)] = VideoFileFrames(content, "a", 10**6, 100).read([number])
    return frame


def letters(frame):
    """Names the colours of the four quadrants."""
    pixels = np.asarray(frame.convert("RGB"))
    height, width = pixels.shape[:2]
    places = itertools.product(
        (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    )
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
    return "".join(
        names.get(tuple((pixels[place] > 128).astype(int)), "?") for place in places
    )


def levels(converted):
    """Returns the grey level of each frame, 0 to 255."""
    return np.rint((converted.mean(axis=(-3, -2, -1)) + 1) * 127.5).astype(int)


@pytest.fixture(scope="module")
def quarters():
    return encode([quadrants()] * 3)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_orientations(quarters, container, matrix):
    if container == "matroska":  # which has angles, not a matrix
        content = remuxed(turned(quarters, matrix), container)
    else:
        content = turned(remuxed(quarters, container), matrix)
    frame = frame_of(content)
    assert letters(frame) == ORIENTATIONS[matrix]
    assert frame.size == ((64, 48) if matrix[0] else (48, 64))


def test_videos_are_turned_whatever_pyav_calls_its_side_data(quarters, monkeypatch):
    content = turned(quarters, (0, 1, -1, 0))
    expected = letters(frame_of(content))
    assert expected != letters(frame_of(quarters))
    monkeypatch.setitem(sys.modules, "av.sidedata.sidedata", None)  # not to be imported
    assert letters(frame_of(content)) == expected


def test_matrices_that_are_no_orientation():
    assert transposition(None) is None
    assert transposition(np.zeros(4, "int64")) is None
    assert transposition(np.array([1, 1, -1, 1])) is None  # by 45 degrees
    assert transposition(np.array([-2, 0, 0, 7])) == Image.Transpose.FLIP_LEFT_RIGHT
    nearly = np.array([900, 65_530, -65_530, 900])
    assert transposition(nearly) == Image.Transpose.ROTATE_270


@pytest.mark.parametrize(
    ("container", "codec", "pixels"),
    [
        ("mov", "qtrle", "argb"),
        ("mov", "png", "rgba"),
        ("matroska", "ffv1", "yuva420p"),
        ("webm", "libvpx", "yuva420p"),
        ("webm", "libvpx-vp9", "yuva420p"),
    ],
)
def test_alpha_is_laid_on_the_background(container, codec, pixels):
    frame = np.zeros((32, 64, 4), "uint8")
    frame[..., 0], frame[:, :32, 3] = 255, 255  # red, the right half transparent
    options = {"auto-alt-ref": "0"} if "vpx" in codec else {}
    content = encode([frame] * 4, container, codec, pixels, **options)
    converter = PEVideoConverter((32, 64), 2, background=(0, 0, 255))
    found = np.rint((converter(content)[0] + 1) * 127.5)
    np.testing.assert_allclose(found[:, 16, 8], [[255, 0, 0]] * 2, atol=4)
    np.testing.assert_allclose(found[:, 16, 56], [[0, 0, 255]] * 2, atol=4)
    dropped = np.rint((PEVideoConverter((32, 64), 2)(content)[0] + 1) * 127.5)
    np.testing.assert_allclose(dropped[:, 16, 8], [[255, 0, 0]] * 2, atol=4)


MATRICES = {  # numbers of ITU-T H.273, and the weights of red and blue
    "BT.709": (1, 0.2126, 0.0722),
    "BT.601": (6, 0.299, 0.114),
    "BT.2020": (9, 0.2627, 0.0593),
}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_colours_by_the_files_own_matrix_and_range(matrix, full, container):
    number, red, blue = MATRICES[matrix]
    colours = np.array(
        [[200, 30, 60], [20, 180, 90], [40, 60, 220], [128] * 3, [250, 240, 20]]
    )
    r, g, b = colours.T / 255
    y = red * r + (1 - red - blue) * g + blue * b
    planes = [y, (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)]
    scales = [(255, 0), (255, 128), (255, 128)]
    scales = scales if full else [(219, 16), (224, 128), (224, 128)]
    frame = av.VideoFrame(80, 32, "yuv444p")
    for plane, values, (scale, offset) in zip(
        frame.planes, planes, scales, strict=True
    ):
        row = np.zeros(plane.line_size, "uint8")
        row[:80] = np.rint(values * scale + offset).clip(0, 255).repeat(16)
        plane.update(row.tobytes() * 32)
    frame.colorspace, frame.color_range, frame.pts = number, 2 if full else 1, 0
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        video = output.add_stream("libx264", rate=10, options={"qp": "0"})
        video.width, video.height, video.pix_fmt = 80, 32, "yuv444p"
        codec = video.codec_context
        codec.colorspace, codec.color_range = frame.colorspace, frame.color_range
        output.mux(video.encode(frame))
        output.mux(video.encode())
    found = np.asarray(frame_of(stream.getvalue()))[16, 8::16]
    np.testing.assert_allclose(found, colours, atol=2)


@pytest.mark.parametrize("container", ["avi", "mp4", "matroska"])
def test_a_title_in_latin_1_is_no_fault(container):
    content = encode(greys(), container, "mpeg4", metadata={"title": "cafXX"})
    odd = content.replace(b"cafXX", b"caf\xe9s")
    assert odd != content
    converter = PEVideoConverter(8, num_frames=4)
    np.testing.assert_array_equal(converter(odd), converter(content))


def with_unknown_codec(container):
    options = {"write_crc32": "0"} if container == "matroska" else {}
    content = encode(greys(4), container, "mpeg4", muxing=options)
    known = {"avi": b"FMP4", "matroska": b"V_MPEG4/ISO/ASP"}[container]
    return content.replace(known, b"ZZZ9" if container == "avi" else b"V_FUTURE/CODEC1")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: with_unknown_codec("avi"), UNKNOWN_CODEC),
        (lambda: with_unknown_codec("matroska"), UNKNOWN_CODEC),
        (lambda: sound(), NO_FRAMES),
        (lambda: sound("matroska"), NO_FRAMES),
        (lambda: sound(cover=True), NO_FRAMES),
        (lambda: encode(greys(4))[:60], "damaged video"),
    ],
)
def test_what_has_no_frames_is_refused_and_skipped(content, reason):
    content = content()
    with pytest.raises(VideoError) as caught:
        PEVideoConverter(8)(content)
    assert caught.value.reason == reason
    converter = PEVideoConverter(8, 2, on_error="skip")
    with pytest.warns(UserWarning, match="1 of 2"):
        assert converter([content, greys(2)]).shape == (1, 2, 8, 8, 3)
    assert converter.last_report.by_reason == {reason: 1}


@pytest.mark.parametrize(
    ("container", "codec", "pixels"),
    [("mov", "qtrle", "gray"), ("avi", "rawvideo", "monob")],
)
def test_palettes_outlast_a_jump(container, codec, pixels):
    halves = np.where(np.arange(64) < 32, 255, 0).astype("uint8")
    rows = [np.roll(halves, 4 * number)[:, None] for number in range(12)]
    frames = [np.broadcast_to(row, (48, 64, 3)) for row in rows]
    content = encode(frames, container, codec, pixels)
    with av.open(io.BytesIO(content)) as opened:
        assert opened.streams.video[0].codec_context.pix_fmt == "pal8"
    for number in (0, 5, 11):
        found = np.asarray(frame_of(content, number).convert("RGB"))
        np.testing.assert_array_equal(found, frames[number])


@pytest.mark.parametrize(
    ("container", "codec"), [("webm", "libvpx"), ("matroska", "libvpx-vp9")]
)
@pytest.mark.parametrize("tags", [{}, {"alpha_mode": "1"}])
def test_frames_with_alpha_are_turned_too(container, codec, tags):
    frame = np.dstack([quadrants(), np.full((48, 64), 255, "uint8")])
    frame[:24, :32, 3] = 0  # what is red is transparent
    options = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
    content = encode(
        [frame] * 3, container, codec, "yuva420p", rotation=90, tags=tags, **options
    )
    for number in (0, 2):
        found = frame_of(content, number)
        assert found.mode == "RGBA"
        assert found.size == (48, 64)
        canvas = Image.new("RGBA", found.size, (255, 255, 255, 255))
        canvas.alpha_composite(found)
        assert letters(canvas) == "GWWB"  # red would be the third


@pytest.mark.parametrize(("start", "count"), [(0, 10), (6, 10), (10, 10), (7, 5)])
def test_trimmed_videos_are_whole(start, count):
    content = encode(greys(20), g="5", bf="2")
    levels_of = PEVideoConverter(16, num_frames=count)
    found = levels(levels_of(trimmed(content, start, count))[0])
    np.testing.assert_allclose(found, 10 * np.arange(start, start + count), atol=3)


def test_frames_that_are_never_shown_do_not_count():
    content = encode(greys(), "webm", "libvpx")
    with av.open(io.BytesIO(content)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    hidden = packets[10]  # bit 4 of a VP8 frame's first byte says whether it is shown
    place = 0
    for packet in packets[:11]:  # some are equal
        place = content.index(packet, place + 1)
    content = content[:place] + bytes([hidden[0] & ~16]) + content[place + 1 :]
    assert VideoFileFrames(content, "a", 10**6, 100).count == 19
    found = levels(PEVideoConverter(8, num_frames=19)(content)[0])
    expected = [10 * number for number in range(20) if number != 10]
    np.testing.assert_allclose(found, expected, atol=6)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "flv"])
def test_frames_count_whatever_their_times(container):
    # A late start and uneven steps: the rule counts frames, it measures no time.
    times = np.cumsum([50, 1, 1, 7, 1, 1, 30, 1, 2, 1, 1, 1, 9, 1, 1, 1, 1, 4, 1, 1])
    content = encode(greys(), container, times=times.tolist())
    found = levels(PEVideoConverter(8, num_frames=20)(content)[0])
    np.testing.assert_allclose(found, 10 * np.arange(20), atol=3)


def test_a_hidden_default_image_is_left_out(tmp_path):
    red, *frames = (
        Image.new("RGB", (8, 8), c) for c in ("red", "blue", "lime", "blue")
    )
    path = tmp_path / "a.png"
    red.save(path, save_all=True, append_images=frames, default_image=True)
    found = np.rint((PEVideoConverter(8, num_frames=3)(path) + 1) * 127.5)[0, :, 0, 0]
    blue, green = [0, 0, 255], [0, 255, 0]
    np.testing.assert_array_equal(found, [blue, green, blue])
    still = np.rint((PEImageConverter(8)(path) + 1) * 127.5)[0, 0, 0]
    np.testing.assert_array_equal(still, blue)
    with pytest.raises(VideoError, match="at most 2"):
        PEVideoConverter(8, max_frames=2)(path)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_frames_are_drawn_upon_each_other(tmp_path, kind, disposal):
    frames = []
    for number in range(4):  # a square that moves over a transparent canvas
        frame = Image.new("RGBA", (32, 8))
        frame.paste((255, 0, 0, 255), (8 * number, 0, 8 * number + 8, 8))
        frames.append(frame)
    path = tmp_path / f"a.{kind.lower()}"
    options = {"GIF": {"disposal": disposal}, "PNG": {"disposal": disposal}}
    options["WEBP"] = {"lossless": True}
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], **options[kind])
    converter = PEVideoConverter((8, 32), 4, background=(0, 0, 255))
    found = np.rint((converter(path)[0] + 1) * 127.5)
    with Image.open(path) as opened:  # frame by frame from the beginning
        expected = []
        for number in range(4):
            opened.seek(number)
            canvas = Image.new("RGBA", (32, 8), (0, 0, 255))
            expected.append(Image.alpha_composite(canvas, opened.convert("RGBA")))
    expected = [np.asarray(frame.convert("RGB")) for frame in expected]
    np.testing.assert_array_equal(found, expected)
    for number, frame in enumerate(found):
        assert frame[4, 8 * number + 4].tolist() == [255, 0, 0]
    # Single frames, in whatever order videos are read.
    last = PEVideoConverter((8, 32), 1, "notebook", background=(0, 0, 255))(path)
    np.testing.assert_array_equal(np.rint((last[0, 0] + 1) * 127.5), expected[0])


def test_wide_animations_and_photos_with_more_images_behind_them(tmp_path):
    wide = [Image.fromarray(np.full((8, 8), v, "uint16")) for v in (0, 32_896, 65_535)]
    path = tmp_path / "a.png"
    wide[0].save(path, save_all=True, append_images=wide[1:])
    assert levels(PEVideoConverter(8, num_frames=3)(path)[0]).tolist() == [0, 128, 255]
    photo, other = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8))
    path = tmp_path / "a.jpg"
    photo.save(path, "MPO", save_all=True, append_images=[other])
    assert levels(PEVideoConverter(8, num_frames=3)(path)[0]).tolist() == [255] * 3


def test_other_containers_are_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.bmp")
    raw = encode(greys(3), "h264", "libx264")
    for content, kind in (((tmp_path / "a.bmp").read_bytes(), "bmp"), (raw, "h264")):
        with pytest.raises(VideoError, match=f"'{kind}.*expected one of mov") as caught:
            PEVideoConverter(8)(content)
        assert caught.value.reason == UNKNOWN_CONTAINER


def test_open_files_are_videos_too(tmp_path, quarters):
    path = tmp_path / "a.mp4"
    path.write_bytes(quarters)
    converter = PEVideoConverter(8, num_frames=2)
    expected = converter(path)
    with path.open("rb") as file:
        np.testing.assert_array_equal(converter(file), expected)
        np.testing.assert_array_equal(converter([file, file]), expected.repeat(2, 0))
    stream = io.BytesIO(quarters)
    stream.read()
    np.testing.assert_array_equal(converter(stream), expected)
    for unordered in ({str(path)}, {"a": path}):
        with pytest.raises(VideoError, match="expected a path"):
            converter(unordered)


def test_frames_leave_no_thread_and_no_memory_behind(quarters):
    converter = PEVideoConverter(16, num_frames=3)
    converter(quarters)  # what is imported and kept once
    gc.collect()
    threads = set(os.listdir("/proc/self/task"))
    gc.disable()  # what is let go of must be free at once
    try:
        converter(quarters)
        assert not any(isinstance(item, av.VideoFrame) for item in gc.get_objects())
        assert not set(os.listdir("/proc/self/task")) - threads
    finally:
        gc.enable()
