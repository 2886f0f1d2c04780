"""Reports: what they say, draw and keep."""

import json

import pytest

from keras_pe.alignment import AlignmentReport
from keras_pe.alignment.report import gains
from keras_pe.probing import sweep
from tests.probing.planted import classified, planted_model, segmented

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def sweeps():
    """The rows of patches are told by layer 2 before, and by the last one after."""
    data, quiet = classified(60), {"progress": False}
    numbers = (segmented(30)[0], data[1][:30] * 1.0)
    regression = {"probe": "ridge_regression", **quiet}
    return [
        {
            "rows": sweep(planted_model(layer), data, **quiet),
            "numbers": sweep(planted_model(layer), numbers, **regression),
        }
        for layer in (2, 4)
    ]


def report(before, after, **changes):
    over_last, over_best = gains(before, after)
    values = {
        "layer": 2,
        "layer_reason": "the best of rows on validation samples",
        "num_layers": 4,
        "before": before,
        "after": after,
        "failed": {},
        "gains": over_last,
        "gains_over_best": over_best,
        "whole_images": {"feature_loss": (0.5, 0.25)},
        "losses": {"feature_loss": (0.75, 0.5)},
        "settings": {"steps": 2},
    }
    return AlignmentReport(**{**values, **changes})


def test_it_says_what_the_last_layer_gained(sweeps):
    before, after = (each["rows"] for each in sweeps)
    found = report(*sweeps)
    rise = after.layers[-1].score - before.layers[-1].score
    assert found.gains["rows"].gain == pytest.approx(rise)
    assert found.gains["rows"].low > 0.2
    of_best = found.gains_over_best["rows"]
    assert of_best.other_layers == (2,)
    assert of_best.gain == pytest.approx(after.layers[-1].score - before[2].score)
    text = str(found)
    assert "Taught by layer 2 of 4: the best of rows" in text
    assert "feature_loss of whole images: 0.5000 -> 0.2500" in text
    assert f"    2  {before[2].score:.4f}  {after[2].score:.4f}" in text
    assert f"gain of the last layer: {found.gains['rows']} (95 %): better\n" in text
    assert "over layer 2, the best in validation before: " in text
    # The other way round it is lost.
    lost = report(*sweeps[::-1])
    assert lost.gains["rows"].gain == -found.gains["rows"].gain
    assert f"{lost.gains['rows']} (95 %): worse\n" in str(lost)
    same = report(sweeps[0], sweeps[0])
    assert "(95 %): the same, which may be chance" in str(same)
    assert "nothing is to be gained" in str(report(*sweeps, layer=4))


def test_a_task_without_a_second_sweep_is_named(sweeps):
    before, after = sweeps
    why = {"numbers": "OSError: the disk is gone"}
    found = report(before, {"rows": after["rows"]}, failed=why)
    assert "numbers: NOT compared after the alignment. OSError" in str(found)
    assert list(found.gains) == ["rows"]
    assert len(found.plot().axes) == 1
    with pytest.raises(ValueError, match=r"no task was compared.*the disk is gone"):
        report(before, {}, failed=why).plot()


def test_a_panel_for_each_task(sweeps, tmp_path):
    figure = report(*sweeps).plot(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").stat().st_size > 1000
    assert [panel.get_ylabel() for panel in figure.axes] == ["accuracy", "R2"]
    names = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert names[0].startswith("rows, before")
    assert names[1].startswith("rows, after")


def test_a_file_holds_all_of_it(sweeps, tmp_path):
    found = report(*sweeps)
    found.to_json(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["gains"]["rows"]["gain"] == found.gains["rows"].gain
    read = AlignmentReport.from_dict(content)
    assert read == found
    assert str(read) == str(found)


def test_without_tasks_there_is_nothing_to_draw():
    found = report({}, {})
    assert "No task was given" in str(found)
    with pytest.raises(ValueError, match="no task was compared"):
        found.plot()
