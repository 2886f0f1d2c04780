"""Answers on disk: whole or made anew, each found by what it is of."""

import copy
import logging
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.arrays import NonFiniteError
from keras_pe.training import CachedTeacher, FeatureTeacher, with_mask_rows
from tests.arrays import to_numpy
from tests.small_models import images, perturb, vision_encoder

pytestmark = pytest.mark.quick

GRID = (4, 2)


class Counting:
    """A teacher of random answers that tells how often it was asked."""

    models = ()

    def __init__(self, scale=1.0, factor=1.0):
        self.scale, self.factor, self.asked = scale, np.float64(factor), []

    def __call__(self, x, grid):
        self.asked.append(len(x))
        rng = np.random.default_rng(0)
        pattern = rng.normal(size=(1, *grid, 5)).astype("float32")
        brightness = ops.mean(ops.convert_to_tensor(x), axis=(1, 2, 3))
        pattern = ops.convert_to_tensor(pattern * self.factor.astype("float32"))
        return brightness[:, None, None, None] * pattern


def entries(directory):
    return sorted(directory.rglob("*.npy"))


@pytest.fixture
def cached(tmp_path):
    return CachedTeacher(Counting(), tmp_path / "masks", name="counting")


def test_an_answer_is_asked_for_once(cached):
    x = images(3, 16, 16)
    first, again = (to_numpy(cached(x, GRID)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert cached.teacher.asked == [3]
    np.testing.assert_array_equal(to_numpy(cached(x[1:2], GRID)), first[1:2])
    assert cached.teacher.asked == [3]
    assert len(entries(cached.directory)) == 3


def test_it_is_rounded_as_float16_is(cached):
    x = images(3, 16, 16)
    found, exact = to_numpy(cached(x, GRID)), to_numpy(Counting()(x, GRID))
    assert np.all(abs(found - exact) <= abs(exact) * 2.0**-11 + 2.0**-25)


def test_what_float16_can_not_hold_is_cut_off_and_nan_refused(tmp_path):
    x = images(1, 16, 16)
    large = to_numpy(CachedTeacher(Counting(factor=1e9), tmp_path, "a")(x, GRID))
    assert np.abs(large).max() == 65504
    with pytest.raises(NonFiniteError, match="masks of the teacher"):
        CachedTeacher(Counting(factor=np.nan), tmp_path, "b")(x, GRID)
    assert len(entries(tmp_path)) == 1


def test_another_image_grid_or_teacher_is_another_entry(cached):
    x = images(1, 16, 16)
    cached(x, GRID)
    other = x.copy()
    other[0, 3, 3, 1] = np.nextafter(other[0, 3, 3, 1], 2)
    cached(other, GRID)
    cached(x, (2, 4))
    cached(x.reshape(1, 8, 32, 3), GRID)
    CachedTeacher(cached.teacher, cached.directory, name="another")(x, GRID)
    assert len(entries(cached.directory)) == 5


def test_settings_and_weights_are_part_of_the_key(tmp_path):
    keras.utils.set_random_seed(0)
    encoder = perturb(vision_encoder())
    names = [CachedTeacher(FeatureTeacher(encoder, 2), tmp_path).name]
    names.append(CachedTeacher(FeatureTeacher(encoder, 1), tmp_path).name)
    encoder.weights[0].assign(encoder.weights[0] + 1.0)
    names.append(CachedTeacher(FeatureTeacher(encoder, 1), tmp_path).name)
    assert len(set(names)) == 3
    again = FeatureTeacher(encoder, 1)
    again.chunk = 7  # how much at a time decides nothing
    assert CachedTeacher(again, tmp_path).name == names[-1]
    assert CachedTeacher(again, tmp_path).models == (encoder,)
    with pytest.raises(ValueError, match="Give a name"):
        CachedTeacher(lambda x, grid: x, tmp_path)


def test_what_a_model_computes_in_is_part_of_the_key(tmp_path):
    def name(**options):
        keras.utils.set_random_seed(0)
        encoder = vision_encoder(**options)
        return CachedTeacher(FeatureTeacher(encoder, 1), tmp_path).name

    def of_activation(activation):
        teacher = Counting()
        keras.utils.set_random_seed(0)
        layers = [keras.Input((2,)), keras.layers.Dense(2, activation=activation)]
        teacher.models = (keras.Sequential(layers),)
        return CachedTeacher(teacher, tmp_path).name

    assert name() == name() != name(dtype="mixed_bfloat16")
    assert of_activation("relu") == of_activation("relu") != of_activation("tanh")


@pytest.mark.parametrize(
    ("setting", "other"),
    [
        ([1, 2], [1, 3]),
        ({"points": [1.0]}, {"points": [2.0]}),
        (np.arange(3000), np.arange(3000) // 2000),
        (np.zeros(3, "float32"), np.zeros(3, "int32")),
        (None, 0),
    ],
)
def test_settings_of_any_kind_are_part_of_the_key(tmp_path, setting, other):
    def name(value):
        teacher = Counting()
        teacher.setting = value
        return CachedTeacher(teacher, tmp_path).name

    assert name(setting) == name(copy.deepcopy(setting)) != name(other)
    for unknown in (len, object(), [np.array([object()])]):
        with pytest.raises(ValueError, match="Give a name"):
            name(unknown)


# === Damage, kills and company ===
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        lambda whole: whole + b"0",
    ],
)
def test_damage_is_told_and_made_good(cached, damage, caplog):
    x = images(2, 16, 16)
    wanted = to_numpy(cached(x, GRID))
    path = entries(cached.directory)[0]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(to_numpy(cached(x, GRID)), wanted)
    assert f"{path} is damaged" in caplog.text
    assert path.read_bytes() == whole


def test_pickles_are_not_read(cached):
    import hashlib
    import io

    x = images(1, 16, 16)
    wanted = to_numpy(cached(x, GRID))
    (path,) = entries(cached.directory)
    content = io.BytesIO()
    np.save(content, np.array([{}], dtype=object), allow_pickle=True)
    array = content.getvalue()
    path.write_bytes(array + hashlib.sha256(array).digest())
    np.testing.assert_array_equal(to_numpy(cached(x, GRID)), wanted)


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="needs kill")
def test_a_kill_in_the_middle_leaves_nothing_half(cached):
    """What is written aside when its writer dies is no entry, and goes."""
    x = images(1, 16, 16)
    wanted = to_numpy(cached(x, GRID))
    (path,) = entries(cached.directory)
    whole = path.read_bytes()
    path.unlink()
    program = (
        "import os, signal, sys; from pathlib import Path; import keras_pe.files as f\n"
        "with f.file_aside(sys.argv[1]) as aside:\n"
        "    aside.write_bytes(bytes(100))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=False)
    assert done.returncode == -9
    (left,) = os.listdir(path.parent)
    assert left.startswith(".")
    np.testing.assert_array_equal(to_numpy(cached(x, GRID)), wanted)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == whole


def test_writers_at_the_same_time(tmp_path):
    x = images(4, 16, 16)
    answers = [None] * 4

    def ask(number):
        cached = CachedTeacher(Counting(), tmp_path, name="counting")
        answers[number] = to_numpy(cached(x, GRID))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        np.testing.assert_array_equal(answer, answers[0])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert sorted(files) == entries(tmp_path)


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "masks").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        CachedTeacher(Counting(), tmp_path / "masks", "a")


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="compiles nothing")
@pytest.mark.compiled
def test_in_a_step_that_is_compiled_it_says_what_to_do(cached):
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(lambda x: cached(x, GRID))
    else:
        import tensorflow as tf

        compiled = tf.function(lambda x: cached(x, GRID), autograph=False)
    with pytest.raises(TypeError, match="with_mask_rows"):
        compiled(images(1, 16, 16))


