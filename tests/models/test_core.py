"""The dual encoder: embeddings, videos, errors, saving, training."""

import keras
import numpy as np
import pytest

import keras_pe
from keras_pe.losses import softmax_contrastive_loss
from keras_pe.training import ContrastiveTrainer
from tests.arrays import to_numpy
from tests.small_models import (
    core,
    images,
    perturb,
    text_encoder,
    token_ids,
    vision_encoder,
)

pytestmark = pytest.mark.quick


@pytest.mark.slow
def test_call_gives_unit_embeddings_and_the_scale():
    model = perturb(core())
    found = model({"images": images(3), "token_ids": token_ids(3)})
    for name in ("image_embeddings", "text_embeddings"):
        embeddings = to_numpy(found[name])
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    scale = to_numpy(found["logit_scale"])
    assert scale == pytest.approx(np.exp(to_numpy(model.logit_scale)))


def test_encode_equals_call():
    model = perturb(core())
    found = model({"images": images(3), "token_ids": token_ids(3)})
    np.testing.assert_allclose(
        to_numpy(model.encode_image(images(3))),
        to_numpy(found["image_embeddings"]),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        to_numpy(model.encode_text(token_ids(3))),
        to_numpy(found["text_embeddings"]),
        atol=1e-5,
    )


@pytest.mark.slow
def test_raw_embeddings_point_the_same_way():
    model = perturb(core())
    raw = to_numpy(model.encode_image(images(), normalize=False))
    unit = to_numpy(model.encode_image(images()))
    length = np.linalg.norm(raw, axis=1, keepdims=True)
    assert not np.allclose(length, 1.0)
    np.testing.assert_allclose(raw / length, unit, atol=1e-5)


@pytest.mark.slow
def test_text_ignores_what_follows_its_end():
    model = perturb(core())
    ids = token_ids(1)  # start, word, end, padding
    shorter = ids[:, :3]
    other = ids.copy()
    other[:, 4:] = 7
    expected = to_numpy(model.encode_text(ids))
    for same in (shorter, other):
        np.testing.assert_allclose(
            to_numpy(model.encode_text(same)), expected, atol=1e-5
        )


@pytest.mark.parametrize("average", ["raw", "normalized"])
@pytest.mark.slow
def test_video_is_the_average_of_its_frames(average):
    model = perturb(core())
    frames = images(6).reshape(2, 3, 32, 32, 3)
    single = to_numpy(model.encode_image(images(6), normalize=average == "normalized"))
    mean = single.reshape(2, 3, -1).mean(axis=1)
    found = model.encode_video(frames, normalize=False, frame_average=average)
    np.testing.assert_allclose(to_numpy(found), mean, atol=1e-5)
    unit = to_numpy(model.encode_video(frames, frame_average=average))
    np.testing.assert_allclose(
        unit, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5
    )


def test_bad_input_is_explained():
    model = core()
    with pytest.raises(ValueError, match="at most 8 tokens"):
        model.encode_text(np.zeros((1, 9), "int32"))
    with pytest.raises(ValueError, match="whole numbers"):
        model.encode_text(np.zeros((1, 8), "float32"))
    with pytest.raises(ValueError, match=r"frames\[None\]"):
        model.encode_video(images())
    with pytest.raises(ValueError, match="no frames has no average"):
        model.encode_video(images()[None, :0])
    with pytest.raises(ValueError, match="frame_average"):
        model.encode_video(images()[None], frame_average="median")
    with pytest.raises(ValueError, match=r"one size, got 16 .* and 8"):
        keras_pe.PECore(vision_encoder(), text_encoder(output_dim=8))
    with pytest.raises(ValueError, match="pooling=None"):
        keras_pe.PECore(vision_encoder(pooling=None), text_encoder())


def test_one_half_of_a_pair_is_told_where_it_goes():
    model = core()
    for read in (model, model.predict):
        with pytest.raises(TypeError, match=r"dictionary .*encode_image\(images\)"):
            read(images())
        with pytest.raises(ValueError, match=r"\['images'\].*model\.encode_image"):
            read({"images": images()})


@pytest.mark.slow
def test_saved_model_comes_back(tmp_path):
    model = perturb(core())
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        to_numpy(copy.encode_image(images())), to_numpy(model.encode_image(images()))
    )
    assert to_numpy(copy.logit_scale) == to_numpy(model.logit_scale)


@pytest.mark.slow
def test_logit_scale_is_float32_under_any_policy():
    model = core(dtype="bfloat16")
    assert model.logit_scale.dtype == "float32"
    found = model({"images": images(), "token_ids": token_ids(2)})
    assert keras.backend.standardize_dtype(found["image_embeddings"].dtype) == "float32"


@pytest.mark.slow
def test_lora_freezes_the_scale():
    model = core()
    model.enable_lora(2)
    assert not model.logit_scale.trainable
    assert all("lora" in v.path for v in model.trainable_variables)


@pytest.mark.slow
@pytest.mark.compiled
def test_training_matches_images_and_texts():
    model = core()
    trainer = ContrastiveTrainer(model)
    trainer.compile(keras.optimizers.AdamW(3e-3))
    batch = {"images": images(6), "token_ids": token_ids(6)}
    logs = [trainer.train_on_batch(batch, return_dict=True) for _ in range(25)]
    losses = [float(log["loss"]) for log in logs]
    assert losses[-1] < 0.5 * losses[0]
    similarity = (
        to_numpy(model.encode_image(images(6)))
        @ to_numpy(model.encode_text(token_ids(6))).T
    )
    assert (similarity.argmax(axis=1) == np.arange(6)).all()


@pytest.mark.slow
def test_logit_scale_is_clamped_in_the_loss():
    model = core()
    model.logit_scale.assign(50.0)
    trainer = ContrastiveTrainer(model, max_logit_scale=100.0)
    trainer.compile(keras.optimizers.SGD(0.0))
    batch = {"images": images(3), "token_ids": token_ids(3)}
    found = model(batch)
    expected = softmax_contrastive_loss(
        found["image_embeddings"], found["text_embeddings"], 100.0
    )
    loss = trainer.train_on_batch(batch, return_dict=True)["loss"]
    assert float(loss) == pytest.approx(float(to_numpy(expected)), rel=1e-4)
    with pytest.raises(ValueError, match="above 1"):
        ContrastiveTrainer(core(), max_logit_scale=0.5)
