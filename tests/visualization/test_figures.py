"""Figures: which panels, in which colours, in which file."""

import keras
import numpy as np
import pytest

from keras_pe.visualization import (
    attention_figure,
    layer_figure,
    overlay_figure,
    pca_figure,
    similarity_figure,
    text_score_figure,
)

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(
        keras.backend.backend() != "torch",
        reason="draws arrays, with no backend: run once, beside PyTorch",
    ),
]
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (2, 16, 24, 3)).astype("float32")
MAPS = RNG.normal(size=(2, 2, 3)).astype("float32")


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def layers_of(axes):
    """Returns the arrays drawn in a panel, the lowest first."""
    return [np.asarray(image.get_array()) for image in axes.images]


def test_a_map_lies_over_the_whole_image_in_grey():
    figure = overlay_figure(IMAGES, MAPS, ["one", "two"], opacity=0.5)
    assert titles(figure) == ["one", "", "two", ""]
    image, overlay = figure.axes[0], figure.axes[1]
    (shown,) = layers_of(image)
    np.testing.assert_allclose(shown, IMAGES[0] / 2 + 0.5, atol=1e-6)
    grey, heat = layers_of(overlay)
    assert grey.shape == (16, 24)
    np.testing.assert_array_equal(heat, MAPS[0])
    assert overlay.images[1].get_alpha() == 0.5
    assert overlay.images[1].get_clim() == (MAPS[0].min(), MAPS[0].max())
    assert overlay.images[0].get_extent() == overlay.images[1].get_extent()


def test_panels_keep_the_shape_of_the_image():
    figure = overlay_figure(IMAGES, MAPS)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        box = axes.get_position()
        assert box.width * width / (box.height * height) == pytest.approx(1.5)
        assert not axes.axison


def test_components_are_drawn_as_they_are():
    colours = RNG.uniform(size=(2, 2, 3, 3)).astype("float32")
    figure = pca_figure(IMAGES, colours)
    np.testing.assert_array_equal(layers_of(figure.axes[3])[0], colours[1])
    assert figure.axes[3].images[0].get_interpolation() == "nearest"


def test_heads_have_a_panel_each_and_images_a_row():
    weights = RNG.dirichlet(np.ones(6), (2, 9)).reshape(2, 9, 2, 3)
    figure = attention_figure(IMAGES, weights, point=(1, 2), titles=["one", "two"])
    assert len(figure.axes) == 2 * 11
    assert (titles(figure)[0], titles(figure)[11]) == ("one", "two")
    assert titles(figure)[1].startswith("all heads, max ")
    assert titles(figure)[3] == f"head 2, max {weights[0, 1].max():.0%}"
    rows = {round(axes.get_position().y0, 3) for axes in figure.axes}
    assert len(rows) == 4  # 11 panels an image take two rows
    x, y = figure.axes[0].lines[0].get_xydata()[0]
    assert (x, y) == (20.0, 12.0)  # the middle of the last patch, in pixels


@pytest.mark.parametrize("shared_scale", [True, False])
def test_texts_are_drawn_from_zero(shared_scale):
    maps = np.stack([MAPS, 3 * MAPS, -np.abs(MAPS)], axis=1)
    figure = text_score_figure(IMAGES, maps, ["a", "b", "$c$"], shared_scale)
    highest = [float(heat.max()) for heat in maps[0]]
    assert titles(figure)[:4] == [
        "",
        *(f"{t}\nhighest {h:+.3f}" for t, h in zip("ab", highest, strict=False)),
        f"$c$\nhighest {highest[2]:+.3f}",
    ]
    limits = [axes.images[1].get_clim() for axes in figure.axes[1:4]]
    top = float(MAPS[0].max())
    expected = [3 * top] * 3 if shared_scale else [top, 3 * top, 1.0]
    assert [low for low, _ in limits] == [0.0] * 3
    assert [high for _, high in limits] == pytest.approx(expected)


