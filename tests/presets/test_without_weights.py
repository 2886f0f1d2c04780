"""An architecture without its weights, and arguments that would change it."""

import keras
import numpy as np
import pytest

import keras_pe
from keras_pe.presets import CheckpointError, download
from tests.presets import tiny

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def fetch(*arguments, **options):
        raise AssertionError(f"downloads {arguments}")

    monkeypatch.setattr(download, "download", fetch)
    monkeypatch.setattr(download, "list_files", fetch)


def test_a_published_architecture_without_a_download():
    keras.utils.set_random_seed(1)
    encoder = keras_pe.PESpatial.from_preset("PE-Spatial-T16-512", load_weights=False)
    assert encoder.count_params() == 5_683_200
    assert type(encoder) is keras_pe.PESpatial
    kernel = np.asarray(encoder.patch_embedding.get_weights()[0])
    assert kernel.std() > 0  # random, not the zeros of what is filled
    again = keras_pe.PESpatial.from_preset("PE-Spatial-T16-512", load_weights=False)
    assert not np.array_equal(kernel, again.patch_embedding.get_weights()[0])


def test_a_saved_architecture_with_other_weights(preset, model):
    found = keras_pe.PECore.from_preset(preset, load_weights=False)
    assert found.get_config() == model.get_config()
    assert not tiny.equal(tiny.values(found), tiny.values(model))
    tower = keras_pe.PEVisionEncoder.from_preset(preset, load_weights=False)
    assert tower.get_config() == model.vision_encoder.get_config()


def test_no_weights_are_read(preset):
    (preset / "model.weights.h5").unlink()
    assert keras_pe.PECore.from_preset(preset, load_weights=False).built
    with pytest.raises(CheckpointError, match=r"model\.weights\.h5"):
        keras_pe.PECore.from_preset(preset)


def test_the_wrong_class_is_refused_all_the_same(preset):
    with pytest.raises(CheckpointError, match=r"PECore\.from_preset"):
        keras_pe.PELang.from_preset(preset, load_weights=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 16}, r"vision_encoder\.convert\(patch_size=16\)"),
        ({"window_size": 4}, r"convert\(window_size=4\)"),
        ({"num_layers": 3}, r"truncate\(3\)"),
        ({"load_weight": False}, "Did you mean load_weights"),
        ({"hidden_dim": 8}, r"start at random: keras_pe\.PEVisionEncoder"),
    ],
)
def test_what_changes_an_architecture_is_named(changes, message):
    with pytest.raises(TypeError, match=message):
        keras_pe.PECore.from_preset("pe_core_emoji_patch8_64", **changes)


def test_of_an_encoder_it_is_its_own_method():
    with pytest.raises(TypeError, match=r"from_preset\('PE-Lang-L14-448'\)\.convert\("):
        keras_pe.PELang.from_preset("PE-Lang-L14-448", patch_size=16)
