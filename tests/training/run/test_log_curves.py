"""Curves: what is drawn from which file."""

import keras
import numpy as np
import pytest

from keras_pe.training.run.log import curve_figure, draw_curves

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(
        keras.backend.backend() != "torch",
        reason="reads files and draws, with no backend: run once, beside PyTorch",
    ),
]
STEPS = """step,samples,image_size,seconds,loss,learning_rate,gradient_norm,logit_scale
1,8,16,0.1,2.5,0.1,1.5,14.2
2,16,16,0.2,2.0,0.2,,14.3
3,24,32,0.3,1.5,0.1,1.0,14.4
"""
SCORES = "step,samples,seconds,top1,top5\n2,16,0.2,0.1,0.5\n3,24,0.3,0.2,\n"


def write(directory, steps=STEPS, scores=None):
    (directory / "steps.csv").write_text(steps)
    if scores is not None:
        (directory / "scores.csv").write_text(scores)
    return directory


def curves(figure):
    """Returns the points of each panel's lines, without the upright ones."""
    return {
        axis.get_ylabel(): [
            line.get_xydata().tolist()
            for line in axis.lines
            if line.get_linestyle() == "-"
        ]
        for axis in figure.axes
    }


def test_each_column_has_a_panel(tmp_path):
    panels = curves(curve_figure(write(tmp_path, scores=SCORES)))
    assert list(panels) == [
        *("loss", "learning rate", "gradient norm", "logit scale", "validation")
    ]
    assert panels["loss"] == [[[8, 2.5], [16, 2.0], [24, 1.5]]]
    gap = panels["gradient norm"][0][1]
    assert gap[0] == 16
    assert np.isnan(gap[1])
    assert panels["validation"][0] == [[16, 0.1], [24, 0.2]]
    assert len(panels["validation"]) == 2


def test_a_change_of_resolution_is_marked(tmp_path):
    for axis in curve_figure(write(tmp_path)).axes:
        (mark,) = [line for line in axis.lines if line.get_linestyle() == "--"]
        assert list(mark.get_xdata()) == [24, 24]


def test_scores_may_be_missing_or_not_there_yet(tmp_path):
    without = list(curves(curve_figure(write(tmp_path))))
    header = SCORES.splitlines()[0]
    assert list(curves(curve_figure(write(tmp_path, scores=header)))) == without
    assert "validation" not in without


def test_the_image_is_written(tmp_path):
    assert draw_curves(write(tmp_path)) == tmp_path / "curves.png"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    other = draw_curves(str(tmp_path), tmp_path / "other.svg")
    assert other.read_text().startswith("<?xml")


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        draw_curves(tmp_path)
    with pytest.raises(FileNotFoundError, match="no steps yet"):
        draw_curves(write(tmp_path, steps=STEPS.splitlines()[0]))
