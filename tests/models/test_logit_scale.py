"""The factor of the cosines: one limit, kept by all that reads or trains it."""

import math

import keras
import numpy as np
import pytest

import keras_pe
from keras_pe.evaluation.zero_shot import ZeroShotClassifier
from keras_pe.models.core import PECore
from tests.small_models import core, images, text_encoder, token_ids, vision_encoder

pytestmark = pytest.mark.quick
to_numpy = keras.ops.convert_to_numpy


class Lowered(keras.Model):
    """Its loss is the model's factor of the cosines: the gradient lowers it."""

    def __init__(self, model: PECore, sign: float = 1.0) -> None:
        super().__init__()
        self.model, self.sign = model, sign
        model.vision_encoder.trainable = model.text_encoder.trainable = False
        self.built = True

    def call(self, x):
        return self.sign * self.model.clamped_logit_scale() * keras.ops.ones_like(x)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return keras.ops.mean(y_pred)


def step(model: PECore, rate: float, sign: float = 1.0) -> float:
    trainer = Lowered(model, sign)
    trainer.compile(keras.optimizers.SGD(rate))
    trainer.train_on_batch(np.ones((1, 1), "float32"))
    return float(to_numpy(model.logit_scale))


@pytest.mark.parametrize(
    ("log_scale", "limit", "expected"),
    [
        (math.log(50), 100.0, 50.0),
        (10.0, 100.0, 100.0),
        (math.log(112.67), None, 112.67),
        (math.log(112.67), 200.0, 112.67),
    ],
)
def test_everything_reads_the_limited_scale(log_scale, limit, expected):
    model = PECore(vision_encoder(), text_encoder(), max_logit_scale=limit)
    model.logit_scale.assign(log_scale)
    found = model({"images": images(2), "token_ids": token_ids(2)})
    assert float(to_numpy(found["logit_scale"])) == pytest.approx(expected, rel=1e-5)
    tokenizer = keras_pe.PETokenizer(context_length=8, vocabulary_size=600)
    classifier = ZeroShotClassifier(model, tokenizer, ["a", "b"], templates=["{}"])
    assert classifier.logit_scale == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("start", [math.log(100), 4.65, 10.0])
def test_a_scale_at_or_above_the_limit_comes_down_with_the_whole_gradient(start):
    model = core()
    model.logit_scale.assign(start)
    # The loss is the factor itself, 100: so is its gradient to the logarithm.
    limited = min(start - 1e-3 * 100.0, math.log(100))
    assert step(model, rate=1e-3) == pytest.approx(limited, abs=1e-4)


def test_an_update_does_not_pass_the_limit():
    model = core()
    model.logit_scale.assign(math.log(99.0))
    assert step(model, rate=1.0, sign=-1.0) == pytest.approx(math.log(100), abs=1e-6)
    free = PECore(vision_encoder(), text_encoder(), max_logit_scale=None)
    free.logit_scale.assign(math.log(99.0))
    after = math.log(99.0) + 1e-2 * 99.0
    assert step(free, rate=1e-2, sign=-1.0) == pytest.approx(after, abs=1e-4)


def test_the_limit_is_part_of_the_model(tmp_path):
    assert "max_logit_scale" not in core().get_config()
    model = PECore(vision_encoder(), text_encoder(), max_logit_scale=None)
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset", dtype="bfloat16")
    assert keras.saving.load_model(tmp_path / "model.keras").max_logit_scale is None
    assert PECore.from_preset(tmp_path / "preset").max_logit_scale is None
    for wrong in (1.0, 0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="above 1, or None for no limit"):
            model.max_logit_scale = wrong


@pytest.mark.parametrize(
    "batch_size", [2, pytest.param(5, marks=pytest.mark.compiled), 8]
)
@pytest.mark.slow
def test_predict_joins_batches_of_any_size(batch_size):
    model = core()
    inputs = {"images": images(5), "token_ids": token_ids(5)}
    found = model.predict(inputs, batch_size=batch_size, verbose=0)
    expected = {name: to_numpy(value) for name, value in model(inputs).items()}
    assert found["logit_scale"].shape == ()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
    alone = model.predict_on_batch(inputs)
    assert alone["logit_scale"].shape == ()
