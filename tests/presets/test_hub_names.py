"""The preset table: complete, true to its sources, and helpful about typos."""

import json
from pathlib import Path

import pytest

import keras_pe
from keras_pe import PEImageConverter, PETokenizer
from keras_pe.language import VisionLanguageModel
from keras_pe.presets import CheckpointError, variants
from keras_pe.presets import download as hub_download
from keras_pe.presets.hub import find_preset, preset_of_repo, resolve
from keras_pe.presets.table import PRESETS, PresetsProperty, presets_of
from tests.presets import tiny

pytestmark = [pytest.mark.quick, pytest.mark.once]
REFERENCE = Path(__file__).parents[1] / "reference"
RELEASED = [preset for preset in PRESETS.values() if preset.official_name]
EMOJI = PRESETS["pe_core_emoji_patch8_64"]


def manifest(family):
    return json.loads((REFERENCE / f"{family}_manifest.json").read_text())


def test_every_released_model_has_a_preset():
    assert sorted(preset.official_name for preset in RELEASED) == sorted(
        variants.names()
    )


@pytest.mark.parametrize("preset", RELEASED, ids=lambda preset: preset.name)
def test_row_agrees_with_upstream(preset):
    theirs = manifest("upstream")[preset.official_name]
    assert preset.parameters == theirs["parameters"]
    assert preset.class_name == "PE" + preset.official_name.split("-")[1]
    size = theirs["vision"]["image_size"]
    patch = theirs["vision"]["patch_size"]
    assert f"_patch{patch}_{size}" in preset.name
    found = preset.metadata()
    assert found["image_size"] == size
    text = theirs["text"] or {"context_length": None}
    assert found["context_length"] == text["context_length"]
    assert found["license"] == "Apache-2.0"
    assert found["scores"]
    assert found["scores_source"]


@pytest.mark.parametrize("preset", RELEASED, ids=lambda preset: preset.name)
def test_safetensors_come_first(preset):
    first, second = preset.sources[:2]
    assert first.file.endswith(".safetensors")
    assert not first.vision_only
    assert second.repo == f"facebook/{preset.official_name}"
    assert second.file == f"{preset.official_name}.pt"


def test_open_clip_sources_are_the_models_of_open_clip():
    models = manifest("open_clip")
    for preset in RELEASED:
        if preset.class_name != "PECore":
            continue
        config = models[preset.sources[0].repo.removeprefix("timm/")]["config"]
        vision, text = preset.vision_config(), preset.text_config()
        assert config["vision_cfg"]["timm_model_name"] == f"vit_{preset.name}"
        assert config["vision_cfg"]["image_size"] == vision["image_size"]
        assert config["text_cfg"] == {
            "context_length": text["context_length"],
            "vocab_size": text["vocabulary_size"],
            "width": text["hidden_dim"],
            "heads": text["num_heads"],
            "layers": text["num_layers"],
        }


def test_timm_sources_are_the_models_of_timm():
    models = manifest("timm")
    for preset in RELEASED:
        (repo,) = [s.repo for s in preset.sources if ".fb" in s.repo]
        architecture, tag = repo.removeprefix("timm/").split(".")
        assert architecture in models
        tiling = preset.name.endswith("_tiling")
        assert tag == ("fb_tiling" if tiling else "fb")
        assert architecture == f"vit_{preset.name.removesuffix('_tiling')}"


@pytest.mark.parametrize(
    "name",
    [
        "pe_core_large_patch14_336",
        "PE-Core-L14-336",
        "pe-core-l14-336",
        "PE_CORE_LARGE_PATCH14_336",
    ],
)
def test_names_and_aliases(name):
    assert find_preset(name).name == "pe_core_large_patch14_336"


def test_repositories_are_recognised():
    found = preset_of_repo("timm/PE-Core-bigG-14-448")
    assert found.name == "pe_core_gigantic_patch14_448"
    assert preset_of_repo("someone/PE-Core-L14-336") is None


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("pe_core_large_patch14_338", "pe_core_large_patch14_336"),
        ("PE-Core-L14-366", "PE-Core-L14-336"),
        ("pe_spatial_tiny", "pe_spatial_tiny_patch16_512"),
        ("emoji", "pe_core_emoji_patch8_64"),
    ],
)
def test_unknown_names_get_the_closest(typo, meant):
    with pytest.raises(CheckpointError, match="Did you mean") as error:
        resolve(typo)
    assert meant in str(error.value)


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="dtyp"):
        keras_pe.PECore.from_preset("pe_core_emoji_patch8_64", dtyp="float16")


