"""The backbone of detectors: our pyramid's maps, and what is trained of it."""

import pytest

pytest.importorskip("keras_hub", reason="needs keras-pe[kerashub]")
import keras_hub

from keras_pe.kerashub import PEBackbone, PEPyramidBackbone
from keras_pe.models.feature_pyramid import FeaturePyramid
from tests.kerashub.hub_models import largest_difference, save
from tests.small_models import images, perturb, vision_encoder


def backbone(**options):
    encoder = perturb(vision_encoder())
    return perturb(PEPyramidBackbone.from_encoder(encoder, channels=8, **options))


def test_maps_are_our_pyramid_s():
    found = backbone(layers=2, norm=False, image_shape=(32, 48, 3))
    x = images(2, 32, 48)
    assert largest_difference(found(x), found.pyramid(x)) < 1e-6
    assert list(found.pyramid_outputs) == ["P1", "P2", "P3", "P4"]
    assert (found.min_level, found.max_level) == (1, 4)
    assert found.pyramid_outputs["P3"].shape == (None, 4, 6, 8)
    assert isinstance(found, keras_hub.models.FeaturePyramidBackbone)
    # The encoder's layer, by the pyramid's own reading of the whole encoder.
    whole = perturb(vision_encoder())
    direct = FeaturePyramid(whole, layer=2, channels=8)
    for ours, theirs in zip(found.pyramid.levels, direct.levels, strict=True):
        for weight, value in zip(theirs.weights, ours.weights, strict=True):
            weight.assign(value)
    cut = PEBackbone.from_encoder(whole, 2, norm=False, image_shape=(32, 48, 3))
    for weight, value in zip(cut.encoder.weights, found.encoder.weights, strict=True):
        value.assign(weight)
    assert largest_difference(found(x), direct(x)) < 1e-6


def test_lora_leaves_the_pyramid_trained():
    found = backbone(scales=(1, 0.5))
    found.enable_lora(2)
    names = [variable.name for variable in found.trainable_variables]
    assert sum(name.startswith("lora") for name in names) == 24
    # Two levels of two convolutions, each with a norm of two weights.
    assert len(names) == 24 + 12
    assert len(found.encoder.trainable_variables) == 24


@pytest.mark.parametrize("state", ["plain", "lora", "frozen encoder", "frozen"])
def test_what_kerashub_saves_it_loads(state, tmp_path):
    found = backbone(scales=(2, 1), top_level=True, image_shape=(32, 64, 3))
    if state == "lora":
        found.enable_lora(2)
        perturb(found)
    elif state == "frozen encoder":
        found.encoder.trainable = False
    elif state == "frozen":
        found.trainable = False
    found.save_to_preset(str(tmp_path))
    x = images(2, 32, 64)
    for load in (
        keras_hub.models.Backbone,
        keras_hub.models.FeaturePyramidBackbone,
        PEPyramidBackbone,
    ):
        again = load.from_preset(str(tmp_path))
        assert type(again) is PEPyramidBackbone
        assert largest_difference(again(x), found(x)) == 0
        trained = [len(m.trainable_variables) for m in (again, found)]
        assert trained[0] == trained[1]
    half = PEPyramidBackbone.from_preset(tmp_path, dtype="bfloat16")
    assert half.encoder.blocks[0].compute_dtype == "bfloat16"
    assert half.pyramid.levels[0].compute_dtype == "bfloat16"
    with pytest.raises(ValueError, match="not a subclass"):
        PEBackbone.from_preset(tmp_path)


def test_from_our_presets(tmp_path):
    encoder = save(tmp_path, "PESpatial")
    found = PEPyramidBackbone.from_preset(
        tmp_path, layers=2, scales=(1,), channels=4, image_shape=(64, 32, 3)
    )
    x = images(1, 64, 32)
    expected = encoder.feature_map(x, layer=2)
    assert largest_difference(found.encoder.feature_map(x), expected) == 0
    assert found.pyramid_outputs["P3"].shape == (None, 8, 4, 4)


def test_retinanet_s_own_pyramid_network_takes_it():
    """KerasHub's `RetinaNetBackbone` adds levels to those of any such backbone."""
    found = backbone(scales=(1, 0.5), top_level=True, image_shape=(64, 64, 3))
    network = keras_hub.models.RetinaNetBackbone(
        image_encoder=found,
        min_level=3,
        max_level=6,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    maps = network(images(1, 64, 64))
    assert list(maps) == ["P3", "P4", "P5", "P6"]


def test_what_is_refused():
    encoder = vision_encoder()
    with pytest.raises(TypeError, match="needs a FeaturePyramid, got PEVision"):
        PEPyramidBackbone(encoder)
    with pytest.raises(ValueError, match="without a gap"):
        PEPyramidBackbone.from_encoder(encoder, scales=(4, 1))
    with pytest.raises(ValueError, match="powers of two"):
        PEPyramidBackbone.from_encoder(encoder.convert(patch_size=14))
