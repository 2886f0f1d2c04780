"""Images in tiles: which grid, in which order, of which pixels."""

import itertools

import numpy as np
import pytest
from PIL import Image

from keras_pe import PEImageConverter
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.preprocessing.tiles import best_grid, cut

pytestmark = [pytest.mark.quick, pytest.mark.once]


def gradient(height, width):
    """Returns an image whose red tells the row and whose green tells the column."""
    rows, columns = np.meshgrid(
        np.linspace(0, 255, height), np.linspace(0, 255, width), indexing="ij"
    )
    return np.stack([rows, columns, 0 * rows], -1).astype("uint8")


@pytest.mark.parametrize(
    ("picture", "max_tiles", "expected"),
    [
        ((480, 640), 16, (3, 4)),
        ((480, 640), 11, (2, 3)),
        ((64, 64), 16, (1, 1)),  # nothing to gain from more
        ((128, 128), 16, (2, 2)),
        ((1000, 1000), 16, (4, 4)),
        ((1000, 1000), 15, (3, 3)),
        ((1, 30_000), 16, (1, 16)),
        ((30_000, 1), 9, (9, 1)),
        ((500, 300), 1, (1, 1)),
    ],
)
def test_the_grid_is_like_the_image(picture, max_tiles, expected):
    assert best_grid(picture, (64, 64), max_tiles) == expected


@pytest.mark.parametrize("tile", [(32, 32), (48, 32)])
def test_no_other_grid_distorts_less(tile):
    def distortion(picture, grid):
        ratio = picture[0] * grid[1] * tile[1] / (picture[1] * grid[0] * tile[0])
        return max(ratio, 1 / ratio)

    grids = [g for g in itertools.product(range(1, 10), repeat=2) if g[0] * g[1] <= 9]
    rng = np.random.default_rng(0)
    for picture in rng.integers(1, 400, (50, 2)).tolist():
        found = distortion(picture, best_grid(picture, tile, 9))
        assert found <= min(distortion(picture, g) for g in grids) + 1e-9


@pytest.mark.parametrize("size", [32, (24, 32)])
def test_tiles_are_the_parts_of_the_resized_image_after_the_whole(size):
    converter, picture = PEImageConverter(size), gradient(200, 300)
    found = converter.tiles(picture)
    (height, width), (rows, columns) = converter.image_size, found.grid
    assert rows * columns > 1
    whole = PEImageConverter([rows * height, columns * width]).convert(picture)
    np.testing.assert_array_equal(found.tiles[0], converter.convert(picture))
    for place, (row, column) in enumerate(
        itertools.product(range(rows), range(columns)), start=1
    ):
        part = whole[row * height : (row + 1) * height]
        part = part[:, column * width : (column + 1) * width]
        np.testing.assert_array_equal(found.tiles[place], part)
    assert len(found.tiles) == rows * columns + 1
    without = converter.tiles(picture, thumbnail=False)
    np.testing.assert_array_equal(without.tiles, found.tiles[1:])
    assert found.tiles.dtype == np.float32


def test_a_single_tile_is_the_image_itself_once():
    converter = PEImageConverter(32, mean=(0, 0, 0), std=(1, 1, 1))
    found = converter.tiles(gradient(30, 30))
    assert found.grid == (1, 1)
    np.testing.assert_array_equal(found.tiles, converter(gradient(30, 30)))


def test_images_of_any_kind_turned_upright(tmp_path):
    image = Image.fromarray(gradient(64, 32))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    assert PEImageConverter(32).tiles(tmp_path / "turned.png").grid == (1, 2)
    with (tmp_path / "turned.png").open("rb") as file:
        assert PEImageConverter(32).tiles(file).grid == (1, 2)
    deep = Image.fromarray(gradient(64, 32)[..., 0].astype("uint16") * 257)
    tiles = PEImageConverter(32).tiles(deep).tiles
    np.testing.assert_allclose(tiles[1:].max(), 1.0, atol=1e-6)


def test_what_makes_no_tiles_is_refused(tmp_path):
    converter = PEImageConverter(32, on_error="skip")
    for number in (0, -1, 1.5, True, "4"):
        with pytest.raises(ValueError, match="max_tiles must be"):
            converter.tiles(gradient(9, 9), max_tiles=number)
    with pytest.raises(ImageError, match=r"none\.png"):
        converter.tiles(tmp_path / "none.png")
    with pytest.raises(ValueError, match="do not fill"):
        cut(np.zeros((5, 4, 3)), (2, 2))
    with pytest.raises(ValueError, match="height must be"):
        best_grid((0, 4), (8, 8), 4)
