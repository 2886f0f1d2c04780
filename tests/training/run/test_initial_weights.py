"""Weights that a run starts from."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig, build_model, small_towers
from keras_pe.training.run.initial_weights import (
    copy_spaced_blocks,
    load_initial_weights,
)
from keras_pe.training.trainers.distillation_trainer import DistillationTrainer

pytestmark = pytest.mark.quick
CONFIG = RunConfig(
    **small_towers(16, width=16, layers=1, text_layers=1),
    stages=(ResolutionStage(16, 8),),
    batch_size=8,
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "preset"])
def test_weights_arrive(kind, tmp_path):
    given, model = build_model(CONFIG), build_model(CONFIG)
    if kind == "file":
        source = tmp_path / "model.weights.h5"
        given.save_weights(source)
    else:
        source = tmp_path / "preset"
        given.save_to_preset(source)
    load_initial_weights(model, str(source))
    for theirs, ours in zip(given.variables, model.variables, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(theirs), ops.convert_to_numpy(ours)
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 32}, "has shape"), ({"layers": 2}, "does not fit")],
)
def test_a_preset_of_another_architecture_changes_nothing(change, message, tmp_path):
    sizes = {"width": 16, "layers": 1, "text_layers": 1, **change}
    other = dataclasses.replace(CONFIG, **small_towers(16, **sizes))
    build_model(other).save_to_preset(tmp_path / "preset")
    model = build_model(CONFIG)
    before = [ops.convert_to_numpy(v).copy() for v in model.variables]
    with pytest.raises(ValueError, match=message):
        load_initial_weights(model, str(tmp_path / "preset"))
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, ops.convert_to_numpy(variable))


@pytest.mark.slow
def test_a_preset_of_shorter_texts_leaves_further_positions(tmp_path):
    longer = dataclasses.replace(CONFIG, text={**CONFIG.text, "context_length": 24})
    given, model = build_model(CONFIG), build_model(longer)
    given.save_to_preset(tmp_path / "preset")
    before = ops.convert_to_numpy(model.text_encoder.position_embedding).copy()
    load_initial_weights(model, str(tmp_path / "preset"))
    after = ops.convert_to_numpy(model.text_encoder.position_embedding)
    theirs = ops.convert_to_numpy(given.text_encoder.position_embedding)
    np.testing.assert_array_equal(after[:20], theirs)
    np.testing.assert_array_equal(after[20:], before[20:])
    # The other way round nothing is cut off in silence.
    model.save_to_preset(tmp_path / "longer")
    with pytest.raises(ValueError, match="has shape"):
        load_initial_weights(given, str(tmp_path / "longer"))


@pytest.mark.slow
def test_a_student_takes_every_other_block():
    sizes = {"width": 16, "layers": 5, "text_layers": 4}
    deep = build_model(dataclasses.replace(CONFIG, **small_towers(16, **sizes)))
    sizes = {"width": 16, "layers": 2, "text_layers": 2}
    student = build_model(dataclasses.replace(CONFIG, **small_towers(16, **sizes)))
    copy_spaced_blocks(deep, student)
    values = {v.path: ops.convert_to_numpy(v) for v in deep.variables}
    sources = {
        "pe_vision_encoder/block_1/": "pe_vision_encoder/block_2/",
        "pe_vision_encoder/block_2/": "pe_vision_encoder/block_5/",
        "pe_text_encoder/block_1/": "pe_text_encoder/block_2/",
        "pe_text_encoder/block_2/": "pe_text_encoder/block_4/",
    }
    for variable in student.variables:
        path = variable.path
        for ours, theirs in sources.items():
            if ours in path:
                path = path.replace(ours, theirs)
                break
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), values[path])


@pytest.mark.slow
def test_a_student_trains_beside_the_teacher_it_was_copied_from():
    # JAX gives away the memory of all weights at each step: none may be shared.
    sizes = {"width": 16, "layers": 2, "text_layers": 1}
    teacher = build_model(dataclasses.replace(CONFIG, **small_towers(16, **sizes)))
    student = build_model(CONFIG)
    copy_spaced_blocks(teacher, student)
    trainer = DistillationTrainer(student, teacher)
    trainer.compile(keras.optimizers.AdamW(1e-3))
    rng = np.random.default_rng(0)
    token_ids = rng.integers(1, 6000, (4, 20), dtype="int32")
    batch = {
        "images": rng.uniform(-1, 1, (4, 16, 16, 3)).astype("float32"),
        "token_ids": token_ids,
    }
    kept = [ops.convert_to_numpy(v).copy() for v in teacher.variables]
    losses = [trainer.train_on_batch(batch) for _ in range(2)]
    assert np.isfinite(losses).all()
    for value, variable in zip(kept, teacher.variables, strict=True):
        np.testing.assert_array_equal(value, ops.convert_to_numpy(variable))


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"width": 32}, {"layers": 3}])
def test_a_student_that_does_not_fit_its_teacher_stays_as_it_is(change):
    teacher = build_model(dataclasses.replace(CONFIG))
    sizes = {"width": 16, "layers": 1, "text_layers": 1, **change}
    student = build_model(dataclasses.replace(CONFIG, **small_towers(16, **sizes)))
    before = [ops.convert_to_numpy(v).copy() for v in student.variables]
    with pytest.raises(ValueError, match="as wide"):
        copy_spaced_blocks(teacher, student)
    for value, variable in zip(before, student.variables, strict=True):
        np.testing.assert_array_equal(value, ops.convert_to_numpy(variable))
