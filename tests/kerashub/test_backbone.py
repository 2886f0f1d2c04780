"""The backbone: an encoder's own numbers, and what KerasHub does with backbones."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="needs keras-pe[kerashub]")
import keras_hub

import keras_pe
from keras_pe.kerashub import PEBackbone
from keras_pe.presets.report import CheckpointError
from tests.arrays import to_numpy
from tests.kerashub.hub_models import SIDE, largest_difference, layer_map, save
from tests.small_models import core, images, perturb, vision_encoder


# === The encoder's numbers ===
@pytest.mark.parametrize("kind", ["PECore", "PEVisionEncoder", "PELang", "PESpatial"])
def test_every_family_gives_its_own_features(kind, tmp_path):
    encoder = save(tmp_path, kind)
    backbone = PEBackbone.from_preset(tmp_path)
    expected = layer_map(encoder, images(), norm=encoder.norm is not None)
    assert largest_difference(backbone(images()), expected) < 1e-6
    assert backbone.output.shape == (None, 4, 4, 32)
    assert backbone.input.shape == (None, SIDE, SIDE, 3)
    assert isinstance(backbone, keras_hub.models.Backbone)
    kept = encoder.truncate(-1, norm=encoder.norm is not None)
    assert backbone.count_params() == kept.count_params()


@pytest.mark.parametrize("name", keras_pe.list_presets("emoji"))
def test_bundled_presets(name):
    backbone = PEBackbone.from_preset(name)
    encoder = keras_pe.PEVisionEncoder.from_preset(name)
    expected = layer_map(encoder, images(1, 64, 64), norm=encoder.norm is not None)
    assert largest_difference(backbone(images(1, 64, 64)), expected) < 1e-6


@pytest.mark.parametrize("layers", [1, -2])
@pytest.mark.parametrize("norm", [None, False, True])
def test_inner_layers(layers, norm):
    encoder = perturb(vision_encoder())
    backbone = PEBackbone.from_encoder(encoder, layers, norm, (32, 48, 3))
    expected = layer_map(encoder, images(2, 32, 48), bool(norm), layers)
    assert largest_difference(backbone(images(2, 32, 48)), expected) < 1e-6
    assert backbone.num_layers == layers % 4


def test_a_published_preset_without_its_weights():
    options = {"load_weights": False, "layers": 6, "image_shape": (128, 160, 3)}
    backbone = PEBackbone.from_preset("PE-Core-T16-384", dtype="bfloat16", **options)
    assert backbone.output.shape == (None, 8, 10, 192)
    assert backbone.dtype_policy.name == "bfloat16"
    assert backbone.encoder.num_layers == 6
    assert backbone.encoder.norm is None


def test_the_encoder_is_copied_by_from_encoder_and_used_by_the_constructor():
    encoder = perturb(vision_encoder())
    before = to_numpy(PEBackbone.from_encoder(encoder)(images()))
    backbone = PEBackbone.from_encoder(encoder)
    perturb(encoder, seed=1)
    assert largest_difference(backbone(images()), before) == 0
    tokens = encoder.truncate(-1)
    assert PEBackbone(tokens).encoder is tokens
    assert PEBackbone.from_encoder(core()).hidden_dim == 32


# === What is trained ===
def test_lora_alone_is_trained_and_moves_the_output():
    backbone = PEBackbone.from_encoder(perturb(vision_encoder()))
    whole = backbone.count_params()
    before = to_numpy(backbone(images()))
    backbone.enable_lora(2)
    # Four matrices in each of three blocks, two factors each.
    names = [variable.name for variable in backbone.trainable_variables]
    assert sorted(set(names)) == ["lora_kernel_a", "lora_kernel_b"]
    assert len(names) == 24
    updates = 2 * sum(a + b for a, b in [(32, 96), (32, 32), (32, 64), (64, 32)])
    assert backbone.count_params() == whole + 3 * updates
    assert largest_difference(backbone(images()), before) == 0

    frozen = [to_numpy(v) for v in backbone.non_trainable_variables]
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(2)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss)
    model.fit(images(), np.array([0, 1]), epochs=2, verbose=0)
    assert largest_difference(backbone(images()), before) > 1e-3
    for value, variable in zip(frozen, backbone.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)

    backbone.trainable = False
    assert not backbone.trainable_variables
    backbone.trainable = True
    assert len(backbone.trainable_variables) == 24


def test_kerashub_saves_and_loads_the_updates_alone(tmp_path):
    encoder = perturb(vision_encoder())
    backbone = PEBackbone.from_encoder(encoder)
    backbone.enable_lora(2)
    perturb(backbone)
    backbone.save_lora_weights(str(tmp_path / "updates.lora.h5"))
    again = PEBackbone.from_encoder(encoder)
    assert largest_difference(again(images()), backbone(images())) > 1e-3
    again.load_lora_weights(str(tmp_path / "updates.lora.h5"))
    assert largest_difference(again(images()), backbone(images())) == 0


# === Presets ===
@pytest.mark.parametrize("state", ["plain", "lora", "partly frozen", "frozen", "int8"])
def test_what_kerashub_saves_it_loads(state, tmp_path):
    encoder = perturb(vision_encoder(drop_path=0.1))
    backbone = PEBackbone.from_encoder(encoder, image_shape=(32, 48, 3))
    if state == "lora":
        backbone.enable_lora(2)
        perturb(backbone)
    elif state == "partly frozen":
        backbone.encoder.blocks[0].trainable = False
    elif state == "frozen":
        backbone.trainable = False
    elif state == "int8":
        backbone.quantize("int8")
    backbone.save_to_preset(str(tmp_path))
    x = images(2, 32, 48)
    for load in (keras_hub.models.Backbone.from_preset, PEBackbone.from_preset):
        again = load(str(tmp_path))
        assert type(again) is PEBackbone
        assert largest_difference(again(x), backbone(x)) == 0
        trained = [len(m.trainable_variables) for m in (again, backbone)]
        assert trained[0] == trained[1]
        assert again.trainable == backbone.trainable
    if state == "lora":
        again.save_lora_weights(str(tmp_path / "updates.lora.h5"))


def test_a_preset_is_loaded_otherwise(tmp_path):
    PEBackbone.from_encoder(perturb(vision_encoder())).save_to_preset(str(tmp_path))
    load = keras_hub.models.Backbone.from_preset
    wide = load(str(tmp_path), image_shape=(48, 32, 3))
    assert wide.output.shape == (None, 6, 4, 32)
    half = PEBackbone.from_preset(tmp_path, dtype="bfloat16")
    assert half.encoder.blocks[0].compute_dtype == "bfloat16"
    drawn = load(str(tmp_path), load_weights=False)
    assert largest_difference(drawn(images()), load(str(tmp_path))(images())) > 1e-3
    other = PEBackbone.from_preset(tmp_path, name="other", trainable=False)
    assert (other.name, other.trainable_variables) == ("other", [])


def test_a_model_file(tmp_path):
    backbone = PEBackbone.from_encoder(perturb(vision_encoder()))
    backbone.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert largest_difference(again(images()), backbone(images())) == 0


def test_our_loader_says_who_wrote_a_preset_and_how_it_becomes_ours(tmp_path):
    backbone = PEBackbone.from_encoder(perturb(vision_encoder()))
    backbone.save_to_preset(str(tmp_path / "hub"))
    for load in (keras_pe.PEVisionEncoder, keras_pe.PEImageConverter):
        message = r"holds a PEBackbone that KerasHub wrote.*kerashub\.PEBackbone\."
        with pytest.raises(CheckpointError, match=message):
            load.from_preset(tmp_path / "hub")
    encoder = PEBackbone.from_preset(tmp_path / "hub").encoder
    encoder.save_to_preset(tmp_path / "ours", keras_pe.PEImageConverter(SIDE))
    again = PEBackbone.from_preset(tmp_path / "ours")
    assert largest_difference(again(images()), backbone(images())) == 0


# === What is refused ===
def test_wrong_arguments_are_said(tmp_path):
    encoder = vision_encoder()
    with pytest.raises(ValueError, match=r"must return tokens.*from_encoder"):
        PEBackbone(encoder)
    with pytest.raises(ValueError, match="must return tokens"):
        PEBackbone(core())
    with pytest.raises(TypeError, match="needs a vision encoder, got str"):
        PEBackbone.from_encoder("pe_core_emoji_patch8_64")
    for shape in ((None, None, 3), (32, 32), 32, (32, 32, 1)):
        with pytest.raises(ValueError, match="image_shape must be"):
            PEBackbone.from_encoder(encoder, image_shape=shape)
    with pytest.raises(ValueError, match="30"):
        PEBackbone.from_encoder(encoder, image_shape=(30, 32, 3))
    backbone = PEBackbone.from_encoder(encoder)
    with pytest.raises(ValueError, match="target_layer_names must be None"):
        backbone.enable_lora(2, ["query"])
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(ValueError, match="finished backbone, and layers=1"):
        PEBackbone.from_preset(tmp_path, layers=1)
    with pytest.raises(CheckpointError, match="Did you mean pe_core_emoji"):
        PEBackbone.from_preset("pe_core_emoji")


@pytest.mark.once
def test_without_kerashub_the_extra_is_named():
    code = (
        "import sys; sys.modules['keras_hub'] = None\n"
        "import keras_pe\n"
        "try:\n    keras_pe.kerashub\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "keras_pe.kerashub needs keras_hub, which is not installed" in done.stdout
    assert 'pip install "keras-pe[kerashub]"' in done.stdout


@pytest.mark.once
def test_a_file_names_no_other_class(tmp_path):
    """What is built from an encoder's place must be an encoder."""
    PEBackbone.from_encoder(vision_encoder()).save_to_preset(str(tmp_path))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text("utf-8"))
    layer = keras.saving.serialize_keras_object(keras.layers.Dense(3))
    config["config"]["encoder"] = layer
    path.write_text(json.dumps(config), "utf-8")
    with pytest.raises(TypeError, match="needs a vision encoder, got Dense"):
        PEBackbone.from_preset(tmp_path)
