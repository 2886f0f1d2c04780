"""Blocks and attention against NumPy, and stochastic depth."""

import math

import keras
import numpy as np
import pytest

from keras_pe.layers import AttentionPooling, SelfAttention, TransformerBlock
from keras_pe.layers.transformer import drop_path_factors
from tests.arrays import to_numpy
from tests.small_models import perturb

pytestmark = pytest.mark.quick


def layer_norm(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    normed = (x - mean) / np.sqrt(variance + 1e-5)
    return normed * to_numpy(layer.gamma) + to_numpy(layer.beta)


def dense(x, layer):
    return x @ to_numpy(layer.kernel) + to_numpy(layer.bias)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def feed_forward(x, layer):
    hidden = dense(x, layer.expand)
    erf = np.vectorize(math.erf)
    return dense(0.5 * hidden * (1 + erf(hidden / math.sqrt(2))), layer.contract)


def attention(query, key, value, heads, causal=False):
    """Multi-head attention of (batch, tokens, hidden) arrays."""

    def split(x):
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    q, k, v = split(query), split(key), split(value)
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
    if causal:
        scores = np.where(np.tri(q.shape[2], k.shape[2], dtype=bool), scores, -np.inf)
    mixed = (softmax(scores) @ v).transpose(0, 2, 1, 3)
    return mixed.reshape(query.shape)


def tokens():
    return np.random.default_rng(0).normal(size=(2, 5, 24)).astype("float32")


def built(layer):
    layer(tokens())
    return perturb(layer)


@pytest.mark.parametrize("causal", [True, False])
def test_block_equals_numpy(causal):
    block = built(TransformerBlock(24, 3, 40, layer_scale=0.5, causal=causal))
    x = tokens()
    found = to_numpy(block(x))
    q, k, v = np.split(
        dense(layer_norm(x, block.attention_norm), block.attention.qkv), 3, axis=-1
    )
    mixed = dense(attention(q, k, v, 3, causal), block.attention.output_projection)
    x = x + mixed * to_numpy(block.attention_scale.scale)
    inner = feed_forward(layer_norm(x, block.feed_forward_norm), block.feed_forward)
    x = x + inner * to_numpy(block.feed_forward_scale.scale)
    np.testing.assert_allclose(found, x, atol=1e-4)


def test_causal_block_does_not_look_ahead():
    block = built(TransformerBlock(24, 3, 40, causal=True))
    x = tokens()
    changed = x.copy()
    changed[:, 3:] = 7.0
    np.testing.assert_allclose(
        to_numpy(block(x))[:, :3], to_numpy(block(changed))[:, :3], atol=1e-6
    )


@pytest.mark.slow
def test_pooling_equals_numpy():
    pool = built(AttentionPooling(24, 4))
    x = tokens()
    query = np.broadcast_to(dense(to_numpy(pool.probe)[None], pool.query), (2, 24))
    key, value = np.split(dense(x, pool.key_value), 2, axis=-1)
    heads = [
        softmax(np.einsum("bd,btd->bt", query[:, s], key[..., s]) / math.sqrt(6))[
            :, None
        ]
        @ value[..., s]
        for s in (slice(6 * h, 6 * h + 6) for h in range(4))
    ]
    pooled = dense(np.concatenate(heads, axis=-1)[:, 0], pool.output_projection)
    expected = pooled + feed_forward(layer_norm(pooled, pool.norm), pool.feed_forward)
    np.testing.assert_allclose(to_numpy(pool(x)), expected, atol=1e-4)


def test_drop_path_factors_are_zero_or_rescaled():
    generator = keras.random.SeedGenerator(3)
    factors = to_numpy(drop_path_factors(400, [0.0, 0.5], generator))
    assert factors.shape == (2, 2, 400, 1, 1)
    assert (factors[0] == 1.0).all()
    assert set(np.unique(factors[1])) == {0.0, 2.0}
    assert factors[1].mean() == pytest.approx(1.0, abs=0.15)
    assert not (factors[1, 0] == factors[1, 1]).all()  # each branch draws its own


def test_dropped_sample_passes_unchanged():
    block = built(TransformerBlock(24, 3, 40))
    x = tokens()
    factors = np.ones((2, 2, 1, 1), "float32")
    factors[:, 1] = 0.0
    found = to_numpy(block(x, drop_path=keras.ops.convert_to_tensor(factors)))
    np.testing.assert_array_equal(found[1], x[1])
    np.testing.assert_allclose(found[0], to_numpy(block(x))[0], atol=1e-6)


def test_heads_must_divide():
    with pytest.raises(ValueError, match="num_heads must divide"):
        SelfAttention(24, 5)
    with pytest.raises(ValueError, match="pooling_heads must divide"):
        AttentionPooling(24, 5)
