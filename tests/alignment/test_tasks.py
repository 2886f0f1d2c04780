"""Tasks, and which layer teaches by them."""

import types

import numpy as np
import pytest

from keras_pe.alignment import Task
from keras_pe.alignment.tasks import (
    check_task,
    sweep_again,
    sweep_tasks,
    teacher_layer,
)
from tests.probing.planted import classified, planted_model

pytestmark = pytest.mark.quick


def result(scores, best=1, higher=True):
    rows = [
        types.SimpleNamespace(layer=number, validation_score=score)
        for number, score in enumerate(scores)
    ]
    return types.SimpleNamespace(layers=rows, best_layer=best, higher_is_better=higher)


@pytest.mark.once
@pytest.mark.parametrize(
    ("layer", "sweeps", "expected"),
    [
        (2, {"parts": result([0, 1, 2, 3])}, (2, "as asked")),
        (-1, {}, (6, "as asked")),
        ("auto", {}, (5, "the paper's share, 41 of 50")),
        ("auto", {"parts": result([0, 1, 3, 2])}, (2, "the best of parts on")),
        ("auto", {"far": result([9, 1, 3, 2], higher=False)}, (1, "the best of far")),
        ("auto", {"parts": result([9, 1, 3, 2])}, (2, "the best of parts on")),
        ("auto", {"parts": result([0, 1], None)}, (5, "no layer of parts beats")),
    ],
)
def test_the_first_task_chooses_the_teacher(layer, sweeps, expected):
    sweeps = {**sweeps, "others": result([0, 9, 0, 0])} if sweeps else {}
    number, reason = teacher_layer(layer, 6, sweeps)
    assert number == expected[0]
    assert expected[1] in reason


@pytest.mark.once
@pytest.mark.parametrize(
    ("layer", "message"),
    [(0, "nothing to teach"), (7, "layers 0"), ("last", 'a number or "auto"')],
)
def test_layers_that_can_not_teach_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        teacher_layer(layer, 6, {})


def test_images_in_arrays_are_prepared_and_the_planted_layer_is_found():
    images, labels = classified(60)
    whole = np.clip((images + 1.0) * 64, 0, 255).astype("uint8")

    def prepare(x):
        return x.astype("float32") / 64 - 1.0

    task = Task("ridge", (whole, labels), seeds=(1,), batch_size=16)
    found = sweep_tasks({"rows": task}, planted_model(2), 0, prepare, False)["rows"]
    assert found.protocol["seeds"] == [1]
    assert teacher_layer("auto", 4, {"rows": found})[0] == 2
    plain = Task("ridge", (prepare(whole), labels), seeds=(1,), batch_size=16)
    same = sweep_tasks({"rows": plain}, planted_model(2), 0, None, False)["rows"]
    assert [row.score for row in found.layers] == [row.score for row in same.layers]


def test_a_task_that_fails_after_training_is_told_and_ends_nothing(caplog):
    images, labels = classified(60)
    reading = 0, None, False
    tasks = {"rows": Task("knn", (images, labels)), "gone": Task("knn", list)}
    before = sweep_tasks({"rows": tasks["rows"]}, planted_model(2), *reading)
    before["gone"] = before["rows"]
    after, failed = sweep_again(tasks, before, planted_model(4), *reading)
    assert list(after) == ["rows"]
    assert failed["gone"].startswith("ValueError: There are no images")
    other = {"rows": Task("knn", (images[::-1], labels[::-1]))}
    after, failed = sweep_again(other, before, planted_model(4), *reading)
    assert not after
    assert "targets" in failed["rows"]
    assert "'rows' was not compared" in caplog.text


def test_data_that_come_in_another_order_each_time_are_refused():
    images, labels = classified(20)
    rng = np.random.default_rng(0)

    def shuffled():
        order = rng.permutation(len(images))
        yield images[order], labels[order]

    def augmented():
        yield images + rng.normal(size=images.shape).astype("float32"), labels

    for data in (shuffled, augmented):
        with pytest.raises(ValueError, match="'rows': its data give other batches"):
            check_task("rows", Task("knn", data), planted_model(2), 0, None)
    once = iter([(images, labels)])
    with pytest.raises(ValueError, match="'rows': its data can be read once"):
        check_task("rows", Task("knn", lambda: once), planted_model(2), 0, None)
    unknown = np.where(labels > 0, np.nan, 1.0)
    task = Task("ridge_regression", lambda: [(images, unknown)])
    check_task("rows", task, planted_model(2), 0, None)
    task = Task("knn", lambda: [(images, labels)])
    check_task("rows", task, planted_model(2), 0, None)


def test_preparing_in_place_leaves_what_was_given():
    images, labels = classified(20)
    kept = images.copy()

    def in_place(x):
        x *= 0.5
        return x

    task = Task("knn", (images, labels), batch_size=8)
    check_task("rows", task, planted_model(2), 0, in_place)
    sweep_tasks({"rows": task}, planted_model(2), 0, in_place, False)
    np.testing.assert_array_equal(images, kept)


@pytest.mark.once
def test_tasks_that_make_no_sense_are_refused():
    images, labels = classified(6)
    with pytest.raises(ValueError, match="no probe 'nearest'"):
        Task("nearest", (images, labels))
    for name in ("data", "test"):
        data = {"data": (images, labels), name: iter([(images, labels)])}
        with pytest.raises(ValueError, match=f"{name} is read before and after"):
            Task("knn", **data)
    for nothing in (None, 3, "photos"):
        with pytest.raises(TypeError, match="data is \\(images, targets\\)"):
            Task("knn", nothing)
    for option, message in (
        ({"batch_size": 0}, "batch_size must be"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": 3}, "at least one"),
        ({"seeds": (-1,)}, "Seeds must be whole"),
        ({"reading": "cls"}, "got 'cls'"),
    ):
        with pytest.raises(ValueError, match=message):
            Task("knn", (images, labels), **option)