# === Masks before the step ===
def test_batches_get_the_masks_of_their_own_images(cached):
    x = images(4, 16, 16)
    given = [{"images": x[:2], "other": 1}, {"images": x[2:, :, :8], "other": 2}]
    batches = with_mask_rows(given, cached, 4)
    for _ in range(2):  # anew each time
        for batch, made in zip(given, batches, strict=True):
            size = batch["images"].shape
            grid = (size[1] // 4, size[2] // 4)
            assert made["images"] is batch["images"]
            assert made["other"] == batch["other"]
            wanted = to_numpy(cached(batch["images"], grid)).reshape(2, -1, 5)
            np.testing.assert_array_equal(made["mask_rows"], wanted)
            assert made["mask_rows"].dtype == np.float32
    assert "mask_rows" not in given[0]


def test_batches_in_tuples_stay_in_tuples():
    batch = ({"images": images(2, 16, 16)}, "targets")
    ((made, targets),) = with_mask_rows([batch], Counting(), 8)
    assert targets == "targets"
    assert made["mask_rows"].shape == (2, 4, 5)


def test_batches_that_can_have_no_masks_are_refused():
    with pytest.raises(ValueError, match=r"got a batch of \['ids'\]"):
        list(with_mask_rows([{"ids": 1}], Counting(), 4))
    with pytest.raises(ValueError, match="no whole patches of 5"):
        list(with_mask_rows([{"images": images(1, 16, 16)}], Counting(), 5))
