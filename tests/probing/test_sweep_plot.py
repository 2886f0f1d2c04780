"""Curves of sweeps: which panel they are in, and what they are called."""

import dataclasses

import pytest

from keras_pe.probing import plot_sweeps, sweep
from tests.probing.planted import classified, planted_model, segmented

pytestmark = pytest.mark.quick
RING, GUESS = "chosen in validation", "a guess without the image"


@pytest.fixture(scope="module")
def sweeps():
    images, labels = classified(60)
    quiet = {"progress": False}
    dark = images.copy()
    dark[..., 0] = images[..., 1]  # the answer is gone
    model = planted_model(2)
    return {
        "ridge": sweep(model, (images, labels), **quiet),
        "nothing": sweep(model, (dark, labels), **quiet),
        "error": sweep(model, (segmented(30)[0], labels[:30] * 1.0),
                       probe="ridge_regression", **quiet),
    }  # fmt: skip


def labels(figure):
    return [
        [text.get_text() for text in panel.get_legend().get_texts()]
        for panel in figure.axes
    ]


def test_a_panel_for_each_metric(sweeps, tmp_path):
    figure = plot_sweeps(sweeps, tmp_path / "curves.png")
    assert [panel.get_ylabel() for panel in figure.axes] == ["accuracy", "R2"]
    assert labels(figure)[0] == [
        "ridge: 1 at layer 2",
        "nothing: no layer is called best",
        RING,
        GUESS,
    ]
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_layers_are_whole_numbers(sweeps):
    (panel,) = plot_sweeps({"ridge": sweeps["ridge"]}).axes
    assert len(sweeps["ridge"].layers) == 4  # so few that halves would be marked
    assert all(float(tick).is_integer() for tick in panel.get_xticks())
    named = dataclasses.replace(
        sweeps["nothing"],
        layers=[
            dataclasses.replace(row, layer=f"block {row.layer}")
            for row in sweeps["nothing"].layers
        ],
    )
    (panel,) = plot_sweeps({"named": named, "ridge": sweeps["ridge"]}).axes
    assert panel.get_xticklabels()[0].get_text() == "block 1"


def test_panels_of_ones_own(sweeps):
    figure = plot_sweeps(sweeps, panels=[["nothing"], ["ridge"]])
    assert labels(figure) == [
        ["nothing: no layer is called best", GUESS],  # no ring, so no word of one
        ["ridge: 1 at layer 2", RING, GUESS],
    ]
    with pytest.raises(ValueError, match="no sweep 'knn'"):
        plot_sweeps(sweeps, panels=[["knn"]])
    with pytest.raises(ValueError, match="one metric"):
        plot_sweeps(sweeps, panels=[["ridge", "error"]])


def test_nothing_to_draw(sweeps):
    with pytest.raises(ValueError, match="nothing to draw: 0 sweeps"):
        plot_sweeps({})
    with pytest.raises(ValueError, match="nothing to draw: 3 sweeps"):
        plot_sweeps(sweeps, panels=[])


def test_the_ring_is_where_validation_chose(sweeps):
    chosen = dataclasses.replace(
        sweeps["ridge"], candidate=1, gain_over_baseline=(0.1, 0.2)
    )
    (panel,) = plot_sweeps({"ridge": chosen}).axes
    (ring,) = (line for line in panel.get_lines() if line.get_fillstyle() == "none")
    assert list(ring.get_xdata()) == [1]
    assert list(ring.get_ydata()) == [chosen[1].score]
    names = [text.get_text() for text in panel.get_legend().get_texts()]
    keys = dict(zip(names, panel.get_legend().legend_handles, strict=True))
    assert keys[RING].get_fillstyle() == "none"
    assert keys[GUESS].get_linestyle() == ":"


def test_the_chosen_layer_may_be_the_only_one_at_chance(sweeps):
    # Layer 2 is right every time; nothing may be said of all layers.
    chosen = dataclasses.replace(
        sweeps["ridge"], candidate=0, gain_over_baseline=(-0.1, 0.2)
    )
    assert (
        str(chosen)
        .splitlines()[-1]
        .startswith(
            "No layer is called best: layer 0, chosen on validation samples, may be no"
        )
    )
    assert labels(plot_sweeps({"ridge": chosen})) == [
        ["ridge: no layer is called best", GUESS]
    ]


def test_the_answer_says_what_the_layer_was_chosen_on(sweeps):
    # Layer 2 has the better test score, which decides nothing.
    chosen = dataclasses.replace(
        sweeps["ridge"], candidate=1, gain_over_baseline=(0.1, 0.2)
    )
    lines = str(chosen).splitlines()
    (best,) = (line for line in lines if line.endswith("<- best in validation"))
    assert best.startswith("layer   1 ")
    assert lines[-1].startswith("Best layer, chosen on validation samples: 1, ")
