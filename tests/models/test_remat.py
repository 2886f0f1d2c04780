"""Rematerialisation changes memory, not values: outputs and gradients agree."""

import keras
import numpy as np
import pytest

from tests.models.squared_output import SquaredOutput
from tests.small_models import images, perturb, vision_encoder

pytestmark = pytest.mark.quick


def after_one_step(remat, drop_path):
    keras.utils.set_random_seed(0)
    encoder = perturb(vision_encoder(num_layers=2, remat=remat, drop_path=drop_path))
    trainer = SquaredOutput(encoder)
    trainer.compile(keras.optimizers.SGD(0.1))
    loss = trainer.train_on_batch(images(4))
    return float(loss), [keras.ops.convert_to_numpy(w) for w in encoder.weights]


@pytest.mark.parametrize(
    "drop_path",
    [
        pytest.param(0.0, marks=pytest.mark.once),  # the easier one
        pytest.param(0.5, marks=pytest.mark.compiled),
    ],
)
@pytest.mark.slow
def test_same_loss_and_gradients(drop_path):
    loss, weights = after_one_step(False, drop_path)
    remat_loss, remat_weights = after_one_step(True, drop_path)
    assert remat_loss == pytest.approx(loss, rel=1e-5)
    for plain, recomputed in zip(weights, remat_weights, strict=True):
        np.testing.assert_allclose(plain, recomputed, rtol=1e-4, atol=1e-5)