def test_texts_for_a_narrow_page():
    """Two panels a row, each as large as it would be in one row of all."""
    maps = RNG.normal(size=(1, 3, 2, 3)).astype("float32")
    texts = ["a", "b", "c"]
    wide = text_score_figure(IMAGES[:1], maps, texts)
    narrow = text_score_figure(IMAGES[:1], maps, texts, most_columns=2)
    assert titles(narrow) == titles(wide)
    for figure, columns in ((wide, 4), (narrow, 2)):
        lefts = {round(axes.get_position().x0, 6) for axes in figure.axes}
        assert len(lefts) == columns
    assert narrow.get_figwidth() < 0.6 * wide.get_figwidth()
    with pytest.raises(ValueError, match="most_columns must be at least 1, got 0"):
        text_score_figure(IMAGES[:1], maps, texts, most_columns=0)


def test_only_the_image_of_the_point_is_marked():
    figure = similarity_figure(IMAGES, MAPS, (0, 0), image=-1)
    assert [len(axes.lines) for axes in figure.axes] == [0, 0, 2, 2]
    low, high = float(MAPS[0].min()), float(MAPS[0].max())
    assert titles(figure)[:2] == [
        "",
        f"cosine, {min(MAPS.min(), 0.999):.2f} to 1\nhere {low:.2f} to {high:.2f}",
    ]
    assert titles(figure)[2] == "patch 0,0 of 2 x 3"
    figure = similarity_figure(IMAGES, MAPS, (0, 0))
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2, 2]


def test_layers_side_by_side():
    figure = layer_figure(IMAGES, [MAPS, MAPS + 1], [0, 3], point=(0, 1))
    lows = [min(float(heat.min()), 0.999) for heat in (MAPS[0], MAPS[0] + 1)]
    assert titles(figure)[:3] == [
        "",
        f"layer 0\ncosine, {lows[0]:.2f} to 1",
        f"layer 3\ncosine, {lows[1]:.2f} to 1",
    ]
    colours = [np.zeros((2, 2, 3, 3))] * 2
    figure = layer_figure(IMAGES, colours, [0, 3])
    assert layers_of(figure.axes[1])[0].shape == (2, 3, 3)
    assert titles(figure) == ["", "layer 0", "layer 3"] * 2


def test_texts_that_begin_alike_are_told_apart():
    maps = np.stack([MAPS] * 2, axis=1)
    texts = [f"a photograph of a small red car beside a {place}" for place in "ab"]
    figure = text_score_figure(IMAGES, maps, texts)
    shown = [title.rsplit("\n", 1)[0] for title in titles(figure)[1:3]]
    assert [title.replace("\n", " ") for title in shown] == texts
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for axes in figure.axes:
        box = axes.title.get_window_extent()
        assert box.y1 <= height
        assert box.x0 >= 0
        assert box.x1 <= width


def test_the_figure_is_written(tmp_path):
    images = np.zeros((1, 16, 16, 3), "uint8")
    maps = np.zeros((1, 2, 2))
    figure = overlay_figure(images, maps, ["a " * 80], path=tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert titles(figure)[0].endswith("…")
    assert titles(figure)[0].count("\n") == 2
    overlay_figure(images, maps, path=str(tmp_path / "map.svg"))
    assert (tmp_path / "map.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: overlay_figure(IMAGES, MAPS[0]), r"maps of shape \(2, any, any\)"),
        (lambda: overlay_figure(IMAGES[0], MAPS), "images.None"),
        (lambda: overlay_figure(IMAGES.astype(int), MAPS), "floats in"),
        (lambda: overlay_figure(IMAGES, MAPS, ["one"]), "2 titles"),
        (lambda: overlay_figure(IMAGES, MAPS, opacity=2.0), "opacity"),
        (lambda: overlay_figure(IMAGES, MAPS, interpolation="cubic"), "bilinear"),
        (lambda: text_score_figure(IMAGES, MAPS, ["a"]), r"\(2, 1, any, any\)"),
        (lambda: pca_figure(IMAGES, MAPS), r"\(2, any, any, 3\)"),
        (lambda: layer_figure(IMAGES, [MAPS], [0, 1]), "one map a layer"),
    ],
)
def test_arrays_that_do_not_fit(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
