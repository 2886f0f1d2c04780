"""A preset narrows what its converter accepts; what is shown makes it again."""

import json
import os
import stat
import warnings

import pytest

from keras_pe import PETokenizer
from keras_pe.preprocessing import ImageError, PEImageConverter, PEVideoConverter
from keras_pe.preprocessing.converter_configs import narrowed
from keras_pe.preprocessing.image_decoding import (
    DEFAULT_FORMATS,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_SIDE,
)
from keras_pe.presets.checksums import write_metadata
from keras_pe.presets.report import CheckpointError
from tests.small_models import core

pytestmark = pytest.mark.quick
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"


def quietly_narrowed(**config):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return narrowed(config)


def test_stricter_values_are_kept():
    strict = {"formats": ["PNG"], "max_pixels": 10, "max_side": 5, "max_frames": 3}
    strict |= {"image_size": [16, 8], "background": [1, 2, 3], "on_error": "raise"}
    expected = {name: strict[name] for name in strict if name != "on_error"}
    assert quietly_narrowed(**strict) == expected
    own = PEVideoConverter(8).get_config()
    assert PEVideoConverter(**quietly_narrowed(**own)).get_config() == own


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"max_pixels": 10**18}, {"max_pixels": DEFAULT_MAX_PIXELS}),
        ({"max_pixels": float("nan")}, {"max_pixels": DEFAULT_MAX_PIXELS}),
        ({"max_pixels": float("inf")}, {"max_pixels": DEFAULT_MAX_PIXELS}),
        ({"max_side": DEFAULT_MAX_SIDE + 1}, {"max_side": DEFAULT_MAX_SIDE}),
        ({"max_frames": 10**9}, {"max_frames": 216_000}),
        ({"formats": ["eps", "png"]}, {"formats": ["PNG"]}),
        ({"on_error": "skip"}, {}),
    ],
)
def test_wider_values_are_not_and_named(config, kept):
    with pytest.warns(UserWarning, match=next(iter(config))):
        assert narrowed(config) == kept


@pytest.mark.parametrize(
    "config",
    [
        {"formats": ["EPS"]},
        {"formats": {"EPS": 1}},
        {"formats": "EPS"},
        {"formats": []},
        {"max_pixels": "1000000000000"},
        {"max_side": [1]},
        {"max_pixels": True},
        {"image_size": 10**6},
        {"image_size": [1, 10**6]},
    ],
)
def test_what_makes_no_sense_is_refused(config):
    with pytest.raises(ValueError, match=next(iter(config))):
        PEImageConverter(**narrowed(config))


@pytest.fixture
def preset(tmp_path):
    """Writes a preset whose converter has other values than were saved."""

    def write(**changes):
        path = tmp_path / "preset"
        if not path.exists():
            core().save_to_preset(path, image_converter=PEImageConverter(16))
        file = path / "image_converter.json"
        content = json.loads(file.read_text())
        content["config"].update(changes)
        file.write_text(json.dumps(content))
        metadata = json.loads((path / "metadata.json").read_text())
        del metadata["files"], metadata["metadata_sha256"]
        (path / "metadata.json").unlink()
        write_metadata(path, metadata)
        return path

    return write


def test_a_preset_starts_no_program(preset, tmp_path, monkeypatch):
    # Pillow gives an EPS to a program called gs: this one leaves a trace.
    gs, trace = tmp_path / "bin" / "gs", tmp_path / "trace"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\necho started >> {trace}\nexit 1\n")
    gs.chmod(gs.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    path = preset(formats=["EPS", "PNG"], max_pixels=10**18, on_error="skip")
    with pytest.warns(UserWarning, match=r"EPS.*from_preset"):
        converter = PEImageConverter.from_preset(path)
    assert converter.formats == ("PNG",)
    assert (converter.max_pixels, converter.on_error) == (DEFAULT_MAX_PIXELS, "raise")
    image = tmp_path / "cat.jpg"
    image.write_bytes(EPS)
    with pytest.raises(ImageError, match="allowed format"):
        converter(image)
    with pytest.warns(UserWarning, match="EPS"):
        video = PEVideoConverter.from_preset(path)
    assert video.image_converter.formats == ("PNG",)
    assert not trace.exists()


def test_the_user_decides(preset):
    path = preset(formats=["PNG"], max_pixels=100)
    assert PEImageConverter.from_preset(path).max_pixels == 100
    mine = PEImageConverter.from_preset(
        path, formats=DEFAULT_FORMATS, max_pixels=10**9, on_error="skip"
    )
    assert (mine.formats, mine.max_pixels) == (DEFAULT_FORMATS, 10**9)
    assert (mine.on_error, mine.image_size) == ("skip", (16, 16))


def test_an_absurd_preset_is_a_checkpoint_error(preset):
    for name, value in (("formats", ["EPS"]), ("image_size", 10**9)):
        with pytest.raises(CheckpointError, match=name):
            PEImageConverter.from_preset(preset(**{"formats": ["PNG"], name: value}))


@pytest.mark.parametrize(
    "config",
    [
        {"num_frames": 257},
        {"num_frames": 10**12},
        {"num_frames": float("inf")},
        {"num_frames": float("nan")},
        {"num_frames": 32, "image_size": 4096},
        {"num_frames": 200, "image_size": [1024, 2048]},
        {"image_size": float("nan")},
    ],
)
def test_videos_that_no_memory_holds_are_refused(config):
    with pytest.raises(ValueError, match="expected at most"):
        narrowed(config)


def test_frames_of_published_protocols_are_taken():
    for config in ({"num_frames": 32, "image_size": 512}, {"num_frames": 256}):
        assert quietly_narrowed(**config) == config
    with pytest.raises(ValueError, match="num_frames='8'"):
        PEVideoConverter(**quietly_narrowed(num_frames="8"))


KINDS = {
    kind.__name__: kind for kind in (PEImageConverter, PETokenizer, PEVideoConverter)
}


@pytest.mark.parametrize(
    "thing",
    [
        PEImageConverter(image_size=(24, 32), formats=("PNG",), background=(1, 2, 3)),
        PEImageConverter(),
        PETokenizer(context_length=8, vocabulary_size=600),
        PEVideoConverter(64, num_frames=4),
    ],
)
def test_what_is_shown_makes_it_again(thing):
    again = eval(repr(thing), dict(KINDS))
    assert again.get_config() == thing.get_config()


def test_defaults_are_left_out():
    converter = PEImageConverter(32, max_side=9000)
    assert repr(converter) == "PEImageConverter(image_size=(32, 32), max_side=9000)"
    assert repr(PETokenizer()) == "PETokenizer()"


@pytest.mark.parametrize("kind", [PEImageConverter, PEVideoConverter])
def test_a_misspelt_change_is_named_with_the_nearest_argument(kind):
    said = f"{kind.__name__} has no argument .image_sise.. Did you mean image_size"
    with pytest.raises(TypeError, match=said):
        kind.from_preset("pe_core_emoji_patch8_64", image_sise=3)
