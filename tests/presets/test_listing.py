"""Names of presets by a pattern."""

import pytest

import keras_pe
from keras_pe.presets.table import PRESETS

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_all_of_them():
    assert keras_pe.list_presets() == list(PRESETS)
    assert len(keras_pe.list_presets()) > 15


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("spatial_tiny", ["pe_spatial_tiny_patch16_512"]),
        ("SPATIAL-T16", ["pe_spatial_tiny_patch16_512"]),
        ("*_448_tiling", [n for n in PRESETS if n.endswith("_448_tiling")]),
        ("pe_core_*", [n for n in PRESETS if n.startswith("pe_core_")]),
        ("core_", [n for n in PRESETS if "core_" in n]),
        ("pe_core", [n for n in PRESETS if n.startswith("pe_core")]),
        ("tiling*", []),  # a pattern is of the whole name
        ("nonsense", []),
    ],
)
def test_patterns(pattern, expected):
    assert keras_pe.list_presets(pattern) == expected


def test_every_name_finds_itself():
    for name, preset in PRESETS.items():
        assert name in keras_pe.list_presets(name)
        if preset.official_name:
            assert name in keras_pe.list_presets(preset.official_name)


def test_what_is_no_pattern():
    with pytest.raises(TypeError, match="filter must be a text"):
        keras_pe.list_presets(keras_pe.PECore)
