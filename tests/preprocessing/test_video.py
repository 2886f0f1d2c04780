"""Frames of videos: which ones, from where, and what is refused."""

import builtins
import io
import json
import struct

import keras
import numpy as np
import pytest
from PIL import Image

from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.frame_choice import frame_indices
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.preprocessing.video import PEVideoConverter
from keras_pe.preprocessing.video_file import VideoError, VideoFileFrames

pytestmark = [pytest.mark.slow, pytest.mark.once]
LEVELS = [10 * i for i in range(20)]  # grey level of frame i


def clip(count=20, height=48, width=64):
    """Returns frames whose grey level says their number."""
    levels = np.array(LEVELS[:count], "uint8")[:, None, None, None]
    return np.broadcast_to(levels, (count, height, width, 3)).copy()


def write_video(path, frames, codec="libx264", gop=6):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.gop_size = "yuv420p", gop
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


def levels(converted):
    """Returns the grey level of each frame, 0 to 255."""
    means = converted.mean(axis=(-3, -2, -1))
    return np.rint((means + 1) * 127.5).astype(int)


def close(converted, numbers):
    return np.abs(levels(converted) - 10 * np.array(numbers)).max() <= 3


@pytest.mark.parametrize("total", [1, 3, 8, 30, 122, 299])
@pytest.mark.parametrize("count", [1, 2, 8, 14, 32])
def test_frame_rules_are_the_formulas(total, count):
    if count > 1:
        expected = [int(i * (total - 1) / (count - 1)) for i in range(count)]
        assert frame_indices(total, count) == expected
    expected = [int(i * (total / count)) for i in range(count)]
    assert frame_indices(total, count, "notebook") == expected
    assert frame_indices(9, 1) == [4]  # the middle one


def test_the_notebook_rule_rounds_as_the_notebook_does():
    # 7 * 122 / 14 is 61, but upstream divides first, and 7 * (122 / 14) is below it.
    assert frame_indices(122, 14, "notebook")[6:9] == [52, 60, 69]


def test_bad_frame_rules():
    with pytest.raises(ValueError, match="benchmark"):
        frame_indices(10, 2, "random")
    with pytest.raises(ValueError, match="at least one"):
        frame_indices(0, 2)
    with pytest.raises(ValueError, match=r"2\.5 frames: expected a whole number"):
        frame_indices(10, 2.5)


@pytest.mark.parametrize("rule", ["benchmark", "notebook"])
def test_arrays_and_lists_of_frames(rule):
    frames = clip()
    converter = PEVideoConverter((16, 24), 8, rule, resize_mode="center_crop")
    found = converter(frames)
    assert found.shape == (1, 8, 16, 24, 3)
    assert found.dtype == np.float32
    chosen = frames[frame_indices(20, 8, rule)]
    images = PEImageConverter((16, 24), "center_crop")
    np.testing.assert_array_equal(found[0], images(chosen))
    stills = [Image.fromarray(frame) for frame in frames]
    np.testing.assert_array_equal(converter(stills), found)
    np.testing.assert_array_equal(converter([stills, frames]), np.repeat(found, 2, 0))
    assert converter(frames[None].repeat(3, 0)).shape == (3, 8, 16, 24, 3)
    assert converter([]).shape == (0, 8, 16, 24, 3)


def test_floats_are_checked_in_frames_that_are_left_out():
    clip = np.zeros((5, 8, 8, 3), "float32")
    for level in (200.0, -0.5, np.nan):
        clip[2] = level
        with pytest.raises(ImageError, match=r"expected \[0, 1\]"):
            PEVideoConverter(8, num_frames=2)(clip)


def test_arrays_of_frames_and_single_frames():
    frames = np.empty(3, object)
    frames[:] = [Image.new("L", (8, 8), 100 * i) for i in range(3)]
    found = PEVideoConverter(8, num_frames=3)(frames)
    np.testing.assert_allclose((found[0, :, 0, 0, 0] + 1) * 127.5, [0, 100, 200])
    with pytest.raises(VideoError, match="One frame goes into a list"):
        PEVideoConverter(8)(np.zeros((8, 8, 3), "uint8"))


