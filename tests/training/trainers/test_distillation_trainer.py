"""Distillation: the teacher stays as it is, the student comes to agree with it."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.losses.distillation import kl_distillation_loss
from keras_pe.training.trainers.distillation_trainer import DistillationTrainer
from tests.small_models import core, images, perturb, token_ids
from tests.training.gradients import loss_and_gradients

BATCH = 8


def models():
    keras.utils.set_random_seed(0)
    return core(num_layers=1), perturb(core(num_layers=1, hidden_dim=48), seed=3)


def batch():
    return {"images": images(BATCH), "token_ids": token_ids(BATCH)}


@pytest.mark.slow
def test_loss_is_the_divergence_of_the_teachers_rankings():
    student, teacher = models()
    before = [ops.convert_to_numpy(w) for w in teacher.weights]
    loss, gradients = loss_and_gradients(DistillationTrainer(student, teacher), batch())
    ours, theirs = (
        (model.encode_image(images(BATCH)), model.encode_text(token_ids(BATCH)))
        for model in (student, teacher)
    )
    scale = ops.exp(student.logit_scale)
    wanted = kl_distillation_loss(*ours, scale, *theirs, 200.0)
    assert loss == pytest.approx(float(ops.convert_to_numpy(wanted)), rel=1e-4)
    assert len(gradients) == len(student.trainable_variables)
    for old, new in zip(before, teacher.weights, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


@pytest.mark.slow
@pytest.mark.compiled
def test_chunks_change_nothing():
    plain = loss_and_gradients(DistillationTrainer(*models()), batch())
    chunked = DistillationTrainer(
        *models(), image_chunk_size=4, text_chunk_size=2, loss_chunk_size=4
    )
    loss, gradients = loss_and_gradients(chunked, batch())
    assert loss == pytest.approx(plain[0], rel=1e-5)
    for (path, ours), theirs in zip(gradients.items(), plain[1].values(), strict=True):
        scale = max(np.abs(theirs).max(), 1e-3)
        assert np.abs(ours - theirs).max() / scale < 1e-4, path


@pytest.mark.slow
@pytest.mark.compiled
def test_the_student_learns_the_teachers_rankings():
    student, teacher = models()
    trainer = DistillationTrainer(student, teacher, teacher_logit_scale=20.0)
    trainer.compile(keras.optimizers.Adam(3e-3))
    logs = [trainer.train_on_batch(batch(), return_dict=True) for _ in range(40)]
    assert float(logs[-1]["loss"]) < 0.2 * float(logs[0]["loss"])


@pytest.mark.slow
def test_the_student_may_see_smaller_images():
    student, teacher = models()
    trainer = DistillationTrainer(student, teacher, image_size=16)
    found = trainer({k: ops.convert_to_tensor(v) for k, v in batch().items()})
    small = ops.image.resize(images(BATCH), (16, 16), antialias=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found["image_embeddings"]),
        ops.convert_to_numpy(student(dict(batch(), images=small))["image_embeddings"]),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(found["teacher_image_embeddings"]),
        ops.convert_to_numpy(teacher.encode_image(images(BATCH))),
        atol=1e-5,
    )


@pytest.mark.slow
def test_the_teacher_computes_in_the_students_precision():
    keras.utils.set_random_seed(0)
    student = core(num_layers=1, dtype="mixed_bfloat16")
    teacher = perturb(core(num_layers=1, hidden_dim=48), seed=3)
    trainer = DistillationTrainer(student, teacher)
    towers = (trainer.teacher.vision_encoder, trainer.teacher.text_encoder)
    assert [tower.compute_dtype for tower in towers] == ["bfloat16"] * 2
    assert not trainer.teacher.trainable_variables
    found = trainer({k: ops.convert_to_tensor(v) for k, v in batch().items()})
    ours = ops.convert_to_numpy(found["teacher_image_embeddings"])
    wanted = ops.convert_to_numpy(teacher(batch())["image_embeddings"])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, wanted, atol=2e-2)  # eight bits
    assert np.abs(ours - wanted).max() > 1e-5
    kept = DistillationTrainer(student, teacher, teacher_dtype="float32")
    assert kept.teacher is teacher


class Seen(keras.layers.Layer):
    """Stands in front of a tower's blocks and notes how many rows come by."""

    def __init__(self, tower):
        super().__init__()
        self.tower, self.rows = tower, []

    def call(self, x, drop_path_factors=None, training=None):
        self.rows.append(x.shape[0])
        return self.tower(x, training=training)


@pytest.mark.slow
def test_the_teacher_runs_in_the_chunks_of_the_student():
    student, teacher = models()
    trainer = DistillationTrainer(
        student, teacher, image_chunk_size=2, text_chunk_size=4
    )
    tensors = {k: ops.convert_to_tensor(v) for k, v in batch().items()}
    for tower, name, chunk in (
        (teacher.vision_encoder, "images", trainer.image_chunk_size),
        (teacher.text_encoder, "token_ids", trainer.text_chunk_size),
    ):
        seen, rows = Seen(tower), {name: tensors[name]}
        found = trainer.embed(seen, rows, chunk, False)
        assert set(seen.rows) == {chunk}
        np.testing.assert_allclose(
            ops.convert_to_numpy(found),
            ops.convert_to_numpy(trainer.embed(tower, rows, None, False)),
            atol=1e-5,
        )


@pytest.mark.slow
def test_options_that_make_no_sense():
    student, teacher = models()
    with pytest.raises(ValueError, match="same model"):
        DistillationTrainer(student, student)
    for options in ({"loss": "sigmoid"}, {"duplicates": "ignore"}, {"mask_weight": 1}):
        with pytest.raises(TypeError, match="unexpected keyword"):
            DistillationTrainer(student, teacher, **options)
    for scale in (0.0, -200.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="teacher_logit_scale must be more than 0"):
            DistillationTrainer(student, teacher, teacher_logit_scale=scale)
    with pytest.raises(ValueError, match="image_size must be a whole number"):
        DistillationTrainer(student, teacher, image_size=0)


def test_images_are_scaled_whatever_format_keras_is_set_to():
    student, teacher = models()
    trainer = DistillationTrainer(student, teacher, image_size=16)
    wanted = ops.convert_to_numpy(trainer(batch())["image_embeddings"])
    keras.config.set_image_data_format("channels_first")
    try:
        found = ops.convert_to_numpy(trainer(batch())["image_embeddings"])
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("size", [(32, 16), (16, 32)])
def test_images_that_are_not_square_are_not_squashed(size):
    trainer = DistillationTrainer(*models(), image_size=16)
    with pytest.raises(ValueError, match="square images"):
        trainer({"images": images(2, *size), "token_ids": token_ids(2)})
