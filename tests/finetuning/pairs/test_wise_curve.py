"""Which weights are chosen, and what is written about them."""

import json

import numpy as np
import pytest

from keras_pe.finetuning.pairs.pair_scores import change
from keras_pe.finetuning.pairs.run import WiseOptions
from keras_pe.finetuning.pairs.wise_curve import WisePoint, chosen_alpha
from keras_pe.finetuning.pairs.wise_report import (
    Forgotten,
    wise_figure,
    write_forgotten,
    write_wise,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]


def curve(validation, remembered=None, zero_shot=None):
    found = []
    for place, new in enumerate(validation):
        scores = {"validation": {"recall_at_1": new, "recall_at_5": 99.0}}
        if remembered is not None:
            scores["remembered"] = {"recall_at_1": remembered[place]}
        if zero_shot is not None:
            scores["zero_shot"] = {"accuracy": zero_shot[place]}
        found.append(WisePoint(place / (len(validation) - 1), scores))
    return found


def test_the_best_of_those_that_remember():
    points = curve([10, 40, 55, 60, 50], [80, 80.5, 79, 78.9, 70])
    assert chosen_alpha(points, "auto") == 0.5  # 79 is one point less, and allowed
    assert chosen_alpha(points, "auto", forget=0) == 0.25
    assert chosen_alpha(points, "auto", forget=100) == 0.75
    assert chosen_alpha(points, 0.3) == 0.3
    assert chosen_alpha(curve([10, 40, 40]), "auto") == 0.5  # the nearest to before
    assert chosen_alpha(curve([50, 40, 30]), "auto") == 0.0
    with pytest.raises(ValueError, match="chooses by scores of new pairs"):
        chosen_alpha([], "auto")


def test_zero_shot_classes_are_remembered_too():
    points = curve([10, 40, 55], [80, 80, 80], [30, 29.5, 20])
    assert chosen_alpha(points, "auto") == 0.5
    assert chosen_alpha(points, "auto", forget=10) == 1.0
    alone = curve([10, 40, 55], None, [30, 28, 20])
    assert chosen_alpha(alone, "auto") == 0.0
    assert alone[1].score("zero_shot") == 28
    assert alone[1].score("remembered") is None


def test_options_that_can_not_be():
    for wise in (-0.1, 1.1, float("nan"), "automatic", True):
        with pytest.raises(ValueError, match="expected auto, or 0"):
            WiseOptions(wise=wise)
    with pytest.raises(ValueError, match="0 points or more"):
        WiseOptions(forget=-1.0)


def test_files_say_all_of_it(tmp_path):
    points = curve([10, 40, 60], [80, 79.5, 70], [3, 2.5, 1])
    write_wise(tmp_path, points, 0.5, {"wise": "auto", "forget": 1.0})
    content = json.loads((tmp_path / "wise_ft.json").read_text())
    assert (content["wise"], content["chosen"]) == ("auto", 0.5)
    assert content["points"][2]["scores"]["remembered"] == {"recall_at_1": 70}
    rows = (tmp_path / "wise_ft.md").read_text().splitlines()
    assert rows[-5].endswith("remembered: recall at 1 | zero-shot: accuracy |")
    assert rows[-3:] == [
        "| 0 | 10.0 | 80.0 | 3.0 |",
        "| **0.5** | 40.0 | 79.5 | 2.5 |",
        "| 1 | 60.0 | 70.0 | 1.0 |",
    ]
    assert (tmp_path / "wise_ft.png").read_bytes()[:4] == b"\x89PNG"
    before, after = np.arange(50) < 25, np.arange(50) < 20
    sets = {"remembered": Forgotten(50, {"recall_at_1": change(before, after)}, 0.75)}
    write_forgotten(tmp_path, sets, 0.5)
    content = json.loads((tmp_path / "forgotten.json").read_text())
    found = content["sets"]["remembered"]
    assert found["image_cosine"] == 0.75
    assert found["changes"]["recall_at_1"]["gain"] == pytest.approx(-10)
    assert "| recall at 1 | 50.0 | 40.0 | -10.0 [" in (
        (tmp_path / "forgotten.md").read_text()
    )


def test_the_picture_is_new_against_remembered():
    both = wise_figure(curve([10, 40, 60], [80, 79.5, 70]), 0.5).axes[0]
    assert both.lines[0].get_xdata().tolist() == [80, 79.5, 70]
    assert both.lines[0].get_ydata().tolist() == [10, 40, 60]
    assert (both.lines[1].get_xdata(), both.lines[1].get_ydata()) == ([79.5], [40])
    alone = wise_figure(curve([10, 40, 60]), 1.0).axes[0]
    assert alone.lines[0].get_xdata().tolist() == [0, 0.5, 1]
    assert alone.get_xlabel().startswith("alpha")
    panels = wise_figure(curve([10, 40, 60], [80, 79.5, 70], [30, 29, 20]), 0.5).axes
    assert [axis.lines[0].get_xdata().tolist() for axis in panels] == [
        [80, 79.5, 70],
        [30, 29, 20],
    ]
    old = curve([10, 40, 60], None, [30, 29, 20])
    for point in old:
        del point.scores["validation"]
    axis = wise_figure(old, 1.0).axes[0]
    assert axis.lines[0].get_ydata().tolist() == [30, 29, 20]
    assert "zero-shot" in axis.get_ylabel()


@pytest.mark.parametrize("chosen", [0.0, 0.5, 1.0])
def test_labels_of_the_picture_lie_inside(chosen):
    """They stuck out of the frame, and lay on each other where nothing moved."""
    figure = wise_figure(curve([4, 25, 32], [20.9, 19.9, 12.2]), chosen)
    figure.draw_without_rendering()
    axis = figure.axes[0]
    frame = axis.get_window_extent()
    boxes = [text.get_window_extent() for text in axis.texts]
    assert len(boxes) == (3 if chosen == 0.5 else 2)
    for box in boxes:
        assert frame.x0 < box.x0
        assert box.x1 < frame.x1
        assert frame.y0 < box.y0
        assert box.y1 < frame.y1
    still = wise_figure(curve([5, 5, 5], [20, 20, 20]), chosen).axes[0]
    (label,) = still.texts
    assert label.get_text().startswith("alpha 0, ")
