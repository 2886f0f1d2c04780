"""Spatial alignment: what reaches which loss, and what comes of a few steps."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe import PESpatial
from keras_pe.losses import correspondence_loss, feature_alignment_loss
from keras_pe.training import FeatureTeacher, SpatialAlignmentTrainer
from keras_pe.training.trainers.spatial_trainer import aligned_layer
from tests.arrays import to_numpy
from tests.small_models import images, perturb, vision_encoder
from tests.training.gradients import loss_and_gradients

BATCH, PATCHES = 4, 16
INNER = 1  # of two layers
MASKS = np.arange(BATCH * PATCHES).reshape(BATCH, PATCHES) % 4 != 0
ROWS = np.eye(3, dtype="float32")[np.arange(BATCH * PATCHES).reshape(BATCH, -1) % 3]


def models(**changes):
    keras.utils.set_random_seed(0)
    core = perturb(vision_encoder(num_layers=2, **changes))
    return PESpatial.from_core(core, drop_path=0.0), core


def batch(rows=True, background=False):
    data = {"images": images(BATCH), "masked_patches": MASKS}
    if rows:
        data["mask_rows"] = ROWS
    if background:
        data["background"] = (ROWS[..., 0] * 0.5).astype("float32")
    return data


def patch_tokens(encoder, layer=-1, hidden=None):
    options = {}
    if hidden is not None:
        options = {
            "masked_patches": ops.convert_to_tensor(MASKS),
            "mask_embedding": ops.convert_to_tensor(hidden),
        }
    x = ops.convert_to_tensor(images(BATCH))
    (tokens,) = encoder.layer_tokens(x, [layer], training=False, **options)
    return to_numpy(tokens[:, int(encoder.class_token) :])


# === The losses ===
@pytest.mark.quick
@pytest.mark.parametrize("class_token", [True, False])
def test_the_losses_are_of_masked_students_and_whole_teachers(class_token):
    student, core = models(class_token=class_token)
    trainer = SpatialAlignmentTrainer(
        student, core, INNER, feature_weight=2.0, correspondence_weight=3.0
    )
    seen = patch_tokens(student, hidden=to_numpy(trainer.mask_embedding))
    features = feature_alignment_loss(seen, patch_tokens(core, INNER))
    pairs = correspondence_loss(seen, ROWS)
    loss, gradients = loss_and_gradients(trainer, batch())
    expected = 2.0 * float(to_numpy(features)) + 3.0 * float(to_numpy(pairs))
    assert loss == pytest.approx(expected, rel=1e-5)
    # The student's and the mask embedding, none of the teacher's.
    assert len(gradients) == len(student.trainable_variables) + 1
    assert all(np.any(gradient) for gradient in gradients.values())


@pytest.mark.quick
def test_nothing_masked_and_a_teacher_like_the_student_is_no_feature_loss():
    student, core = models()
    trainer = SpatialAlignmentTrainer(student, core, -1, mask_teacher=None)
    whole = {"images": images(BATCH), "masked_patches": np.zeros_like(MASKS)}
    loss, gradients = loss_and_gradients(trainer, whole)
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert max(np.abs(g).max() for g in gradients.values()) < 1e-4


def test_an_evaluation_sees_all():
    student, core = models()
    trainer = SpatialAlignmentTrainer(student, core, INNER, mask_teacher=None)
    trainer.compile(keras.optimizers.SGD(0.0))
    found = trainer.evaluate(
        {"images": images(BATCH)}, batch_size=2, verbose=0, return_dict=True
    )
    wanted = feature_alignment_loss(patch_tokens(student), patch_tokens(core, INNER))
    assert found["feature_loss"] == pytest.approx(float(to_numpy(wanted)), rel=1e-5)


def test_background_counts_less():
    student, core = models()
    options = {"feature_weight": 0.0, "background_weight": 0.1}
    trainer = SpatialAlignmentTrainer(student, core, **options)
    data = batch(background=True)
    loss, _ = loss_and_gradients(trainer, data)
    seen = patch_tokens(student, hidden=to_numpy(trainer.mask_embedding))
    wanted = correspondence_loss(
        seen, ROWS, background=data["background"], background_weight=0.1
    )
    assert loss == pytest.approx(float(to_numpy(wanted)), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [{"image_chunk_size": 2}, {"loss_chunk_size": 8}])
def test_chunks_change_nothing(chunks):
    plain = loss_and_gradients(SpatialAlignmentTrainer(*models()), batch())
    trainer = SpatialAlignmentTrainer(*models(), **chunks)
    trainer.mask_embedding.assign(
        SpatialAlignmentTrainer(*models()).mask_embedding.value
    )
    loss, gradients = loss_and_gradients(trainer, batch())
    assert loss == pytest.approx(plain[0], rel=1e-5)
    for (path, ours), theirs in zip(gradients.items(), plain[1].values(), strict=True):
        scale = max(np.abs(theirs).max(), 1e-3)
        assert np.abs(ours - theirs).max() / scale < 1e-4, path


# === Other teachers ===
@pytest.mark.slow
def test_small_students_of_a_larger_one():
    """Another width and patch size: a projection, and images of another size."""
    keras.utils.set_random_seed(0)
    changes = {"hidden_dim": 48, "patch_size": 4, "image_size": 16, "num_layers": 1}
    teacher = perturb(vision_encoder(**changes), seed=3)
    student = perturb(vision_encoder(num_layers=1))
    trainer = SpatialAlignmentTrainer(
        student, teacher, -1, mask_teacher="teacher", sharpness=None
    )
    assert trainer.projection is not None
    loss, gradients = loss_and_gradients(trainer, batch(rows=False))
    small = ops.image.resize(images(BATCH), (16, 16), antialias=True)
    (taught,) = teacher.layer_tokens(small, [-1], training=False)
    seen = patch_tokens(student, hidden=to_numpy(trainer.mask_embedding))
    kernel, bias = (to_numpy(w) for w in trainer.projection.weights)
    wanted = feature_alignment_loss(seen @ kernel + bias, taught[:, 1:])
    pairs = correspondence_loss(seen, taught[:, 1:], sharpness=None)
    expected = float(to_numpy(wanted)) + float(to_numpy(pairs))
    assert loss == pytest.approx(expected, rel=1e-4)
    # Pooling and projection are no part of it.
    names = [path for path, g in gradients.items() if not np.any(g)]
    assert all("pooling" in n or "projection" in n or "/norm/" in n for n in names)


@pytest.mark.slow
def test_gram_anchoring_is_the_same_loss_with_features_of_twice_the_size():
    student, core = models()
    before = perturb(vision_encoder(num_layers=2), seed=5)
    teacher = FeatureTeacher(before, layer=INNER, scale=2)
    trainer = SpatialAlignmentTrainer(
        student, core, INNER, teacher, feature_weight=0.0, sharpness=None
    )
    assert trainer.teachers == (core, before)
    loss, _ = loss_and_gradients(trainer, batch(rows=False))
    large = ops.image.resize(images(BATCH), (64, 64), antialias=True)
    (fine,) = before.layer_tokens(large, [INNER], training=False)
    maps = to_numpy(fine[:, 1:]).reshape(BATCH, 4, 2, 4, 2, 32).mean((2, 4))
    seen = patch_tokens(student, hidden=to_numpy(trainer.mask_embedding))
    wanted = correspondence_loss(seen, maps.reshape(BATCH, PATCHES, 32), sharpness=None)
    assert loss == pytest.approx(float(to_numpy(wanted)), rel=1e-4)


# === Training ===
@pytest.mark.slow
def test_it_learns_what_masks_say():
    student, core = models()
    before = [to_numpy(w) for w in core.weights]
    trainer = SpatialAlignmentTrainer(student, core, INNER)
    trainer.compile(keras.optimizers.Adam(3e-3))
    logs = [trainer.train_on_batch(batch(), return_dict=True) for _ in range(30)]
    for name in ("feature_loss", "correspondence_loss"):
        assert float(logs[-1][name]) < 0.7 * float(logs[0][name])
    for old, new in zip(before, core.weights, strict=True):
        np.testing.assert_array_equal(old, to_numpy(new))


@pytest.mark.slow
def test_a_run_keeps_no_teacher_and_goes_on_to_the_bit(tmp_path):
    from keras_pe.training import collect, restore

    def trained(steps, arrays=None):
        student, core = models()
        trainer = SpatialAlignmentTrainer(student, core, INNER)
        trainer.compile(keras.optimizers.Adam(1e-3))
        trainer.optimizer.build(trainer.trainable_variables)
        if arrays is not None:
            restore(trainer, arrays)
        for _ in range(steps):
            trainer.train_on_batch(batch())
        return trainer, {
            name: ops.convert_to_numpy(v) for name, v in collect(trainer).items()
        }

    trainer, halfway = trained(2)
    of_teacher = {id(v) for v in trainer.teacher.variables}
    assert not of_teacher & {id(v) for v in collect(trainer).values()}
    whole = collect(trainer, with_teachers=True)
    assert len(whole) == len(halfway) + len(of_teacher)
    _, wanted = trained(4)
    _, found = trained(2, halfway)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    # Earlier versions wrote the teacher's weights too.
    restore(trainer, {k: ops.convert_to_numpy(v) for k, v in whole.items()})


# === What makes no sense ===
@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_weight": -1.0}, "feature_weight must be 0 or more"),
        ({"correspondence_weight": float("nan")}, "correspondence_weight must be"),
        ({"mask_teacher": None, "feature_weight": 0.0}, "Nothing is taught"),
        ({"teacher": None, "mask_teacher": "teacher"}, "needs a teacher"),
        ({"teacher_layer": 9}, "layer"),
        ({"image_chunk_size": 0}, "image_chunk_size"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    student, core = models()
    with pytest.raises(ValueError, match=message):
        SpatialAlignmentTrainer(**{"student": student, "teacher": core, **options})


@pytest.mark.quick
def test_batches_that_lack_something_or_have_too_much_are_refused():
    trainer = SpatialAlignmentTrainer(*models())
    trainer.compile(keras.optimizers.SGD(0.1))
    for change, message in (
        ({"mask_rows": None}, "mask_rows"),
        ({"masked_patches": None}, "masked_patches"),
        ({"token_ids": np.ones((BATCH, 8), "int32")}, "token_ids"),
        ({"mask_rows": ROWS[:, :9]}, "same patches"),
        ({"masked_patches": MASKS[:1]}, "a row for each image"),
        ({"masked_patches": MASKS[:, :9]}, "a column for each patch"),
    ):
        data = {**batch(), **change}
        data = {k: v for k, v in data.items() if v is not None}
        with pytest.raises(ValueError, match=message):
            trainer.train_on_batch(data)


@pytest.mark.quick
def test_the_paper_takes_layer_41_of_50():
    assert [aligned_layer(n) for n in (50, 24, 12, 6, 1)] == [41, 20, 10, 5, 1]
