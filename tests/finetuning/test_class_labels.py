"""Labels in any form become places in the list of classes."""

import itertools

import numpy as np
import pytest

from keras_pe.finetuning.class_labels import (
    check_every_class,
    class_numbers,
    stratified_rows,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]
NAMES = ["cat", "dog", "owl"]


@pytest.mark.parametrize(
    "labels",
    [
        ["owl", "cat"],
        [b"owl", b"cat"],
        np.array(["owl", "cat"]),
        np.array(["owl", "cat"], object),
        [2, 0],
        np.array([2, 0], "uint8"),
        np.array([np.int64(2), 0], object),
        (n for n in (2, 0)),
        np.eye(3)[[2, 0]],
        np.eye(3, dtype="int32")[[2, 0]],
    ],
)
def test_forms(labels):
    found = class_numbers(labels, NAMES)
    assert found.dtype == "int64"
    assert found.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["cat", "Dog"],
            r"labels\[1\] is 'Dog', which is none of the class_",
        ),
        (["cat", None], r"labels\[1\] is None"),
        (np.array(["cat", np.nan], object), r"labels\[1\] is nan"),
        ([0, 3], r"labels\[1\] is 3, expected 0 to 2"),
        ([-1], r"labels\[0\] is -1"),
        ([0.0, 1.0], "labels are float64, expected names"),
        ([0.0, np.nan], r"labels\[1\] is nan: that image has no label"),
        ([1, None], r"labels\[0\] is 1|labels\[1\] is None"),
        ([[1], [0, 1]], r"such as \[1\] differ in length"),
        (np.array([2**64 - 1], "uint64"), r"labels\[0\] is 18446744073709551615"),
        (np.array([["cat"], ["dog"]]), r"shape \(2, 1\), expected one label"),
        ([True], "labels are bool"),
        (np.array([[1, 1, 0]]), "of several classes is none"),
        (np.array([[0.2, 0.8, 0.0]]), "one of them 1"),
        (np.eye(4), r"shape \(4, 4\), expected one label an image, or rows of 3"),
        (np.zeros((1, 1, 3)), r"shape \(1, 1, 3\)"),
    ],
)
def test_what_is_none(labels, message):
    with pytest.raises(ValueError, match=message):
        class_numbers(labels, NAMES)


@pytest.mark.parametrize(
    "labels", ["cat", b"cat", {"cat", "dog"}, {"cat": 1, "dog": 2}, 1, None]
)
def test_what_is_no_list(labels):
    with pytest.raises(TypeError, match="expected one label an image in the order"):
        class_numbers(labels, NAMES)


def test_labels_without_an_end():
    found = class_numbers(itertools.cycle(["owl", "cat"]), NAMES, count=3)
    assert found.tolist() == [2, 0, 2, 0]  # one too many, for an error to count


def test_a_class_without_images():
    check_every_class(np.array([0, 1, 2]), NAMES)
    with pytest.raises(ValueError, match=r"No training image shows 'dog', so"):
        check_every_class(np.array([0, 2, 2]), NAMES)


def test_a_share_of_each_class():
    labels = np.array([0] * 50 + [1] * 10 + [2])
    train, held = stratified_rows(labels, 0.2, seed=3)
    assert np.bincount(labels[held], minlength=3).tolist() == [10, 2, 0]
    assert sorted([*train, *held]) == list(range(61))
    assert (np.diff(held) > 0).all()
    again, other = (stratified_rows(labels, 0.2, seed)[1] for seed in (3, 4))
    assert again.tolist() == held.tolist() != other.tolist()
    # Never all of a class.
    assert len(stratified_rows(np.array([0, 0, 1]), 0.9, seed=0)[0]) == 2
