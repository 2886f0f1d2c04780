"""A tokenizer or converter goes into a preset, and nothing else of it changes."""

import json
import warnings

import pytest

import keras_pe
from keras_pe import PEImageConverter, PETokenizer, PEVideoConverter
from keras_pe.preprocessing.image_errors import DEFAULT_MAX_FRAMES
from keras_pe.presets import CheckpointError
from tests.presets import tiny

pytestmark = [pytest.mark.quick, pytest.mark.once]


def contents(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir()}


def test_into_a_preset(preset, model):
    before = contents(preset)
    PEImageConverter(32, interpolation="lanczos").save_to_preset(preset)
    after = contents(preset)
    changed = {name for name in before if before[name] != after[name]}
    assert set(after) == set(before)
    assert changed == {"image_converter.json", "metadata.json"}
    assert PEImageConverter.from_preset(preset).interpolation == "lanczos"
    found = keras_pe.PECore.from_preset(preset)
    assert tiny.equal(tiny.values(found), tiny.values(model))
    metadata = json.loads(after["metadata.json"])
    assert metadata["trained_on"] == "cats 🐈"


def test_what_was_left_out_is_added(model, tmp_path):
    with pytest.warns(UserWarning, match="without tokenizer and image_converter"):
        model.save_to_preset(tmp_path)
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        PETokenizer.from_preset(tmp_path)
    tiny.tokenizer().save_to_preset(tmp_path)
    PEImageConverter(32).save_to_preset(tmp_path)
    assert (
        PETokenizer.from_preset(tmp_path).get_config() == tiny.tokenizer().get_config()
    )
    assert PEImageConverter.from_preset(tmp_path).image_size == (32, 32)


def test_nothing_is_said_of_a_whole_preset(model, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The preset is saved without")
        model.save_to_preset(tmp_path / "a", tiny.tokenizer(), PEImageConverter(32))
        model.vision_encoder.save_to_preset(tmp_path / "b", PEImageConverter(32))
    with pytest.warns(UserWarning, match=r"PEImageConverter\.from_preset will"):
        model.vision_encoder.save_to_preset(tmp_path / "c")


def test_videos_are_prepared_as_was_saved(preset):
    of_images = PEVideoConverter.from_preset(preset)  # there is none of videos yet
    assert (of_images.image_size, of_images.num_frames) == ((32, 32), 8)
    saved = PEVideoConverter(32, 4, "notebook", background=(9, 9, 9))
    saved.save_to_preset(preset)
    found = PEVideoConverter.from_preset(preset)
    assert found.get_config() == saved.get_config()
    assert PEVideoConverter.from_preset(preset, num_frames=2).num_frames == 2
    assert PEImageConverter.from_preset(preset).background is None  # untouched
    embedder = keras_pe.Embedder.from_preset(preset, image_size=None)
    assert embedder.video_converter.get_config() == saved.get_config()
    with pytest.raises(TypeError, match="num_frames"):
        PEVideoConverter.from_preset(preset, num_frame=2)


def test_a_file_of_a_video_converter_widens_nothing(tmp_path):
    PEVideoConverter(8, max_frames=10**9, on_error="skip").save_to_preset(tmp_path)
    with pytest.warns(UserWarning, match="max_frames=1000000000"):
        found = PEVideoConverter.from_preset(tmp_path)
    assert (found.max_frames, found.on_error) == (DEFAULT_MAX_FRAMES, "raise")
    with pytest.raises(CheckpointError, match=r"no image_converter\.json"):
        PEImageConverter.from_preset(tmp_path)


def test_alone(tmp_path):
    PETokenizer(16, 600).save_to_preset(tmp_path / "words")
    assert PETokenizer.from_preset(tmp_path / "words").context_length == 16
    PEImageConverter(8).save_to_preset(tmp_path / "words")
    assert PEImageConverter.from_preset(tmp_path / "words").image_size == (8, 8)
    assert PETokenizer.from_preset(tmp_path / "words").context_length == 16
    with pytest.raises(CheckpointError, match=r"no config\.json, but image_converter"):
        keras_pe.PECore.from_preset(tmp_path / "words")
    tiny.core().save_to_preset(tmp_path / "words", PETokenizer(8, 600))
    with pytest.raises(CheckpointError, match=r"no image_converter\.json"):
        PEImageConverter.from_preset(tmp_path / "words")


def test_what_is_refused(preset, tmp_path):
    before = contents(preset)
    with pytest.raises(CheckpointError, match="makes 32 ids a text of 49408"):
        PETokenizer().save_to_preset(preset)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds no preset"):
        PETokenizer().save_to_preset(tmp_path / "other")
    for directory, error, message in (
        ("hf://me/words", CheckpointError, "upload_preset then puts it"),
        (None, TypeError, "given as text or a path, got None"),
        ("a\0b", ValueError, "no name of a folder"),
    ):
        with pytest.raises(error, match=message):
            tiny.tokenizer().save_to_preset(directory)
    with pytest.raises(CheckpointError, match="is an address"):
        tiny.core().save_to_preset("hf://me/model")
    assert contents(preset) == before
    tiny.lang().save_to_preset(tmp_path / "lang", PEImageConverter(32))
    with pytest.raises(CheckpointError, match="reads no text"):
        PETokenizer().save_to_preset(tmp_path / "lang")


def test_a_damaged_file_is_not_blessed(preset):
    weights = preset / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    before = contents(preset)
    with pytest.raises(CheckpointError, match="is damaged"):
        tiny.tokenizer().save_to_preset(preset)
    assert contents(preset) == before
