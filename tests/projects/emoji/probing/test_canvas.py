"""Canvases, backgrounds and layered drawings: exact masks."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.probing import body_parts
from projects.emoji.probing.backgrounds import KINDS, draw_background
from projects.emoji.probing.canvas import (
    Canvas,
    Layer,
    premultiplied,
    resized,
)
from projects.emoji.probing.layered_svg import coverage, read_layers, shape_numbers
from tests.projects.emoji.probing.small_artwork import (
    SHIRT,
    drawn,
    person_svg,
    random_layers,
)

pytestmark = [pytest.mark.slow, pytest.mark.once]


def test_canvas_equals_painting_pixel_by_pixel():
    background = np.random.default_rng(0).uniform(0, 255, (32, 32, 3)).astype("float32")
    layers = random_layers(4, 32, seed=1)
    canvas = Canvas(background)
    shares = [canvas.visible_shares()]
    for layer in layers:
        shares.append([*canvas.visible_shares(layer), 1.0])
        canvas.add(layer)
        # What it said before drawing is what there is after drawing.
        assert canvas.visible_shares() == pytest.approx(shares[-1])

    image, instances = background.copy(), np.zeros((32, 32), int)
    rim = np.zeros((32, 32), bool)
    for number, layer in enumerate(layers, 1):
        for row, column in np.ndindex(layer.alpha.shape):
            alpha = layer.alpha[row, column]
            place = (row + layer.top, column + layer.left)
            image[place] = image[place] * (1 - alpha) + layer.colours[row, column]
            if alpha >= 0.5:
                instances[place] = number
            if alpha > 0.1:
                rim[place] = alpha < 0.9
    np.testing.assert_allclose(canvas.image, image, atol=1e-3)
    np.testing.assert_array_equal(canvas.instances, instances)
    np.testing.assert_array_equal(canvas.rim, rim)
    assert canvas.rim.any()
    assert canvas.image_bytes().dtype == np.uint8


def test_contrast_is_the_share_that_differs():
    canvas = Canvas(np.full((8, 8, 3), 255, "float32"))
    colours = np.full((4, 4, 3), 255, "float32")
    colours[:, :1] = 0
    layer = Layer(colours, np.ones((4, 4), "float32"), 2, 2)
    assert canvas.contrast(layer) == 0.25


def test_premultiplied_resizing_keeps_hidden_colours_out():
    image = Image.new("RGBA", (8, 8), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 4))
    layer = resized(premultiplied(image), 5, 5, 0, 0)
    assert layer.colours[..., 1].max() == 0
    assert layer.colours[..., 0].max() == 255


def test_backgrounds_come_in_all_kinds():
    rng = np.random.default_rng(0)
    textures = [premultiplied(drawn("lemon", "round-art"))]
    kinds = set()
    for _ in range(60):
        image, kind = draw_background(16, textures, rng)
        assert image.shape == (16, 16, 3)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 255
        assert (np.ptp(image, axis=(0, 1)).max() < 1) == (kind == "plain")
        kinds.add(kind)
    assert kinds == set(KINDS)
    assert {draw_background(8, [], rng)[1] for _ in range(40)} == set(KINDS[:-1])


def test_layers_are_read_in_the_order_of_drawing():
    drawing = read_layers(person_svg())
    assert drawing.layers == ("color", "hair", "skin", "line")
    names = ("color-foreground", "skin-shadow", "line-supplement", "line_1_", "skin-b")
    extra = "".join(f'<g id="{name}"><path d="M0 0"/></g>' for name in names)
    found = read_layers(person_svg(extra=extra)).layers[4:]
    assert found == (
        "color-foreground",
        "skin-shadow",
        "line-supplement",
        "line",
        "skin",
    )


@pytest.mark.parametrize("extra", ["<defs/>", '<path d="M0 0"/>', '<g id="linear"/>'])
def test_what_is_not_layered_is_refused(extra):
    if "linear" in extra:  # a name that only begins like a layer's
        extra = '<g id="linear"><path d="M0 0"/></g>'
    with pytest.raises(ValueError, match=r"layer"):
        read_layers(person_svg(extra=extra))


def test_numbers_equal_drawing_each_shape_alone():
    """The slow way: one image a shape; the last one that has a pixel owns it."""
    drawing = read_layers(person_svg())
    numbers = shape_numbers(drawing, 90)
    slow = np.zeros((90, 90), int)
    bodies = [
        f'<rect x="12" y="48" width="30" height="16" fill="{SHIRT}"/>',
        '<circle cx="36" cy="28" r="17"/>',
        '<circle cx="36" cy="32" r="13"/>',
        '<path fill="none" stroke="#000" stroke-width="2" d="M12 48h30"/>',
    ]
    for number, body in enumerate(bodies, 1):
        alone = (
            person_svg()
            .split("<g", 1)[0]
            .replace("<svg", '<svg shape-rendering="crispEdges"')
        )
        image = np.asarray(body_parts.rasterise(f"{alone}{body}</svg>", 90))
        slow[image[..., 3] > 127] = number
    np.testing.assert_array_equal(numbers, slow)
    assert set(np.unique(numbers)) == {0, 1, 2, 3, 4}


def test_coverage_equals_counting():
    values = np.random.default_rng(0).integers(0, 4, (12, 8), dtype="uint8")
    fast = coverage(values, 4, 4)
    slow = np.zeros((4, 3, 2), int)
    for row, column in np.ndindex(values.shape):
        slow[values[row, column], row // 4, column // 4] += 1
    np.testing.assert_array_equal(fast, slow)
    with pytest.raises(ValueError, match="no grid of blocks"):
        coverage(values, 5, 4)
