"""Ablations of the alignment: what is read of a run, and compared with the first."""

import pytest

from keras_pe.probing import LanguageLayers
from projects.emoji.language.ablations import (
    ANSWERS,
    CHANGES,
    compare,
    last_answers,
    table,
)
from projects.emoji.language.align import CONFIGS
from tests.projects.emoji.planted_sweeps import planted

pytestmark = [pytest.mark.quick, pytest.mark.once]


def swept(layer, score):
    return LanguageLayers(planted({layer: score}, 1e-3), {}, 0.1, 0.1, 0.1, {})


def test_each_change_is_compared_with_the_whole():
    names = {"core": swept(6, 0.2), "aligned": swept(5, 0.3), "all-layers": swept(6, 0)}
    answers = {"aligned": dict.fromkeys(ANSWERS, 0.25)}
    found = compare(names, answers)
    assert found["all-layers"]["gain of names"]["gain"] == pytest.approx(-0.3)
    assert found["core"]["layer"] == 6
    lines = table(found).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        CHANGES[config] for config in ("aligned", "all-layers", "core")
    ]
    assert lines[2].endswith("| 5 | 25.0 | 25.0 | 25.0 | 25.0 | 30.0 |  |")
    assert "**-30.0**" in lines[3]


def test_without_the_whole_nothing_is_compared():
    with pytest.raises(ValueError, match="compared with 'aligned'"):
        compare({"core": swept(6, 0.2)}, {})


def test_the_last_row_of_scores_counts_and_must_be_whole(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(f"step,{','.join(ANSWERS)}\n1,0,0,0,0\n2,0.5,0.4,0.3,0.2\n")
    assert list(last_answers(tmp_path).values()) == [0.5, 0.4, 0.3, 0.2]
    path.write_text("step,answers\n1,0.5\n")
    with pytest.raises(ValueError, match=r"no .*answers/kind"):
        last_answers(tmp_path)


def test_every_change_is_a_configuration():
    assert CHANGES.keys() - {"core"} <= CONFIGS.keys()
