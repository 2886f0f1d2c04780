"""The language experiment: which runs it takes, and what it compares."""

import numpy as np
import pytest

from keras_pe.language import QuestionPrompt
from keras_pe.probing import LanguageLayers
from projects.emoji.language.align import CONFIGS
from projects.emoji.language.experiment import (
    NAMES,
    compare,
    find_encoders,
    fresh_decoder,
    language_probe,
    spelled_prompt,
    table,
)
from tests.arrays import to_numpy
from tests.projects.emoji.planted_sweeps import planted

pytestmark = [pytest.mark.quick, pytest.mark.once]


def layers(name, reading):
    kinds = {"name": planted(name, 1e-3), "reading": planted(reading, 1e-3)}
    unparsable = dict.fromkeys(name, 0.0)
    return LanguageLayers(kinds["name"], kinds, 0.1, 0.1, 0.1, unparsable)


def two_seeds():
    core = layers({4: 0.3, 5: 0.4, 6: 0.2}, {4: 0.5, 5: 0.4, 6: 0.2})
    first = layers({4: 0.3, 5: 0.45}, {4: 0.5, 5: 0.7})
    second = layers({4: 0.3, 5: 0.49}, {4: 0.6, 5: 0.5})
    other = layers({6: 0.2, 3: 0.1}, {6: 0.1, 3: 0.1})
    return {
        "core": {0: core, 1: core},
        "aligned": {0: first, 1: second},
        "random": {0: other},
    }


def test_the_last_layer_is_compared_with_the_core_s_best_of_each_kind():
    found = compare(two_seeds())
    gains = found["name"]["aligned"]["gain of the last layer over"]
    assert gains["the core's layer 5"]["gain"] == pytest.approx(0.07)
    assert gains["the core's layer 5"]["of_each"] == pytest.approx([0.05, 0.09])
    assert gains["its own layer 4"]["gain"] == pytest.approx(0.17)
    gains = found["reading"]["aligned"]["gain of the last layer over"]
    assert gains["the core's layer 4"]["gain"] == pytest.approx(0.1)
    assert found["reading"]["aligned"]["scores"] == pytest.approx({4: 0.55, 5: 0.6})
    alone = found["name"]["random"]["gain of the last layer over"]
    assert alone["the core's layer 5"]["gain"] == pytest.approx(-0.2)
    assert "gain of the last layer over" not in found["name"]["core"]


def test_a_kind_alone_is_compared_by_its_label():
    def alone(scores):
        return LanguageLayers(planted(scores, 1e-3), {}, 0.1, 0.1, 0.1, {})

    core, aligned = alone({5: 0.3, 6: 0.4}), alone({5: 0.45})
    found = compare({"core": {0: core}, "aligned": {0: aligned}}, NAMES.label)
    assert list(found) == [NAMES.label]
    gains = found[NAMES.label]["aligned"]["gain of the last layer over"]
    assert list(gains) == ["the core's layer 6"]  # it has no other layer of its own
    assert gains["the core's layer 6"]["gain"] == pytest.approx(0.05)
    (row,) = [one for one in table(found).splitlines() if one.startswith("| aligned")]
    assert row.startswith("| aligned | 1 | **45.0** |  | 10.0 | **+5.0** (")
    assert row.endswith(" |  |")


def test_the_page_marks_what_is_more_than_chance():
    text = table(compare(two_seeds()))
    assert text.count("**name (exact)**") == text.count("**reading (anls)**") == 1
    rows = [row for row in text.splitlines() if row.startswith("| aligned |")]
    assert rows[0].startswith("| aligned | 2 | 30.0 | **47.0** |  | 10.0 | **+7.0** (")
    (core, _) = [row for row in text.splitlines() if row.startswith("| core |")]
    assert core == "| core | 2 | 30.0 | **40.0** | 20.0 | 10.0 |  |  |"


def test_runs_are_found_by_configuration_and_seed(tmp_path):
    changed = ("aligned-0", "aligned-1", "plain-blocks-0", "frozen-decoder-0")
    for name in (*changed, "warmup-0", "frozen-1"):
        (tmp_path / name / "preset").mkdir(parents=True)
    (tmp_path / "aligned-2").mkdir()  # not finished
    found = find_encoders(tmp_path, "pe_core_emoji_small_patch8_64")
    assert {name: sorted(seeds) for name, seeds in found.items()} == {
        "core": [0, 1],
        "random": [0],
        "aligned": [0, 1],
        "plain-blocks": [0],
        "frozen-decoder": [0],
    }
    core, chance = found["core"][0](), found["random"][0]()
    assert chance.get_config() == {**core.get_config(), "name": chance.name}
    with pytest.raises(ValueError, match="no finished alignment"):
        find_encoders(tmp_path / "aligned-0", "pe_core_emoji_small_patch8_64")


def test_the_fresh_language_models_spell():
    prompt = spelled_prompt(16)
    assert isinstance(prompt, QuestionPrompt)
    assert prompt.spell_answers
    probe = language_probe(NAMES, "pe_core_emoji_small_patch8_64")
    assert (probe.merge, probe.pooling, probe.steps) == ("shuffle", 2, 1000)


def test_the_fresh_language_models_have_the_words_of_the_core():
    vectors = np.random.default_rng(0).normal(size=(60, 16)).astype("float32")
    first, second = fresh_decoder(vectors), fresh_decoder(vectors)
    for decoder in (first, second):
        found = to_numpy(decoder.token_embedding.embeddings)
        np.testing.assert_array_equal(found, vectors)
    one, other = (
        to_numpy(decoder.blocks[0].attention.qkv.kernel) for decoder in (first, second)
    )
    assert np.abs(one - other).max() > 1e-3  # the rest is drawn anew


def test_ablations_change_one_thing():
    whole = vars(CONFIGS["aligned"])
    longer = ("captioner", "reader")
    ablations = {name: x for name, x in CONFIGS.items() if name not in longer}
    for name, config in ablations.items():
        changed = {key for key, value in vars(config).items() if value != whole[key]}
        assert len(changed) <= 2, (name, changed)