def test_no_name_is_no_preset(tmp_path, monkeypatch):
    assert find_preset("") is None  # nor that of a preset without an official name
    monkeypatch.chdir(tmp_path)
    tiny.core().save_to_preset(tmp_path)
    for load in (keras_pe.PECore.from_preset, keras_pe.PETokenizer.from_preset):
        with pytest.raises(CheckpointError, match="Unknown preset ''"):
            load("")


def test_unknown_name_without_resemblance():
    with pytest.raises(CheckpointError, match="Unknown preset 'zzz'") as error:
        resolve("zzz")
    assert "Did you mean" not in str(error.value)


def test_presets_of_a_class():
    counts = {
        keras_pe.PECore: 7,
        keras_pe.PELang: 5,
        keras_pe.PESpatial: 6,
        keras_pe.PEVisionEncoder: 19,
        VisionLanguageModel: 1,
    }
    for cls, count in counts.items():
        assert len(presets_of(cls)) == count

    class Owner(keras_pe.PELang):
        presets = PresetsProperty()

    assert list(Owner.presets) == list(presets_of(keras_pe.PELang))


def test_tokenizer_and_converter_need_no_download():
    assert PETokenizer.from_preset("PE-Core-G14-448").context_length == 72
    assert PETokenizer.from_preset("hf://timm/PE-Core-B-16").context_length == 32
    converter = PEImageConverter.from_preset("pe_core_tiny_patch16_384")
    assert converter.image_size == (384, 384)
    assert keras_pe.PETokenizer.from_preset("PE-Core-B16-224").vocabulary_size == 49408
    converter = keras_pe.PEImageConverter.from_preset("PE-Spatial-T16-512")
    assert converter.image_size == (512, 512)
    with pytest.raises(CheckpointError, match="reads no text"):
        PETokenizer.from_preset("PE-Lang-L14-448")


def test_missing_bundled_preset_is_a_damaged_installation(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "keras_pe.presets.table_row.resources.files", lambda _: tmp_path
    )
    with pytest.raises(CheckpointError, match="Reinstall keras_pe"):
        resolve(EMOJI.name)
    assert EMOJI.metadata()["parameters"] is None


@pytest.mark.skipif(not EMOJI.directory.is_dir(), reason="not trained yet")
def test_bundled_preset_loads():
    model = keras_pe.PECore.from_preset(EMOJI.name)
    assert model.vision_encoder.image_size == 64
    assert keras_pe.PETokenizer.from_preset(EMOJI.name).context_length == (
        model.text_encoder.context_length
    )


# === The captioner, and its encoder under a name of its own ===
ENCODER, CAPTIONER = "pe_lang_emoji_patch8_64", "pe_captioner_emoji_patch8_64"


def test_a_captioner_and_its_encoder_are_one_folder():
    assert PRESETS[ENCODER].directory == PRESETS[CAPTIONER].directory
    captioner = VisionLanguageModel.from_preset(CAPTIONER)
    encoder = keras_pe.PELang.from_preset(ENCODER)
    assert tiny.equal(tiny.values(encoder), tiny.values(captioner.encoder))
    count = encoder.count_params()
    assert PRESETS[ENCODER].metadata()["parameters"] == count
    count += captioner.projector.count_params() + captioner.decoder.count_params()
    found = VisionLanguageModel.presets[CAPTIONER]
    assert found["parameters"] == count
    assert (found["class"], found["image_size"]) == ("VisionLanguageModel", 64)
    assert found["sources"] == ["ships with keras_pe"]


def test_the_encoder_of_a_captioner_loads_by_either_name():
    for name in (ENCODER, CAPTIONER):
        for cls in (keras_pe.PELang, keras_pe.PEVisionEncoder):
            found = cls.from_preset(name, load_weights=False)
            assert (type(found), found.num_layers) == (keras_pe.PELang, 5)
    # Drawings are transparent where they were white in training.
    assert PEImageConverter.from_preset(CAPTIONER).background == (255, 255, 255)


def test_other_classes_are_told_which_load_a_captioner():
    for cls in (keras_pe.PECore, keras_pe.PESpatial):
        with pytest.raises(CheckpointError) as error:
            cls.from_preset(CAPTIONER)
        assert "is a VisionLanguageModel" in str(error.value)
        assert "keras_pe.language.VisionLanguageModel.from_preset" in str(error.value)
        assert "keras_pe.PELang.from_preset (its encoder)" in str(error.value)


def test_an_encoder_alone_is_not_downloaded_to_be_refused(monkeypatch):
    def fetch(*arguments, **options):
        raise AssertionError(f"downloads {arguments}")

    monkeypatch.setattr(hub_download, "download", fetch)
    for name in ("PE-Lang-L14-448", "hf://facebook/PE-Core-L14-336", EMOJI.name):
        with pytest.raises(CheckpointError, match="is an encoder alone"):
            VisionLanguageModel.from_preset(name)