def test_a_short_video_repeats_frames():
    found = PEVideoConverter(8, num_frames=4)(clip(2))
    assert levels(found)[0].tolist() == [0, 0, 0, 10]


def test_a_folder_of_frames_is_ordered_by_number(tmp_path):
    for i, frame in enumerate(clip(12)):
        Image.fromarray(frame).save(tmp_path / f"frame{i}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.png").write_bytes(b"")
    found = PEVideoConverter(8, num_frames=12)(tmp_path)
    assert levels(found)[0].tolist() == LEVELS[:12]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations(tmp_path, kind):
    images = [Image.fromarray(frame) for frame in clip()]
    path = tmp_path / f"clip.{kind.lower()}"
    options = {"lossless": True} if kind == "WEBP" else {}
    images[0].save(path, kind, save_all=True, append_images=images[1:], **options)
    found = PEVideoConverter(8, num_frames=5)(str(path))
    assert close(found[0], [0, 4, 9, 14, 19])
    with pytest.raises(VideoError, match="at most 19"):
        PEVideoConverter(8, max_frames=19)(path)
    with pytest.raises(VideoError, match="too many pixels"):
        PEVideoConverter(8, max_pixels=48 * 64 - 1)(path)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("b.mp4", "libx264"), ("c.mkv", "ffv1"), ("d.avi", "mpeg4"), ("e.ts", "libx264")],
)
def test_video_files(tmp_path, name, codec):
    path = write_video(tmp_path / name, clip(), codec)
    numbers = frame_indices(20, 5)
    found = PEVideoConverter(16, num_frames=5)(path)
    assert close(found[0], numbers)
    # Bytes of a file, and decoding from the beginning without any seeking.
    np.testing.assert_array_equal(
        PEVideoConverter(16, num_frames=5)(path.read_bytes()), found
    )
    frames = VideoFileFrames(path, name, 10**6, 100)
    assert frames.count == 20
    slow = [np.asarray(image) for _, image in frames._in_order(numbers)]
    fast = [np.asarray(image) for _, image in frames.read(numbers)]
    np.testing.assert_array_equal(fast, slow)
    if name == "b.mp4":  # B frames: packets are not in the order of showing
        seeking = dict(frames._seeking(numbers))
        assert list(seeking) == numbers


def test_a_video_that_ends_early_is_spread_anew(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip())
    frames = VideoFileFrames(path, "a", 10**6, 100)
    frames.count = 25  # as if the header promised more
    assert [number for number, _ in frames.read([0, 10, 19, 24])] == [0, 10, 19]
    assert frames.count == 20


def test_a_turned_phone(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(3))
    content = path.read_bytes()
    straight = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    place = content.index(straight, content.index(b"tkhd"))
    content = content[:place] + turned + content[place + len(turned) :]
    upright = VideoFileFrames(content, "a", 10**6, 100)
    assert [frame.size for _, frame in upright.read([0])] == [(48, 64)]
    # The top left corner of what is stored comes to the top right.
    marked = clip(3)
    marked[:, :24, :32] = 255
    content = write_video(path, marked).read_bytes()
    place = content.index(straight, content.index(b"tkhd"))
    content = content[:place] + turned + content[place + len(turned) :]
    [(_, frame)] = VideoFileFrames(content, "a", 10**6, 100).read([0])
    corners = np.asarray(frame.convert("L"))[[4, 4, -4, -4], [4, -4, 4, -4]]
    assert (corners > 128).tolist() == [False, True, False, False]


def test_limits_are_checked_before_decoding(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip())
    with pytest.raises(VideoError, match="64 x 48"):
        PEVideoConverter(8, max_pixels=1000)(path)
    with pytest.raises(VideoError, match="at most 63"):
        PEVideoConverter(8, max_side=63)(path)
    with pytest.raises(VideoError, match="too many frames"):
        PEVideoConverter(8, max_frames=10)(path)
    with pytest.raises(VideoError, match="too many frames"):
        PEVideoConverter(8, max_frames=10)(clip())


