"""Pairs of patches against float64, in chunks of rows and whole."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.losses import correspondence_loss, correspondence_target
from tests.losses import float64
from tests.losses.gradients import (
    largest_difference,
    value_and_gradients,
    value_of,
)

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
STUDENT = RNG.normal(size=(4, 6, 8)).astype("float32")
# Near to each other, so that sharpened cosines are no zeros alone, and with cosines
# that float32 holds exactly: it rounds others by 6e-8, which sharpening takes by 20.
TEACHER = np.where(RNG.random((4, 6, 16)) < 0.1, -0.5, 0.5).astype("float32")
BACKGROUND = RNG.choice([0.0, 0.5, 1.0], size=(4, 6)).astype("float32")
# None: whole. 24 rows: all at once; 6: an image; 12: two; 4: a part of one, and a
# rest; 18: three images, and one that is left; 1: row by row.
CHUNK_SIZES = [None, 24, 18, 12, 6, 4, 1]


def found_of(student, teacher, **options):
    value, (gradient, of_teacher) = value_and_gradients(
        lambda s, t: correspondence_loss(s, t, **options), student, teacher
    )
    assert not np.any(of_teacher)
    return value, [gradient]


@functools.cache
def expected_of(sharpness, background_weight):
    background = None if background_weight is None else BACKGROUND
    return float64.correspondence(
        STUDENT, TEACHER, sharpness, background, background_weight
    )


@pytest.mark.parametrize("sharpness", [20.0, 5.0, None])
@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
def test_equals_float64(chunk_size, sharpness):
    expected = expected_of(sharpness, None)
    options = {"sharpness": sharpness, "chunk_size": chunk_size}
    found = found_of(STUDENT, TEACHER, **options)
    assert largest_difference(found, expected, expected) < 1e-6


@pytest.mark.parametrize("weight", [0.0, 0.25, 3.0])
@pytest.mark.parametrize("chunk_size", [None, 12, 4])
def test_weights_of_the_background_equal_float64(chunk_size, weight):
    expected = expected_of(20.0, weight)
    options = {"background": BACKGROUND, "background_weight": weight}
    found = found_of(STUDENT, TEACHER, chunk_size=chunk_size, **options)
    assert largest_difference(found, expected, expected) < 1e-6


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_an_image_of_which_no_pair_counts_has_no_loss_and_no_gradient(chunk_size):
    background = np.array(BACKGROUND, "float32")
    background[0] = 1.0
    options = {"background_weight": 0.0, "chunk_size": chunk_size}
    alone, _ = found_of(STUDENT[1:], TEACHER[1:], background=background[1:], **options)
    value, (gradient,) = found_of(STUDENT, TEACHER, background=background, **options)
    assert value == pytest.approx(alone * (len(STUDENT) - 1) / len(STUDENT), rel=1e-6)
    assert not np.any(gradient[0])
    assert np.isfinite(gradient).all()


def test_sharpening_maps_one_to_one_and_nine_tenths_to_an_eighth():
    rows = np.array([[[1.0, 0.0], [0.9, np.sqrt(0.19)], [0.0, 1.0]]])
    target = ops.convert_to_numpy(correspondence_target(rows))[0]
    np.testing.assert_allclose(np.diag(target), 1.0, rtol=1e-5)
    assert target[0, 1] == pytest.approx(np.exp(-2.0), rel=1e-5)
    assert target[0, 2] == pytest.approx(np.exp(-20.0), rel=1e-4)


def test_masks_of_things_make_blocks():
    of_patch = [0, 0, 1, 2, 1, 0]
    target = correspondence_target(np.eye(3)[[of_patch]])
    same = np.equal.outer(of_patch, of_patch)
    np.testing.assert_allclose(ops.convert_to_numpy(target)[0], same, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [None, 6])
def test_unsharpened_it_is_the_mean_square_of_gram_matrices(chunk_size):
    """As DINOv3 has it: unit length, no centring, no cosine below 0 taken as 0."""
    ours, theirs = (
        x / np.linalg.norm(x, axis=-1)[..., None]
        for x in (STUDENT, -RNG.normal(size=(4, 6, 5)))
    )
    grams = [x @ x.swapaxes(1, 2) for x in (ours, theirs)]
    assert all(gram.min() < -0.1 for gram in grams)
    found = correspondence_loss(STUDENT, theirs, sharpness=None, chunk_size=chunk_size)
    expected = np.mean((grams[0] - grams[1]) ** 2)
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA by TensorFlow")
@pytest.mark.compiled
def test_chunks_of_one_image_copy_no_input():
    """XLA put an axis of one row elsewhere, which took two more of the inputs' size."""
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def step(student, teacher):
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = correspondence_loss(student, teacher, chunk_size=6)
        return value, tape.gradient(value, student)

    inputs = [tf.constant(x) for x in (STUDENT, TEACHER)]
    program = step.experimental_get_compiler_ir(*inputs)(stage="optimized_hlo")
    assert "while(" in program
    for channels in (8, 16):
        assert f"f32[4,6,{channels}]" in program
        assert f"f32[4,1,6,{channels}]" not in program


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_a_student_like_its_teacher_has_no_loss_unsharpened(chunk_size):
    options = {"sharpness": None, "chunk_size": chunk_size}
    value, (gradient,) = found_of(TEACHER * 3.0, TEACHER, **options)
    assert value < 1e-12
    assert np.abs(gradient).max() < 1e-6


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_rows_of_no_length_have_cosine_zero_and_no_gradient(chunk_size):
    student, teacher = STUDENT.copy(), TEACHER.copy()
    student[1, 2] = 0.0
    teacher[2, 3] = 0.0
    value, (gradient,) = found_of(student, teacher, chunk_size=chunk_size)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[1, 2])


@pytest.mark.parametrize("chunk_size", [None, 6])
def test_low_precision_is_computed_in_float32(chunk_size):
    student = ops.cast(STUDENT, "bfloat16")
    rounded = ops.convert_to_numpy(ops.cast(student, "float32"))
    expected = float64.correspondence(rounded, TEACHER, 20.0)
    value = value_of(
        lambda s: correspondence_loss(s, TEACHER, chunk_size=chunk_size), student
    )
    assert value == pytest.approx(expected.value, rel=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="unknown shapes are TensorFlow's"
)
def test_a_batch_of_unknown_size():
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *x.shape[1:])) for x in (STUDENT, TEACHER)]
    compiled = tf.function(
        lambda s, t: correspondence_loss(s, t, chunk_size=12),
        input_signature=signature,
    )
    for rows in (4, 3, 1):
        expected = float64.correspondence(STUDENT[:rows], TEACHER[:rows], 20.0)
        found = float(compiled(STUDENT[:rows], TEACHER[:rows]))
        assert found == pytest.approx(expected.value, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": TEACHER[:, :5]}, "same patches"),
        ({"teacher": TEACHER[0]}, "same patches"),
        ({"background": BACKGROUND[:, :5]}, "same patches"),
        ({"sharpness": 0.0}, "sharpness must be more than 0"),
        ({"sharpness": float("nan")}, "sharpness must be more than 0"),
        ({"background_weight": -1.0}, "background_weight must be 0 or more"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
        ({"chunk_size": 2.5}, "chunk_size must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    arguments = {"student": STUDENT, "teacher": TEACHER, **change}
    with pytest.raises(ValueError, match=message):
        correspondence_loss(**arguments)
