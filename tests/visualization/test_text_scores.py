"""Patches compared with texts: each method against a slow and obvious reference."""

import math

import numpy as np
import pytest

from keras_pe.visualization import (
    contributions,
    patch_embeddings,
    pooling_attention,
    text_score_maps,
)
from tests.arrays import to_numpy
from tests.small_models import core, images, perturb, token_ids, vision_encoder

pytestmark = pytest.mark.slow
SIZE = (16, 24)  # 2 rows and 3 columns of patches
VARIANTS = [
    {},
    pytest.param(
        {"class_token": False, "output_dim": None, "final_norm": False},
        marks=pytest.mark.slow,
    ),
    pytest.param({"output_bias": True}, marks=pytest.mark.slow),
]


def one_block(**changes):
    """Returns a small encoder: all that is asked for here is behind its last block."""
    return vision_encoder(num_layers=1, **changes)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def last_tokens(encoder, x):
    """Returns the last block's tokens, class token first, not normed."""
    return encoder.features(x, class_token=encoder.class_token).values


@pytest.mark.parametrize("changes", VARIANTS)
def test_contributions_add_up_to_the_embedding(changes):
    encoder = perturb(one_block(**changes))
    x = images(2, *SIZE)
    found = contributions(encoder, x)
    np.testing.assert_allclose(
        found.total(), unit(to_numpy(encoder.encode(x))), atol=1e-5
    )
    assert np.linalg.norm(found.constant, axis=-1).min() > 0.01
    if encoder.class_token:
        assert np.linalg.norm(found.class_token, axis=-1).min() > 0.01


def test_contributions_are_those_of_the_explicit_matrix():
    encoder = perturb(one_block())
    x = images(1, *SIZE)
    found = contributions(encoder, x)
    attention = pooling_attention(encoder, x)
    weights = np.concatenate(
        [attention.class_token[..., None], attention.patches.reshape(1, 8, 6)], axis=-1
    )[0].astype("float64")  # (heads, tokens)
    pool = encoder.attention_pooling
    tokens = encoder.norm(last_tokens(encoder, x))
    values = to_numpy(pool.key_value(tokens), "float64").reshape(7, 2, 8, 4)[:, 1]

    def kernel(dense):
        return to_numpy(dense.kernel, "float64")

    def bias(dense):
        return to_numpy(dense.bias, "float64")

    output = kernel(pool.output_projection).reshape(8, 4, 32)
    parts = np.zeros((7, 32))  # each token's part of the pooled vector
    for token in range(7):
        for head in range(8):
            parts[token] += weights[head, token] * values[token, head] @ output[head]
    pooled = parts.sum(axis=0) + bias(pool.output_projection)
    # The rest of the pooling as one 32 x 32 matrix, for this image alone.
    centre = np.eye(32) - 1 / 32
    scale = to_numpy(pool.norm.gamma) / np.sqrt(pooled.var() + 1e-5)
    expand, contract = pool.feed_forward.expand, pool.feed_forward.contract
    hidden = pooled @ centre * scale + to_numpy(pool.norm.beta)
    hidden = hidden @ kernel(expand) + bias(expand)
    gates = np.diag(0.5 * (1 + np.vectorize(math.erf)(hidden / np.sqrt(2))))
    inside = centre @ np.diag(scale) @ kernel(expand) @ gates @ kernel(contract)
    matrix = (np.eye(32) + inside) @ kernel(encoder.projection)
    length = np.linalg.norm(to_numpy(encoder(x)))
    expected = parts @ matrix / length
    np.testing.assert_allclose(found.class_token[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(found.patches[0].reshape(6, 16), expected[1:], atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS[:2])
def test_value_is_the_head_of_each_token_alone(changes):
    encoder = perturb(one_block(**changes))
    x = images(1, *SIZE)
    found = patch_embeddings(encoder, x, "value").reshape(6, -1)
    tokens = last_tokens(encoder, x)[:, int(encoder.class_token) :]
    for place in range(6):
        alone = to_numpy(encoder.head(tokens[:, place : place + 1]))[0]
        np.testing.assert_allclose(found[place], unit(alone), atol=1e-5)


@pytest.mark.slow
def test_projection_leaves_the_pooling_out():
    encoder = perturb(one_block())
    x = images(1, *SIZE)
    tokens = encoder.norm(last_tokens(encoder, x)[:, 1:])
    expected = unit(to_numpy(encoder.projection(tokens))).reshape(1, 2, 3, 16)
    found = patch_embeddings(encoder, x, "projection")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_score_maps_and_their_contrasts():
    model = perturb(core())
    model.logit_scale.assign(1.5)
    x = images(2, *SIZE)
    texts = model.encode_text(token_ids(3))
    maps = text_score_maps(model, x, texts)
    assert maps.shape == (2, 3, 2, 3)
    assert maps.dtype == "float32"
    parts = contributions(model.vision_encoder, x)
    rest = (parts.class_token + parts.constant) @ to_numpy(texts).T
    cosines = to_numpy(model.encode_image(x)) @ to_numpy(texts).T
    np.testing.assert_allclose(maps.sum(axis=(2, 3)) + rest, cosines, atol=1e-5)
    np.testing.assert_allclose(  # texts of any length
        text_score_maps(model, x, 3.0 * to_numpy(texts)), maps, atol=1e-6
    )

    mean = text_score_maps(model, x, texts, contrast="mean")
    np.testing.assert_allclose(mean, maps - maps.mean(axis=1)[:, None], atol=1e-6)
    for method, factor in (("contribution", 6.0), ("value", 1.0)):
        plain = text_score_maps(model, x, texts, method)
        logits = np.exp(np.exp(1.5) * factor * plain.astype("float64"))
        np.testing.assert_allclose(
            text_score_maps(model, x, texts, method, contrast="softmax"),
            logits / logits.sum(axis=1, keepdims=True),
            atol=1e-5,
        )


def test_bad_arguments_are_explained():
    model = core()
    texts = np.ones((2, 16), "float32")
    with pytest.raises(ValueError, match="method must be one of"):
        text_score_maps(model, images(), texts, "maskclip")
    with pytest.raises(ValueError, match="contrast must be one of"):
        text_score_maps(model, images(), texts, contrast="max")
    with pytest.raises(ValueError, match=r"text embeddings \(texts, 16\)"):
        text_score_maps(model, images(), texts[0])
    with pytest.raises(ValueError, match="needs at least two"):
        text_score_maps(model, images(), texts[:1], contrast="mean")
    with pytest.raises(ValueError, match="pools by attention"):
        patch_embeddings(one_block(pooling="average"), images(), "value")


@pytest.mark.slow
def test_quantised_weights_are_refused_or_used():
    encoder = perturb(one_block())
    x = images(1, *SIZE)
    before = patch_embeddings(encoder, x, "value")
    encoder.quantize("int8")
    with pytest.raises(ValueError, match='method="value"'):
        contributions(encoder, x)
    after = patch_embeddings(encoder, x, "value")
    assert (before * after).sum(axis=-1).min() > 0.95


@pytest.mark.slow
def test_contributions_under_low_precision():
    encoder = perturb(one_block(dtype="mixed_bfloat16"))
    x = images(1, *SIZE)
    total = contributions(encoder, x).total()
    np.testing.assert_allclose(total, unit(to_numpy(encoder.encode(x))), atol=0.05)