def test_playlists_open_no_other_file(tmp_path):
    inner = write_video(tmp_path / "inner.ts", clip())
    playlist = tmp_path / "list.mp4"
    playlist.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{inner}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(VideoError, match="damaged"):
        PEVideoConverter(8)(playlist)


def test_files_that_are_no_videos(tmp_path):
    pytest.importorskip("av")
    empty, text, folder = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c"
    empty.write_bytes(b"")
    text.write_bytes(b"no video at all, just text" * 50)
    folder.mkdir()
    for video, message in (
        (empty, "empty file"),
        (text, "damaged video"),
        (folder, "no frames"),
        (tmp_path / "missing.mp4", "missing file"),
        (np.zeros((2, 8, 3, 8, 8)), "channels-first"),
        ({"frames": 1}, "A dict"),
        (np.zeros((8, 8), "uint8"), r"shape \(8, 8\)"),
    ):
        with pytest.raises(ImageError, match=message):
            PEVideoConverter(8)(video)
    cut = tmp_path / "cut.mp4"
    content = write_video(text, clip()).read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError, match="damaged video"):
        PEVideoConverter(8)(cut)


def test_bad_videos_are_skipped_and_named(tmp_path):
    bad = tmp_path / "bad.gif"
    bad.write_bytes(b"GIF89a broken")
    converter = PEVideoConverter(8, num_frames=2, on_error="skip")
    with pytest.warns(UserWarning, match=r"bad\.gif"):
        assert converter([clip(), bad]).shape[0] == 1
    assert converter.last_report.num_skipped == 1
    batches = load_batches([clip(), bad], converter, 2, max_skipped_share=0.5)
    [(indices, videos)] = list(batches)
    assert indices.tolist() == [0]
    assert videos.shape == (1, 2, 8, 8, 3)
    assert "bad.gif" in str(batches.report)


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_av(name, *arguments, **options):
        if name == "av":
            raise ImportError("No module named 'av'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(ImportError, match=r"keras-pe\[video\]"):
        PEVideoConverter(8)(b"\0\0\0\x18ftypmp42")
    assert PEVideoConverter(8)(clip()).shape == (1, 8, 8, 8, 3)  # needs none


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "num_frames"),
        ({"num_frames": True}, "num_frames"),
        ({"frame_rule": "all"}, "frame_rule"),
        ({"max_frames": 0}, "max_frames"),
        ({"resize_mode": "pad"}, "resize_mode"),
        ({"image_size": 0}, "image_size"),
        ({"on_error": "ignore"}, "on_error"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        PEVideoConverter(**arguments)


def test_config_round_trip():
    converter = PEVideoConverter((16, 8), 3, "notebook", max_frames=9, on_error="skip")
    config = json.loads(json.dumps(converter.get_config()))
    again = PEVideoConverter.from_config(config)
    assert again.get_config() == config
    serialized = keras.saving.serialize_keras_object(converter)
    assert serialized["registered_name"] == "keras_pe>PEVideoConverter"
    preset = PEVideoConverter.from_preset("PE-Core-L14-336", num_frames=32)
    assert (preset.image_size, preset.num_frames) == ((336, 336), 32)


def test_transparent_animations(tmp_path):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    black = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    path = tmp_path / "a.webp"
    clear.save(path, save_all=True, append_images=[black], lossless=True)
    assert levels(PEVideoConverter(8, 2)(path)).tolist() == [[0, 0]]
    white = PEVideoConverter(8, 2, background=(255, 255, 255))
    assert levels(white(path)).tolist() == [[255, 0]]
    with pytest.raises(ImageError, match="allowed format"):
        PEVideoConverter(8, 2, formats=["GIF"])(path)


def test_a_still_image_is_a_video_of_one_frame():
    stream = io.BytesIO()
    Image.fromarray(clip()[7]).save(stream, "JPEG")
    assert close(PEVideoConverter(8, num_frames=3)(stream.getvalue())[0], [7, 7, 7])
