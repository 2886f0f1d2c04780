"""Contrastive training on clips: means of frames, in chunks and of images alone."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.training.trainers.contrastive_trainer import (
    ContrastiveTrainer,
    num_frames,
)
from tests.small_models import core, images, perturb, token_ids
from tests.training.gradients import loss_and_gradients

pytestmark = pytest.mark.quick
CLIPS, FRAMES = 6, 3


def trainer(**options):
    keras.utils.set_random_seed(0)
    return ContrastiveTrainer(perturb(core(num_layers=2)), **options)


def batch(clips=CLIPS):
    frames = images(clips * FRAMES)
    shape = (clips, FRAMES, *frames.shape[1:])
    return {"images": np.reshape(frames, shape), "token_ids": token_ids(clips)}


def assert_same(ours, theirs):
    (loss, gradients), (other, others) = ours, theirs
    assert loss == pytest.approx(other, rel=1e-5)
    for path, gradient in gradients.items():
        largest = max(np.abs(others[path]).max(), 1e-2)
        assert np.abs(gradient - others[path]).max() / largest < 1e-4, path


def test_a_clip_is_what_encode_video_makes_of_it():
    stage, given = trainer(), batch()
    found = ops.convert_to_numpy(stage(given, training=False)["image_embeddings"])
    wanted = np.asarray(stage.model.encode_video(given["images"]))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_still_clip_is_its_image():
    """The slow way: equal frames give loss and gradients of one image each."""
    given = batch()
    given["images"] = np.repeat(given["images"][:, :1], FRAMES, axis=1)
    one = {**given, "images": given["images"][:, 0]}
    ours = loss_and_gradients(trainer(), given)
    assert_same(ours, loss_and_gradients(trainer(), one))


def test_the_order_of_frames_is_not_seen():
    given = batch()
    turned = {**given, "images": given["images"][:, ::-1].copy()}
    ours = loss_and_gradients(trainer(), given)
    assert_same(loss_and_gradients(trainer(), turned), ours)


def test_chunks_change_nothing():
    ours = loss_and_gradients(trainer(image_chunk_size=2), batch())
    assert_same(ours, loss_and_gradients(trainer(), batch()))


def test_patches_of_clips_are_neither_masked_nor_dropped():
    given = batch()
    given["kept_patches"] = np.zeros((CLIPS, 4), "int32")
    with pytest.raises(ValueError, match=r"of images, got clips \(6, 3, "):
        trainer()(given, training=True)


@pytest.mark.parametrize("frames", [0, None])
def test_clips_without_frames_are_refused(frames):
    with pytest.raises(ValueError, match="need frames"):
        num_frames((CLIPS, frames, 16, 16, 3))


def test_a_step_of_fit_and_an_evaluation():
    stage = trainer()
    stage.compile(keras.optimizers.AdamW(1e-3))
    history = stage.fit(
        ((each,) for each in [batch()] * 2), steps_per_epoch=2, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    found = stage.evaluate(((each,) for each in [batch()]), steps=1, verbose=0)
    assert np.isfinite(found).all()
