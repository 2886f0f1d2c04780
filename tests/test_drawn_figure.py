"""Figures of ours give their own picture, whether or not pyplot is in use."""

import copy
import io
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from keras_pe.drawn_figure import new_figure
from keras_pe.visualization import pca_figure

pytestmark = [pytest.mark.quick, pytest.mark.once]


def picture_of(figure):
    with Image.open(io.BytesIO(figure._repr_png_())) as image:
        return np.asarray(image.convert("RGB"))


def test_a_figure_gives_its_picture():
    figure = new_figure(figsize=(2, 1), dpi=50)
    figure.add_axes((0, 0, 1, 1)).imshow([[0, 1], [1, 0]], aspect="auto")
    height, width = picture_of(figure).shape[:2]
    assert 1.5 < width / height < 2.5
    assert len(np.unique(picture_of(figure))) > 2


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))]
)
def test_a_copy_gives_its_own_picture(copied):
    figure = new_figure(figsize=(2, 1), dpi=50)
    other = copied(figure)
    before = picture_of(figure)
    other.add_axes((0, 0, 1, 1)).imshow([[0, 1], [1, 0]], aspect="auto")
    np.testing.assert_array_equal(picture_of(figure), before)
    assert (
        picture_of(other).shape != before.shape or (picture_of(other) != before).any()
    )


def test_figures_of_the_package_are_such():
    figure = pca_figure(np.zeros((1, 16, 16, 3), "uint8"), np.zeros((1, 2, 2, 3)))
    assert picture_of(figure).size


def test_matplotlib_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"keras-pe\[probe\]"):
        pca_figure(np.zeros((1, 16, 16, 3), "uint8"), np.zeros((1, 2, 2, 3)))
