"""Each part moves as under an optimizer of its own that has its learning rate."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.training.optimizers.gradient_watch import WatchedAdamW
from keras_pe.training.optimizers.lamb import Lamb
from keras_pe.training.optimizers.part_rates import PartAdamW, PartLamb
from tests.arrays import to_numpy

KINDS = [(PartAdamW, WatchedAdamW), (PartLamb, Lamb)]
RATES = {"encoder/": 0.1, "decoder/bias": 3.0}


def variables(
    names=("encoder/kernel", "encoder/bias", "decoder/kernel", "decoder/bias"),
):
    rng = np.random.default_rng(0)
    found = []
    for name in names:
        shape = (3,) if name.endswith("bias") else (3, 2)
        value = rng.normal(size=shape).astype("float32")
        scope, name = name.split("/")
        with keras.name_scope(scope):
            found.append(keras.Variable(value, name=name))
    return found


def trained(optimizer, weights, steps=3):
    rng = np.random.default_rng(1)
    for _ in range(steps):
        drawn = [rng.normal(size=tuple(w.shape)).astype("float32") for w in variables()]
        named = {w.path: g for w, g in zip(variables(), drawn, strict=True)}
        grads = [ops.convert_to_tensor(named[w.path]) for w in weights]
        optimizer.apply(grads, weights)
    return {w.path: to_numpy(w) for w in weights}


@pytest.mark.parametrize(("kind", "plain"), KINDS)
@pytest.mark.parametrize("decay", [0.5, 0.0])
def test_each_part_moves_as_alone(kind, plain, decay):
    def made(cls, rate, **options):
        optimizer = cls(rate, weight_decay=decay, **options)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer

    found = trained(made(kind, 0.01, part_rates=RATES), variables())
    names = ["encoder/kernel", "encoder/bias", "decoder/kernel", "decoder/bias"]
    for part, rate in ((names[:2], 0.001), (names[2:3], 0.01), (names[3:], 0.03)):
        alike = trained(made(plain, rate), variables())
        for path in part:
            np.testing.assert_allclose(found[path], alike[path], rtol=1e-5, atol=1e-7)


def test_it_comes_back_from_its_configuration():
    optimizer = PartLamb(0.01, part_rates=RATES)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is PartLamb
    assert again.part_rates == RATES


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"encoder": 0.0}, "not above 0"),
        ({"encoder": float("nan")}, "not above 0"),
        ({"(": 1.0}, "no regular expression"),
    ],
)
def test_what_can_not_be_is_refused(rates, said):
    with pytest.raises(ValueError, match=said):
        PartAdamW(0.01, part_rates=rates)


def test_a_part_that_is_not_there_is_told():
    with pytest.raises(ValueError, match=r"'projector/'\] fits none of the 4"):
        PartAdamW(0.01, part_rates={"projector/": 0.1}).build(variables())
