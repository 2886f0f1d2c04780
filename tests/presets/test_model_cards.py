"""Model cards: what the Hub reads of those in the package, and of one that is made."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import keras_pe
from keras_pe import PEVisionEncoder
from keras_pe.presets.model_card import model_card
from keras_pe.presets.table import PRESETS
from projects.emoji.card_head import headed

pytestmark = [pytest.mark.quick, pytest.mark.once]
CARDS = sorted((Path(keras_pe.__file__).parent / "presets").glob("pe_*.md"))
PIPELINES = {
    "pe_captioner": "image-text-to-text",
    "pe_core": "zero-shot-image-classification",
    "pe_lang": "image-feature-extraction",
    "pe_spatial": "image-feature-extraction",
}


def test_every_bundled_preset_has_one():
    bundled = [preset for preset in PRESETS.values() if preset.directory is not None]
    assert {path.stem for path in CARDS} == {preset.name for preset in bundled}
    folders = {path.parent for path in CARDS[0].parent.glob("*/metadata.json")}
    assert folders == {preset.directory for preset in bundled}
    assert len(CARDS) == 5


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_what_the_hub_reads(path):
    card = ModelCard(path.read_text("utf-8"))
    data = card.data
    assert data.license == "apache-2.0"
    assert data.library_name == "keras"
    assert data.pipeline_tag == PIPELINES["_".join(path.stem.split("_")[:2])]
    assert {"keras", "keras_pe", "perception-encoder"} <= set(data.tags)
    assert "openmoji" in data.datasets
    assert not {"fluent-emoji-flat", "fluent-emoji-3d"} & set(data.datasets)  # test
    assert data.model_name == path.stem
    assert card.text.lstrip().startswith(f"# {path.stem}\n")


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_figures_are_those_of_the_table(path):
    """Also that making the head anew changes nothing."""
    text = path.read_text("utf-8")
    assert headed(text) == text
    card = ModelCard(text)
    captioner = path.stem.startswith("pe_captioner")
    assert len(card.data.eval_results) >= 3
    for result in card.data.eval_results:
        if captioner:
            asked = result.dataset_name.removeprefix("artwork: ")
            (row,) = [
                line
                for line in card.text.splitlines()
                if (cells := line.split(" | "))[0].startswith("| ")
                and len(cells) == 5
                and f"{cells[1].partition(' (')[0]}, {cells[0][2:]}" == asked
                and cells[1].endswith(f" ({result.metric_name[:-3]})")
            ]
            assert row.split(" | ")[3].startswith(f"{result.metric_value} ["), row
            continue
        label = result.dataset_name.removeprefix("artwork: ").split(": ")[0]
        found = [
            line
            for line in card.text.splitlines()
            if re.match(rf"\| {re.escape(label)}(, | \||  ?\()", line)
            and ("held out" in label or "held out" not in line)
        ]
        whole = [line for line in found if not line.startswith(f"| {label}, ")]
        (row,) = whole or found  # "name", not "name, of heads for names alone"
        assert f" {result.metric_value} " in row, row
        assert 0 <= result.metric_value <= 100
        assert result.metric_name.endswith(", %")


def test_a_head_of_other_figures_is_replaced():
    text = CARDS[0].read_text("utf-8")
    value = ModelCard(text).data.eval_results[0].metric_value
    assert headed(text.replace(f"value: {value}", "value: 99.9", 1)) == text


def test_what_is_no_card_is_refused():
    with pytest.raises(ValueError, match="begins with a preset's name"):
        headed("# A page\n")
    with pytest.raises(ValueError, match="pe_core_x has no table of results"):
        headed("# pe_core_x\n\nNothing.\n")


# === Of other presets ===
@pytest.fixture
def small(tmp_path):
    encoder = PEVisionEncoder(
        image_size=16,
        patch_size=8,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=32,
    )
    encoder.save_to_preset(tmp_path / "small")
    return tmp_path / "small"


def test_one_is_made_that_claims_nothing(small):
    card = ModelCard(model_card(small, "hf://me/small"))
    assert card.data.license is None
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert card.text.lstrip().startswith("# small\n")
    assert 'keras_pe.PEVisionEncoder.from_preset("hf://me/small")' in card.text


def test_ones_own_comes_first(small):
    beside = small.with_name("small.md")
    beside.write_text("# A page that is no card\n")
    assert "no card" not in model_card(small, "hf://me/small")
    beside.write_text("---\ntags: [a]\n---\n# Beside\n")
    assert "# Beside" in model_card(small, "hf://me/small")
    (small / "README.md").write_text("# Inside\n")
    assert model_card(small, "hf://me/small") == "# Inside\n"
