"""All 31 released architectures map one to one, by name and shape."""

import json

import pytest

from keras_pe import PECore
from keras_pe.presets.formats import open_clip, timm, upstream
from keras_pe.presets.inspect import describe
from keras_pe.presets.manifest import (
    core_manifest,
    model_variables,
    text_manifest,
    vision_manifest,
)
from keras_pe.presets.tensor_reader import TensorInfo
from tests.reference_models import REFERENCE
from tests.small_models import text_encoder, vision_encoder

pytestmark = pytest.mark.quick
LAYOUTS = {"upstream": upstream, "timm": timm, "open_clip": open_clip}


def released():
    for family in LAYOUTS:
        path = REFERENCE / f"{family}_manifest.json"
        for name, entry in json.loads(path.read_text()).items():
            shapes = entry.get("state_dict", entry)
            yield pytest.param(family, entry, shapes, id=f"{family}-{name}")


RELEASED = list(released())


class Listing:
    """A checkpoint of which only names and shapes exist."""

    def __init__(self, path, shapes):
        self.path = path
        self.tensors = {n: TensorInfo(tuple(s), "F32") for n, s in shapes.items()}
        self.wrappers = ()


def test_there_are_31():
    assert len(RELEASED) == 31


@pytest.mark.parametrize(("family", "entry", "shapes"), RELEASED)
def test_one_to_one(family, entry, shapes, tmp_path):
    info = describe(Listing(tmp_path, shapes))
    assert info.family == family
    assert not info.unknown_heads
    vision = {**info.vision_config, "output_bias": family != "upstream"}
    if vision["output_dim"] is None:
        vision["output_bias"] = False
    layout = LAYOUTS[family]
    if info.text_config is None:
        rules = list(layout.vision_rules(vision))
        ours = vision_manifest(vision)
    else:
        rules = list(layout.core_rules(vision, info.text_config))
        ours = core_manifest(vision, info.text_config)
    theirs = {name: tuple(shape) for name, shape in shapes.items()}
    # Every tensor of theirs is used once, every weight of ours is filled once.
    assert sorted(rule.source for rule in rules) == sorted(theirs)
    assert {rule.source: rule.shape for rule in rules} == theirs
    targets = [target for rule in rules for target, _ in rule.targets]
    assert sorted(targets) == sorted(ours)


@pytest.mark.parametrize(
    ("family", "entry", "shapes"), [p for p in RELEASED if p.values[0] == "upstream"]
)
def test_upstream_configurations_are_read_from_the_shapes(
    family, entry, shapes, tmp_path
):
    info = describe(Listing(tmp_path, shapes))
    vision, config = entry["vision"], info.vision_config
    assert info.num_parameters == entry["parameters"]
    assert config["hidden_dim"] == vision["width"]
    assert config["num_layers"] == vision["layers"]
    assert config["num_heads"] == vision["heads"]
    assert config["image_size"] == vision["image_size"]
    assert config["class_token"] == vision["use_cls_token"]
    assert config["output_dim"] == vision["output_dim"]
    assert config["layer_scale"] == vision["ls_init_value"]
    assert config["final_norm"] == vision["use_ln_post"]
    if entry["text"]:
        assert info.text_config is not None
        assert info.text_config["num_heads"] == entry["text"]["heads"]
        assert info.text_config["context_length"] == entry["text"]["context_length"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layer_scale": 0.1, "class_token": False},
        {"pooling": None, "output_dim": None, "final_norm": False},
        {"output_bias": True, "drop_path": 0.1},
    ],
)
def test_manifest_equals_a_live_vision_encoder(changes):
    encoder = vision_encoder(**changes)
    live = {name: tuple(v.shape) for name, v in model_variables(encoder).items()}
    assert live == vision_manifest(encoder.get_config())


def test_manifest_equals_a_live_core():
    model = PECore(vision_encoder(), text_encoder())
    live = {name: tuple(v.shape) for name, v in model_variables(model).items()}
    vision, text = model.vision_encoder.get_config(), model.text_encoder.get_config()
    assert live == core_manifest(vision, text)
    assert text_manifest(text) == {
        name: tuple(v.shape) for name, v in model_variables(text_encoder()).items()
    }
