"""Attention weights against what the layers make of them."""

import numpy as np
import pytest

from keras_pe.layers.attention import rotary_table
from keras_pe.visualization import attention_maps, pooling_attention
from tests.arrays import to_numpy
from tests.small_models import images, perturb, vision_encoder

pytestmark = pytest.mark.slow
SIZE = (16, 24)  # 2 rows and 3 columns of patches


def weigh(weights, values):
    """Mixes values (batch, tokens, heads, head_dim) by weights, head by head."""
    batch, heads, queries, _ = weights.shape
    mixed = np.zeros((batch, queries, heads, values.shape[-1]), "float32")
    for head in range(heads):
        mixed[:, :, head] = weights[:, head] @ values[:, :, head]
    return mixed.reshape(batch, queries, -1)


@pytest.mark.parametrize(
    ("changes", "layer"),
    [
        ({}, 2),
        ({"class_token": False, "rope_reference_grid": 4}, -3),
        pytest.param({"rope": False}, 3, marks=pytest.mark.slow),
    ],
)
def test_weighted_values_are_the_output_of_the_block(changes, layer):
    encoder = perturb(vision_encoder(**changes))
    x = images(2, *SIZE)
    weights = attention_maps(encoder, x, layer)
    tokens = 6 + encoder.class_token
    assert weights.shape == (2, 4, tokens, tokens)
    assert weights.dtype == "float32"
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)

    number = layer if layer > 0 else layer + 4
    block = encoder.blocks[number - 1]
    before = encoder.features(x, number - 1, class_token=encoder.class_token)
    normed = block.attention_norm(before.values)
    rotary = None
    if encoder.rope:
        rotary = rotary_table(
            (2, 3),
            encoder.head_dim,
            class_token=encoder.class_token,
            reference_grid=encoder.rope_reference_grid,
        )
    expected = to_numpy(block.attention(normed, rotary=rotary))
    values = to_numpy(block.attention.qkv(normed)).reshape(2, tokens, 3, 4, 8)[:, :, 2]
    found = to_numpy(block.attention.output_projection(weigh(weights, values)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("class_token", [True, False])
def test_weighted_values_are_the_output_of_the_pooling(class_token):
    encoder = perturb(vision_encoder(class_token=class_token))
    x = images(2, *SIZE)
    found = pooling_attention(encoder, x)
    assert found.patches.shape == (2, 8, 2, 3)
    weights = found.patches.reshape(2, 8, 6)
    if class_token:
        weights = np.concatenate([found.class_token[..., None], weights], axis=-1)
    else:
        assert found.class_token is None
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)

    pool = encoder.attention_pooling
    tokens = encoder.features(x, norm=True, class_token=class_token).values
    values = to_numpy(pool.key_value(tokens)).reshape(2, -1, 2, 8, 4)[:, :, 1]
    pooled = pool.output_projection(weigh(weights[:, :, None], values))
    pooled = to_numpy(pooled + pool.feed_forward(pool.norm(pooled)))[:, 0]
    np.testing.assert_allclose(pooled, to_numpy(pool(tokens)), atol=1e-5)


def test_windows_have_no_map_of_the_whole_image():
    encoder = vision_encoder(window_size=2, global_blocks=(-1,))
    with pytest.raises(ValueError, match=r"Block 2 .* windows of 2 .* blocks \(3,\)"):
        attention_maps(encoder, images(1, *SIZE), 2)


@pytest.mark.slow
def test_a_global_block_reads_what_windows_made():
    encoder = perturb(vision_encoder(window_size=2, global_blocks=(3,)))
    x = images(1, *SIZE)
    found = attention_maps(encoder, x, 3)
    plain = perturb(vision_encoder())  # the same weights
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-5)
    assert not np.allclose(found, attention_maps(plain, x, 3), atol=1e-3)
    one = images(1, 16, 16)  # a single window
    np.testing.assert_allclose(
        attention_maps(encoder, one, 1), attention_maps(plain, one, 1), atol=1e-5
    )


@pytest.mark.slow
def test_weights_are_float32_under_low_precision():
    encoder = perturb(vision_encoder(dtype="bfloat16"))
    weights = attention_maps(encoder, images(1, *SIZE))
    assert weights.dtype == "float32"
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)


def test_layers_without_attention_are_explained():
    encoder = vision_encoder()
    with pytest.raises(ValueError, match="Layer 0 is the input"):
        attention_maps(encoder, images(), 0)
    with pytest.raises(ValueError, match="got 4"):
        attention_maps(encoder, images(), 4)
    with pytest.raises(ValueError, match="multiples of the patch size 8"):
        attention_maps(encoder, images(1, 30, 32))
    with pytest.raises(ValueError, match="pooling='token'"):
        pooling_attention(vision_encoder(pooling="token"), images())
