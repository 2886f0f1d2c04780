"""Clips as training batches: frames of one clip are varied alike."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_pe import PETokenizer
from keras_pe.data import SequentialOrder, TrainAugmentation, image_text_dataset
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.clip_frames import NO_CLIP, ClipFrames
from keras_pe.data.sample_errors import SampleError
from keras_pe.preprocessing.image_errors import ImageError, VideoError
from tests.preprocessing.odd_videos import encode

pytestmark = [pytest.mark.quick, pytest.mark.once]


def animation(count=12, size=(40, 30), kind="GIF"):
    """A clip whose frame n is grey, of value 20 n."""
    frames = [Image.new("RGB", size, (20 * n,) * 3) for n in range(count)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=50)
    return file.getvalue()


def video(count=12):
    return encode([np.full((32, 48, 3), 20 * n, "uint8") for n in range(count)])


@pytest.mark.parametrize(
    ("ending", "content"),
    [("gif", animation()), ("webp", animation(kind="WEBP")), ("mp4", video())],
)
def test_frames_are_spread_over_the_clip(ending, content):
    found = ClipFrames(WholeImage(16), 4)({ending: content}, np.random.default_rng(0))
    assert found.shape == (4, 16, 16, 3)
    grey = (found.mean((1, 2, 3)) + 1) * 127.5
    np.testing.assert_allclose(grey, [0, 60, 140, 220], atol=4)  # 0, 3, 7 and 11


def test_frames_are_varied_alike_and_clips_differently():
    still = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype="uint8")
    file = io.BytesIO()
    frames = [Image.fromarray(still)] * 3
    # A still clip that Pillow does not merge into one frame.
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], duration=50)
    make = ClipFrames(TrainAugmentation(16, dtype="uint8"), 3)
    rng = np.random.default_rng(1)
    one, other = (make({"png": file.getvalue()}, rng) for _ in range(2))
    assert (one == one[:1]).all()
    assert not (one == other).all()
    again = make({"png": file.getvalue()}, np.random.default_rng(1))
    np.testing.assert_array_equal(one, again)


def test_a_short_clip_shows_frames_twice():
    found = ClipFrames(WholeImage(8), 8)({"gif": animation(2)}, np.random.default_rng())
    assert found.shape == (8, 8, 8, 3)


def test_a_video_wins_over_an_image_beside_it():
    sample = {"png": animation(1, kind="PNG"), "mp4": video()}
    found = ClipFrames(WholeImage(8), 2)(sample, np.random.default_rng())
    assert np.abs(found[1] - found[0]).mean() > 1


def test_what_is_no_clip_is_named():
    make = ClipFrames(WholeImage(8), 2)
    with pytest.raises(SampleError, match="mp4") as error:
        make({"txt": b"an owl", "__key__": "1"}, np.random.default_rng())
    assert error.value.reason == NO_CLIP
    with pytest.raises(ImageError, match="mp4"):
        make({"mp4": b"no video"}, np.random.default_rng())
    with pytest.raises(ValueError, match="num_frames"):
        ClipFrames(WholeImage(8), 0)
    with pytest.raises(ValueError, match="rule"):
        ClipFrames(WholeImage(8), 2, "middle")


class Shorter:
    """Frames of a file that holds fewer than it declares, and says so once read."""

    def __init__(self, held):
        self.count, self.held = 12, held

    def read(self, numbers):
        yield from ((n, np.zeros((8, 8, 3), "uint8")) for n in numbers if n < self.held)
        self.count = self.held


def test_a_file_with_fewer_frames_than_it_declares():
    make = ClipFrames(WholeImage(8), 4)
    assert make.of_frames(Shorter(5), "clip", np.random.default_rng()).shape[0] == 4
    with pytest.raises(VideoError, match="ends early"):
        make.of_frames(Shorter(0), "clip", np.random.default_rng())


def test_batches_of_clips_are_pure_functions_and_replace_bad_ones():
    samples = [
        {"__key__": str(n), "gif": animation(4 + n), "txt": b"grey"} for n in range(8)
    ]
    samples[3]["gif"] = b"GIF89a damaged"
    dataset = image_text_dataset(
        samples,
        SequentialOrder(8, batch_size=4),
        transform=ClipFrames(TrainAugmentation(16, dtype="uint8"), 3),
        tokenizer=PETokenizer(16, 600),
    )
    batch, again = dataset[0], dataset[0]
    assert batch["images"].shape == (4, 3, 16, 16, 3)
    assert batch["images"].dtype == np.uint8
    np.testing.assert_array_equal(batch["images"], again["images"])
    assert [skipped.key for skipped in batch["skipped"]] == ["3"]
