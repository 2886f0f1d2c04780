"""Tasks, and which layer teaches by them."""

import types

import numpy as np
import pytest

from keras_pe.alignment import Task
from keras_pe.alignment.tasks import sweep_tasks, teacher_layer
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
