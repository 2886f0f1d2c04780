"""Reports: what they say, draw and keep."""

import json

import pytest

from keras_pe.alignment import AlignmentReport
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
    values = {
        "layer": 2,
        "layer_reason": "the best of rows on validation samples",
        "num_layers": 4,
        "before": before,
        "after": after,
        "whole_images": {"feature_loss": (0.5, 0.25)},
        "losses": {"feature_loss": (0.75, 0.5)},
        "settings": {"steps": 2},
    }
    return AlignmentReport(**{**values, **changes})


def test_it_says_what_the_last_layer_gained(sweeps):
    before, after = sweeps
    found = report(before, after)
    assert found.last_layer("rows") == (
        before["rows"].layers[-1].score,
        after["rows"].layers[-1].score,
    )
    assert found.gain("rows") > 0.3
    text = str(found)
    assert "Taught by layer 2 of 4: the best of rows" in text
    assert "feature_loss of whole images: 0.5000 -> 0.2500" in text
    assert "The last layer is better" in text
    row = f"    2  {before['rows'][2].score:.4f}  {after['rows'][2].score:.4f}"
    assert row in text
    # The other way round it is lost.
    lost = report(after, before)
    assert lost.gain("rows") == -found.gain("rows")
    assert "The last layer is worse" in str(lost)
    assert "The last layer is the same" in str(report(before, before))
    assert "nothing is to be gained" in str(report(before, after, layer=4))


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
    assert content["gains"]["rows"] == found.gain("rows")
    assert AlignmentReport.from_dict(content) == found


def test_without_tasks_there_is_nothing_to_draw():
    found = report({}, {})
    assert "No task was given" in str(found)
    with pytest.raises(ValueError, match="no task was given"):
        found.plot()
