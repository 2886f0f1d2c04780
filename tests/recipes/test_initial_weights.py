"""Weights that a run starts from."""

import dataclasses

import numpy as np
import pytest
from keras import ops

from keras_pe.training.resolution import ResolutionStage
from recipes.contrastive import build_model
from recipes.contrastive_configs import Config, small_towers
from recipes.initial_weights import load_initial_weights

pytestmark = pytest.mark.quick
CONFIG = Config(
    **small_towers(16, width=16, layers=1, text_layers=1),
    stages=(ResolutionStage(16, 8),),
    batch_size=8,
)


@pytest.mark.parametrize("kind", ["file", "preset"])
def test_weights_arrive(kind, tmp_path):
    given, model = build_model(CONFIG), build_model(CONFIG)
    if kind == "file":
        source = tmp_path / "model.weights.h5"
        given.save_weights(source)
    else:
        source = tmp_path / "preset"
        given.save_to_preset(source)
    load_initial_weights(model, str(source))
    for theirs, ours in zip(given.variables, model.variables, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(theirs), ops.convert_to_numpy(ours)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 32}, "has shape"), ({"layers": 2}, "does not fit")],
)
def test_a_preset_of_another_architecture_changes_nothing(change, message, tmp_path):
    sizes = {"width": 16, "layers": 1, "text_layers": 1, **change}
    other = dataclasses.replace(CONFIG, **small_towers(16, **sizes))
    build_model(other).save_to_preset(tmp_path / "preset")
    model = build_model(CONFIG)
    before = [ops.convert_to_numpy(v).copy() for v in model.variables]
    with pytest.raises(ValueError, match=message):
        load_initial_weights(model, str(tmp_path / "preset"))
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, ops.convert_to_numpy(variable))
