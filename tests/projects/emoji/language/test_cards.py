"""The cards of captioner and encoder: what their results give, and no more."""

import json

import pytest

from keras_pe.presets.table import PRESETS
from projects.emoji.card_head import headed
from projects.emoji.language.captioner_preset import (
    CORE,
    FRACTION_BITS,
    QUESTIONS,
    RESULTS,
)
from projects.emoji.language.cards import (
    CAPTIONER,
    ENCODER,
    SHOWN,
    answer_rows,
    captioner_card,
    captioner_facts,
    encoder_card,
    sweep_rows,
)
from projects.emoji.language.question_sets import METRICS
from tests.language.test_language_preset import build

pytestmark = [pytest.mark.quick, pytest.mark.once]
RUN = {
    "stages": [{"samples": 480_000, "image_size": 64}],
    "batch_size": 48,
    "questions": 2,
    "learning_rate": 0.001,
    "encoder_rate": 0.5,
    "seed": 0,
}


def result(name):
    return json.loads((RESULTS / name).read_text())


def gain(value):
    return {"gain": value, "low": value - 0.01, "high": value + 0.01}


def sweep(kind, this, best=0.3):
    over = {"the core's layer 5": gain(this - best)}
    own = {"seeds": [0], "scores": {"4": 0.1, "5": this}, "guess": 0.05}
    core = {"seeds": [0], "scores": {"5": best, "6": 0.2}, "guess": 0.05}
    return {
        "count": {"core": core},  # of which this encoder has no result
        kind: {"core": core, "reader": {**own, "gain of the last layer over": over}},
    }


def test_kinds_of_which_the_encoder_has_no_result_are_left_out():
    rows = sweep_rows([sweep("name", 0.4), sweep("reading", 0.2)], "reader")
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        "| name (exact)",
        "| reading (anls)",
    ]
    assert (
        "| 5.0 | 30.0 (layer 5) | 20.0 | 40.0 | **+10.0** (+9.0 to +11.0) |" in rows[2]
    )
    with pytest.raises(ValueError, match="No results of 'other'"):
        sweep_rows([sweep("name", 0.4)], "other")


def test_answers_are_those_of_the_preset():
    scores = result("scores.json")
    assert scores["preset"] == CAPTIONER
    rows = answer_rows(scores)
    assert len(rows) == len(SHOWN)
    first = scores["sets"]["test_vendor"][SHOWN[0][1]]["right"]
    assert f"| {first['count']} | {100 * first['value']:.1f} [" in rows[0]


def test_both_cards_say_what_is_in_the_model():
    model = build()
    facts = captioner_facts(model, CORE, RUN, FRACTION_BITS, QUESTIONS)
    parts = (model.encoder, model.projector, model.decoder)
    assert facts["parameters"] == sum(part.count_params() for part in parts)
    text = headed(captioner_card(facts, result("scores.json")))
    assert f"model-index:\n- name: {CAPTIONER}\n" in text
    assert "pipeline_tag: image-text-to-text" in text
    assert f"of whose fraction {FRACTION_BITS} bits are kept" in text
    for question in QUESTIONS:
        assert f"\n- {question}\n" in text
    text = headed(encoder_card(facts, [sweep("name", 0.4)], "reader"))
    assert f"# {ENCODER}\n" in text
    assert "value: 40.0" in text
    assert "\nNot measured of this encoder: kind; reading; letter; count;" in text
    every = [sweep(kind, 0.4) for kind in METRICS]
    assert "Not measured" not in encoder_card(facts, every, "reader")
    assert "layers of the core\nthat were compared: 5, 6." in text


def test_one_folder_holds_both():
    assert PRESETS[ENCODER].directory == PRESETS[CAPTIONER].directory
    assert PRESETS[ENCODER].directory.name == CAPTIONER
