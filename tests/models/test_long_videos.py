"""Videos in parts and of different lengths: the average of all at once."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe import Embedder, PEVideoConverter
from keras_pe.arrays import NonFiniteError
from keras_pe.preprocessing.image_errors import VideoError
from tests.arrays import to_numpy
from tests.small_models import core, images, perturb

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def model():
    return perturb(core())


@pytest.fixture(scope="module")
def frames():
    return images(14).reshape(2, 7, 32, 32, 3)


@pytest.mark.parametrize("average", ["normalized", "raw"])
@pytest.mark.parametrize("normalize", [True, False])
def test_parts_add_up_to_the_whole(model, frames, average, normalize):
    right = to_numpy(model.encode_video(frames, normalize, average))
    for size in (1, 3, 7, 50):
        found = model.encode_video(frames, normalize, average, chunk_size=size)
        np.testing.assert_allclose(to_numpy(found), right, rtol=1e-6, atol=1e-6)
    listed = model.encode_video(list(frames), normalize, average, chunk_size=4)
    np.testing.assert_allclose(to_numpy(listed), right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("average", ["normalized", "raw"])
@pytest.mark.parametrize("size", [None, 2])
def test_masked_frames_do_not_count(model, frames, average, size):
    mask = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0, 1]], bool)
    right = [
        to_numpy(model.encode_video(video[kept][None], frame_average=average))[0]
        for video, kept in zip(frames, mask, strict=True)
    ]
    odd = frames.copy()
    odd[~mask] = np.nan
    odd[0, 4] = np.inf
    for given in (odd, ops.convert_to_tensor(odd)):
        found = model.encode_video(
            given, frame_average=average, frame_mask=mask, chunk_size=size
        )
        np.testing.assert_allclose(to_numpy(found), right, atol=1e-6)
    full = model.encode_video(frames, frame_mask=np.ones((2, 7), bool))
    np.testing.assert_allclose(
        to_numpy(full), to_numpy(model.encode_video(frames)), atol=1e-6
    )


def test_what_counts_may_not_be_anything(model, frames):
    odd = frames.copy()
    odd[1, 3] = np.nan
    mask = np.ones((2, 7), bool)
    for size in (None, 2):
        with pytest.raises(NonFiniteError, match="image 1 of 2"):
            model.encode_video(odd, frame_mask=mask, chunk_size=size)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.array([[True] * 7, [False] * 7]), "leaves video 1 without a frame"),
        (np.ones((2, 6), bool), r"shape \(2, 6\) and dtype bool; expected .* \(2, 7\)"),
        (np.ones((2, 7), "int32"), "dtype int32"),
        (np.ones(7, bool), r"shape \(7,\)"),
        (np.full((2, 7), True, object), r"dtype object; expected .* of bool"),
        ([["yes"] * 7] * 2, "dtype <U3; expected"),
        ("all", r"shape \(\) and dtype <U3"),
    ],
)
def test_bad_masks(model, frames, mask, said):
    with pytest.raises(ValueError, match=said):
        model.encode_video(frames, frame_mask=mask)


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_bad_sizes(model, frames, size):
    with pytest.raises((ValueError, TypeError), match="chunk_size"):
        model.encode_video(frames, chunk_size=size)


def gradients(model, frames, **options):
    """Gradients of a number that depends on all, by a kernel and by the frames."""
    kernel = model.vision_encoder.patch_embedding.projection.kernel
    weights = np.random.default_rng(1).normal(size=model.output_dim)
    weights = ops.convert_to_tensor(weights, "float32")

    def loss(given):
        found = model.encode_video(given, gradient=True, **options)
        return ops.sum(found * weights)

    backend = keras.backend.backend()
    if backend == "torch":
        given = ops.convert_to_tensor(frames).clone().requires_grad_()
        kernel.value.grad = None
        loss(given).backward()
        return to_numpy(kernel.value.grad), to_numpy(given.grad)
    if backend == "tensorflow":
        import tensorflow as tf

        given = tf.convert_to_tensor(frames)
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = loss(given)
        return tuple(map(to_numpy, tape.gradient(value, [kernel.value, given])))
    import jax

    def stateless(value, given):
        with keras.StatelessScope([(kernel, value)]):
            return loss(given)

    given = ops.convert_to_tensor(frames)
    return tuple(map(to_numpy, jax.grad(stateless, (0, 1))(kernel.value, given)))


def test_gradients_are_those_of_the_whole(model, frames):
    right = gradients(model, frames)
    found = gradients(model, frames, chunk_size=3)
    for one, other in zip(found, right, strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_masked_frames_have_no_gradient_and_no_part_in_one(model, frames):
    mask = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0, 1]], bool)
    odd = frames.copy()
    odd[~mask] = np.nan
    black = np.where(mask[..., None, None, None], frames, 0)
    for size in (None, 3):
        right = gradients(model, black, frame_mask=mask, chunk_size=size)
        found = gradients(model, odd, frame_mask=mask, chunk_size=size)
        for one, other in zip(found, right, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-7)
        assert np.abs(found[1][mask]).max() > 0
        assert not found[1][~mask].any()


# === The embedder ===
@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (n, 40, 48, 3), "uint8") for n in (3, 9, 20, 5)]


def test_an_embedder_takes_videos_of_many_frames_in_parts(model, clips, monkeypatch):
    converter = PEVideoConverter(32, num_frames=11)
    embedder = Embedder(model, video_converter=converter, batch_size=4)
    seen = []
    encode = model.encode_image
    monkeypatch.setattr(
        model, "encode_image", lambda x, *given: (seen.append(len(x)), encode(x))[1]
    )
    for normalize in (True, False):
        found = embedder.encode(clips, kind="video", normalize=normalize)
        right = model.encode_video(converter(clips), normalize=normalize)
        np.testing.assert_allclose(found, to_numpy(right), atol=1e-6)
    assert set(seen) == {4}


def test_videos_from_an_iterator_are_not_held(model, clips):
    embedder = Embedder(model, batch_size=16)  # two of eight frames at once
    right = embedder.encode(clips, progress=False)
    ahead = []

    def given():
        for number, clip in enumerate(clips):
            ahead.append(number)
            yield clip

    found = []
    encode = Embedder.encode

    class Noting(Embedder):
        def encode(self, inputs, **options):
            found.append(
                len(inputs) if isinstance(inputs, list) else max(ahead, default=0)
            )
            return encode(self, inputs, **options)

    noting = Noting(model, batch_size=16)
    np.testing.assert_allclose(noting.encode(given(), kind="video"), right, atol=1e-6)
    assert found == [0, 2, 2]
    frames = (frame for frame in clips[1])  # one video
    np.testing.assert_allclose(
        embedder.encode(frames, kind="video"), right[1:2], atol=1e-6
    )
    assert embedder.encode(iter([]), kind="video").shape == (0, 16)
    with pytest.raises(VideoError) as caught:
        embedder.encode(iter([*clips, np.zeros((0, 8, 8, 3), "uint8")]), kind="video")
    assert "after 4 videos" in caught.value.__notes__[0]


def test_parts_of_a_video_are_the_video():
    clip = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), "uint8")
    for num_frames in (5, 30):  # some twice
        converter = PEVideoConverter(8, num_frames=num_frames)
        right = converter(clip)[0]
        for size in (1, 4, 100):
            parts = list(converter.convert_parts(clip, size))
            assert [place for place, _ in parts] == list(range(0, num_frames, size))
            np.testing.assert_array_equal(np.concatenate([p for _, p in parts]), right)
        for size in (0, -1, 1.5, True, "2"):
            with pytest.raises(ValueError, match="part_size must be a whole number"):
                next(converter.convert_parts(clip, size))
