"""The written graphs against the towers, for every argument that changes them."""

import numpy as np
import pytest
from keras import ops

from keras_pe.export.comparison import alike
from keras_pe.export.layer_values import (
    file_value,
    layer_names,
    outputs_with_layers,
    recorded,
)
from keras_pe.export.onnx_graph import LARGEST_WEIGHT, int8_columns
from keras_pe.export.onnx_towers import tower_graph
from keras_pe.models.compiled import no_gradient
from tests.small_models import (
    images,
    perturb,
    text_encoder,
    token_ids,
    vision_encoder,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

VISION = {
    "as published": {},
    "no class token": {"class_token": False},
    "the class token": {"pooling": "token"},
    "the average": {"pooling": "average", "output_dim": None},
    "tokens": {"pooling": None, "output_dim": None, "final_norm": False},
    "projected tokens": {"pooling": None},
    "layer scale": {"layer_scale": 0.1, "drop_path": 0.1},
    "learned positions alone": {"rope": False},
    "positions of timm": {"rope_reference_grid": 4},
    "a bias": {"output_bias": True, "pooling_heads": 4},
}


def run(model, batch):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: batch})


def numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


# The graphs are written from weights, whatever the backend: one is enough.
pytestmark = pytest.mark.once


@pytest.mark.parametrize("changes", VISION.values(), ids=VISION.keys())
def test_vision_tower(changes):
    tower = perturb(vision_encoder(num_layers=2, **changes))
    model, _ = tower_graph(tower)
    onnx.checker.check_model(model, full_check=True)
    batch = images(3)
    (found,) = run(model, batch)
    wanted = numpy(tower.encode(batch))
    assert found.shape == wanted.shape
    assert alike(found, wanted)[1] < 1e-5


def test_another_size_than_the_native_one():
    tower = perturb(vision_encoder(num_layers=1))
    batch = images(2, 40, 24)
    model, _ = tower_graph(tower, (40, 24))
    assert alike(run(model, batch)[0], numpy(tower.encode(batch)))[1] < 1e-5


def test_text_tower_reads_any_batch():
    tower = perturb(text_encoder())
    model, _ = tower_graph(tower)
    onnx.checker.check_model(model, full_check=True)
    for count in (1, 2, 5):
        ids = token_ids(count)
        assert alike(run(model, ids)[0], numpy(tower.encode(ids)))[1] < 1e-5


def test_wrong_inputs_are_no_numbers():
    """Images of 0 to 255 and ids that do not exist: NaN for these rows alone."""
    batch = images(2)
    batch[1] *= 255
    (found,) = run(tower_graph(vision_encoder(num_layers=1))[0], batch)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
    ids = token_ids(2)
    ids[0, 1] = 600
    (found,) = run(tower_graph(text_encoder(num_layers=1))[0], ids)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


@pytest.mark.parametrize("make", [vision_encoder, text_encoder])
def test_layers_have_the_names_of_the_model(make):
    tower = perturb(make(num_layers=2))
    batch = images(2) if tower.modality == "vision" else token_ids(2)
    names = layer_names(tower)
    with no_gradient():
        wanted = outputs_with_layers(tower, ops.convert_to_tensor(batch), names)
    model, _ = tower_graph(tower, layers=tuple(map(file_value, names)))
    found = run(model, batch)
    for name, value, other in zip(("", *names), found, wanted, strict=True):
        assert alike(value, numpy(other))[1] < 1e-5, name


def test_recording_leaves_no_trace():
    tower = vision_encoder(num_layers=1)
    with recorded(tower) as seen:
        tower(images(1))
    assert tuple(seen) == layer_names(tower)
    seen.clear()
    tower(images(1))
    assert not seen
    assert "call" not in vars(tower.blocks[0])


def test_windows_are_refused():
    tower = vision_encoder(num_layers=1).convert(window_size=2)
    with pytest.raises(ValueError, match=r"has .*window_size.* knows"):
        tower_graph(tower)


def test_half_is_stored_in_float16():
    tower = perturb(vision_encoder(num_layers=1))
    full, half = (tower_graph(tower, half=half)[0] for half in (False, True))
    assert half.ByteSize() < 0.7 * full.ByteSize()
    assert alike(run(half, images(2))[0], run(full, images(2))[0])[1] < 5e-3


def test_int8_columns_are_the_nearest():
    kernel = np.random.default_rng(0).normal(size=(9, 5)).astype("float32")
    kernel[:, 3] = 0
    whole, scales = int8_columns(kernel)
    assert np.abs(whole).max() == LARGEST_WEIGHT
    assert np.abs(whole * scales - kernel).max() <= 0.5 * scales.max() + 1e-7
    assert not whole[:, 3].any()
