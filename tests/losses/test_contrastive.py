"""The contrastive loss against a loop over rows; what it is given and refuses."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.losses import softmax_contrastive_loss
from tests.losses.cases import IDS
from tests.losses.embeddings import unit
from tests.losses.gradients import value_and_gradients

pytestmark = pytest.mark.quick


def slow_loss(x, y, scale, ids=None):
    total = 0.0
    for i in range(len(x)):
        for a, b in ((x, y), (y, x)):
            others = [
                j for j in range(len(b)) if j == i or ids is None or ids[j] != ids[i]
            ]
            logits = {j: scale * float(a[i] @ b[j]) for j in others}
            total += np.log(np.sum(np.exp(list(logits.values())))) - logits[i]
    return total / (2 * len(x))


@pytest.mark.parametrize("ids", [None, IDS], ids=["negative", "ignore"])
def test_equals_the_slow_one(ids):
    x, y = unit(0), unit(1)
    options = {} if ids is None else {"caption_ids": ids, "duplicates": "ignore"}
    for scale in (1.0, 14.3, 100.0):
        found = softmax_contrastive_loss(x, y, scale, **options)
        expected = slow_loss(x.astype(float), y.astype(float), scale, ids)
        assert float(ops.convert_to_numpy(found)) == pytest.approx(expected, rel=1e-6)


def test_caption_ids_alone_change_nothing():
    x, y = unit(0), unit(1)
    plain, with_ids = (
        float(ops.convert_to_numpy(softmax_contrastive_loss(x, y, 9.0, caption_ids=i)))
        for i in (None, IDS)
    )
    assert plain == with_ids


def test_a_batch_of_one_caption_has_no_negatives():
    x, y, ids = unit(0), unit(1), np.zeros(24, "int32")
    value, gradients = value_and_gradients(
        lambda *inputs: softmax_contrastive_loss(
            *inputs, caption_ids=ids, duplicates="ignore"
        ),
        x,
        y,
        np.float32(100),
    )
    assert value == 0
    assert all(np.allclose(g, 0, atol=1e-7) for g in gradients)


def test_is_symmetric_and_small_for_a_perfect_match():
    x, y = unit(0), unit(1)
    a, b = (
        float(ops.convert_to_numpy(softmax_contrastive_loss(*pair, 10.0)))
        for pair in ((x, y), (y, x))
    )
    assert a == pytest.approx(b, rel=1e-6)
    loss = softmax_contrastive_loss(*[np.eye(24, 32, dtype="float32")] * 2, 100.0)
    assert float(ops.convert_to_numpy(loss)) < 1e-6


def test_low_precision_input_is_computed_in_float32():
    x = ops.cast(unit(0), "bfloat16")
    loss = softmax_contrastive_loss(x, x, 100.0)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((unit(0), unit(1, count=5)), {}, r"both be \(batch, channels\)"),
        ((unit(0)[0], unit(1)[0]), {}, r"both be \(batch, channels\)"),
        ((unit(0), unit(1)), {"duplicates": "drop"}, "'drop'"),
        ((unit(0), unit(1)), {"duplicates": "ignore"}, "needs caption_ids"),
        (
            (unit(0), unit(1)),
            {"duplicates": "ignore", "caption_ids": IDS[:5]},
            r"\(24,\), got \(5,\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        softmax_contrastive_loss(*arguments, 10.0, **options)
