"""An encoder of ours in KerasHub's Gemma 3, in the place of its own."""

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="needs keras-pe[kerashub]")
import keras_hub

from keras_pe.kerashub import PEVisionTokens
from keras_pe.layers.projector import VisionProjector
from tests.arrays import to_numpy
from tests.kerashub.hub_models import largest_difference, layer_map
from tests.small_models import core, images, perturb, vision_encoder

WIDTH, FIRST, LENGTH = 24, 3, 12  # of embeddings; place of the image; of a row


def tokens(**options):
    return perturb(PEVisionTokens(vision_encoder().truncate(2), WIDTH, 2, **options))


def language_model():
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=50,
        image_size=32,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=WIDTH,
        intermediate_dim=32,
        head_dim=8,
        vision_encoder=tokens(),
    )
    return keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone)


def question(seed=0, length=LENGTH):
    places = np.arange(FIRST, FIRST + 4)
    rng = np.random.default_rng(seed)
    return {
        "token_ids": rng.integers(1, 50, (2, length)).astype("int32"),
        "padding_mask": (np.arange(length) < LENGTH)[None].repeat(2, 0).astype("int32"),
        "images": rng.uniform(-1, 1, (2, 1, 32, 32, 3)).astype("float32"),
        "vision_indices": places[None].repeat(2, 0).astype("int32"),
        "vision_mask": np.isin(np.arange(length), places)[None]
        .repeat(2, 0)
        .astype("int32"),
    }


def test_tokens_are_the_projected_patches():
    found = tokens()
    assert found.num_vision_tokens_per_image == 4
    x = images(6)
    patches = layer_map(found.encoder, x, norm=False).reshape(6, 16, 32)
    expected = found.projector(patches, grid=(4, 4))
    got = found(x.reshape(2, 3, 32, 32, 3))
    assert tuple(got.shape) == (6, 4, WIDTH)
    assert largest_difference(got, expected) < 1e-6


def test_the_model_reads_the_image():
    model = language_model()
    data = question()
    before = to_numpy(model(data))
    changed = to_numpy(model({**data, "images": -data["images"]}))
    difference = np.abs(changed - before).max(axis=(0, 2))
    assert (difference[:FIRST] == 0).all()
    assert (difference[FIRST:] > 1e-4).all()


@pytest.mark.compiled
def test_it_is_trained_generates_and_is_saved(tmp_path):
    model = language_model()
    data = question()
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    before = to_numpy(model.backbone.vision_encoder.encoder.blocks[0].weights[0])
    history = model.fit(data, np.roll(data["token_ids"], -1, 1), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = to_numpy(model.backbone.vision_encoder.encoder.blocks[0].weights[0])
    assert not np.array_equal(before, after)

    answer = model.generate(question(length=LENGTH + 3), stop_token_ids=None)
    ids = to_numpy(answer["token_ids"], "int32")
    np.testing.assert_array_equal(
        ids[:, :LENGTH], question(length=15)["token_ids"][:, :LENGTH]
    )

    model.save_to_preset(str(tmp_path))
    again = keras_hub.models.Gemma3CausalLM.from_preset(str(tmp_path))
    assert isinstance(again.backbone.vision_encoder, PEVisionTokens)
    assert largest_difference(again(data), model(data)) == 0


def test_a_trained_projector_and_another_size():
    projector = perturb(VisionProjector(32, WIDTH, norm=True))
    encoder = vision_encoder().truncate(2)
    found = PEVisionTokens(encoder, WIDTH, image_size=48, projector=projector)
    assert found.num_vision_tokens_per_image == 36
    again = PEVisionTokens.from_config(found.get_config())
    assert again.projector.norm is not None
    assert tuple(again(images(2, 48, 48)[None]).shape) == (2, 36, WIDTH)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"encoder\.truncate\(layer\)"):
        PEVisionTokens(vision_encoder(), WIDTH)
    with pytest.raises(ValueError, match=r"encoder\.truncate\(layer\)"):
        PEVisionTokens(core(), WIDTH)
    with pytest.raises(TypeError, match="needs a vision encoder, got int"):
        PEVisionTokens(3, WIDTH)
    with pytest.raises(ValueError, match="in squares of 3"):
        PEVisionTokens(vision_encoder().truncate(2), WIDTH, 3)
    with pytest.raises(ValueError, match="pooling"):
        PEVisionTokens(
            vision_encoder().truncate(2), WIDTH, 2, projector=VisionProjector(32, WIDTH)
        )
