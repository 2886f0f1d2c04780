"""`keras-pe visualize`, run on the preset inside the package."""

import argparse

import pytest
from PIL import Image

from keras_pe.cli import demo, visualize
from keras_pe.visualization import attention_figure
from keras_pe.visualization.map_sizes import cropped, size_of_shape
from tests.small_models import vision_encoder

ROCKET = str(demo.IMAGES / "rocket.png")


def parsed(*arguments):
    """Returns a command line as the command gets it."""
    parser = argparse.ArgumentParser()
    visualize.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "panels"),
    [
        (("--kind", "pca", "--layer", 3, "--image-size", 32), (2, 1)),
        (
            ("--kind", "text", "--text", "a rocket", "a cat", "--method", "value"),
            (3, 1),
        ),
        (("--kind", "attention", "--image-size", "16x32"), (6, 0.5)),
        (("--kind", "attention", "--layer", 1, "--point", "1,2"), (6, 1)),
        (("--kind", "similarity", "--point", "3,4", "--layer", -6), (2, 1)),
        (("--kind", "layers", "--image-size", 16), (8, 1)),
    ],
)
def test_each_kind_is_drawn(tmp_path, capsys, arguments, panels):
    output = tmp_path / "seen.png"
    assert visualize.run(parsed(ROCKET, *arguments, "--output", output)) == 0
    assert str(output) in capsys.readouterr().out
    columns, height = panels  # of a panel, in its width
    with Image.open(output) as image:
        assert image.size[0] == pytest.approx((1.96 * columns + 0.06) * 150, abs=2)
        assert image.size[1] > 1.9 * height * 150


@pytest.mark.slow
def test_several_images_and_a_name_for_the_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = str(demo.IMAGES / "pizza.png")
    assert visualize.run(parsed(ROCKET, other, "--layer", 1)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["rocket_pca.png"]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "text"), '--text "a cat"'),
        (("--text", "a cat"), "--text has no meaning with --kind pca"),
        (("--kind", "similarity"), "needs a patch"),
        (("--kind", "layers", "--layer", 2), "--kind pca or attention or similarity"),
        (("--kind", "pca", "--contrast", "mean"), "--contrast has no meaning"),
    ],
)
def test_options_that_do_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        visualize.run(parsed(ROCKET, *arguments))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("source", "size"),
    [
        ((64, 64), (64, 64)),
        ((1000, 1000), (128, 128)),  # finer than the model's own, which is 8 patches
        ((150, 300), (64, 128)),
        ((300, 150), (128, 64)),
        ((100, 300), (40, 128)),  # 42.7 is nearest to 5 patches
        ((40, 80), (40, 80)),
        ((20, 40), (32, 64)),  # enlarged to the model's own
        ((1, 5000), (8, 128)),
    ],
)
def test_images_keep_their_shape(source, size):
    encoder = vision_encoder(image_size=64)
    assert size_of_shape(source, 8, encoder) == size


def test_a_wide_photograph_is_drawn_wide(tmp_path, capsys):
    photo = Image.new("RGB", (64, 128))  # on its side, as cameras store it
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "wide.png", exif=exif)
    output = tmp_path / "seen.png"
    options = parsed(tmp_path / "wide.png", "--layer", 1, "--output", output)
    assert visualize.run(options) == 0
    assert "64 x 128 pixels (height x width): 8 x 16 patches" in capsys.readouterr().err
    with Image.open(output) as image:
        assert image.width > 3 * image.height


def test_what_is_cropped_is_said(tmp_path, capsys):
    for name, size in [("wide", (128, 64)), ("alike", (260, 130)), ("high", (64, 128))]:
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    paths = [tmp_path / f"{name}.png" for name in ("wide", "alike", "high")]
    options = parsed(paths[0], *paths[1:], "--output", tmp_path / "seen.png")
    assert visualize.run(options) == 0
    said = capsys.readouterr().err
    assert "1 of 3 images have another shape and are cropped to that of wide" in said
    assert "first high.png" in said
    visualize.run(parsed(*paths[:2], "--output", tmp_path / "seen.png"))
    assert "cropped" not in capsys.readouterr().err


@pytest.mark.quick
def test_what_a_shape_loses():
    assert cropped((150, 300), (64, 128)) == 0
    assert cropped((100, 100), (64, 128)) == pytest.approx(64)
    assert cropped((100, 300), (40, 128)) == pytest.approx(2.67, abs=0.01)


@pytest.mark.slow
def test_attention_says_whose(tmp_path, monkeypatch):
    found = []

    def kept(*arguments, titles, **options):
        found.append(titles)
        return attention_figure(*arguments, titles=titles, **options)

    monkeypatch.setattr("keras_pe.visualization.attention_figure", kept)
    output = ("--kind", "attention", "--output", tmp_path / "seen.png")
    for asked in ((), ("--layer", -1), ("--layer", 2, "--point", "1,2")):
        visualize.run(parsed(ROCKET, *asked, *output, "--image-size", 32))
    assert found == [
        ["rocket\nattention pooling"],
        ["rocket\nlayer 6, class token"],
        ["rocket\nlayer 2, patch 1,2 of 4 x 4"],
    ]


@pytest.mark.quick
def test_numbers_are_parsed():
    options = parsed(ROCKET, "--point", "3,4", "--image-size", "336x448")
    assert options.point == (3, 4)
    assert options.image_size == (336, 448)
    assert parsed(ROCKET, "--image-size", "64").image_size == (64, 64)
    for wrong in (("--point", "3"), ("--image-size", "big")):
        with pytest.raises(SystemExit):
            parsed(ROCKET, *wrong)


@pytest.mark.slow
def test_sizes_and_points_that_do_not_fit(tmp_path):
    output = ("--output", tmp_path / "none.png")
    point = ("--point", "8,0")
    with pytest.raises(ValueError, match="multiples of the patch size 8"):
        visualize.run(parsed(ROCKET, "--image-size", 60, *output))
    options = parsed(ROCKET, "--image-size", 64, "--kind", "attention", *point, *output)
    with pytest.raises(ValueError, match="outside the 8 rows and 8 columns"):
        visualize.run(options)
    assert not (tmp_path / "none.png").exists()
