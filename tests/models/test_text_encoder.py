"""The text tower: its last block computes the pooled token alone."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.small_models import perturb, text_encoder, token_ids
from tests.training.gradients import loss_and_gradients

pytestmark = pytest.mark.quick


class WholeText(keras.Model):
    """Sums up a text tower's output; on request the slow way, block by block."""

    def __init__(self, tower, slow):
        super().__init__(autocast=False)
        self.tower, self.slow = tower, slow
        self.built = True

    def call(self, inputs, training=None):
        ids, tower = inputs["token_ids"], self.tower
        if not self.slow:
            return tower(ids, training=training)
        x = tower.token_embedding(ids)
        x = x + tower.position_embedding[: ids.shape[1]]
        for block in tower.blocks:
            x = block(x)  # every token, to the end
        x = tower.norm(x)
        ends = ops.argmax(ids, axis=-1)
        rows = ops.one_hot(ends, ids.shape[1], dtype="float32")
        return tower.projection(ops.einsum("bt,btc->bc", rows, x))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        weights = np.random.default_rng(1).normal(size=y_pred.shape).astype("float32")
        return ops.sum(y_pred * ops.convert_to_tensor(weights))


@pytest.mark.slow
@pytest.mark.parametrize(
    "remat", [False, pytest.param(True, marks=pytest.mark.compiled)]
)
def test_pooled_token_alone_equals_all_tokens(remat):
    found = []
    for slow in (False, True):
        keras.utils.set_random_seed(0)
        tower = perturb(text_encoder(num_layers=2, remat=remat and not slow))
        # Texts end at different places; what follows must not matter.
        batch = {"token_ids": token_ids(4)}
        found.append(loss_and_gradients(WholeText(tower, slow), batch))
    (loss, gradients), (slow_loss, slow_gradients) = found
    assert loss == pytest.approx(slow_loss, rel=1e-5)
    assert len(gradients) == len(slow_gradients)
    for path, gradient in gradients.items():
        wanted = slow_gradients[path]
        largest = max(np.abs(wanted).max(), 1e-3)
        assert np.abs(gradient - wanted).max() / largest < 1e-5, path
