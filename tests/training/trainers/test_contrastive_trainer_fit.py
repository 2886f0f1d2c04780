"""The contrastive stage as Keras users run it: logs, validation, weights, precision."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.training.optimizers.lamb import Lamb
from keras_pe.training.trainers.base import Latest
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from tests.small_models import core, images, perturb, token_ids

pytestmark = pytest.mark.quick
BACKEND = keras.backend.backend()


def trainer(dtype=None, **options):
    keras.utils.set_random_seed(0)
    model = perturb(core(num_layers=1, dtype=dtype))
    return ContrastiveTrainer(model, **options)


def pairs(rows):
    return {"images": images(rows), "token_ids": token_ids(rows)}


def part(data, rows):
    return {name: value[rows] for name, value in data.items()}


# === Logs ===
def test_a_metric_holds_the_last_step_or_the_mean_over_rows():
    metric = Latest("loss")
    assert float(metric.result()) == 0.0
    metric.update_state(3.0)
    metric.update_state(4.0)
    assert float(metric.result()) == 4.0
    metric.reset_state()
    metric.add(3.0, rows=30)
    metric.add(4.0, rows=10)
    assert float(metric.result()) == 3.25


@pytest.mark.slow
@pytest.mark.compiled
def test_evaluation_is_the_mean_over_all_batches_and_training_the_last():
    model, data = trainer(), pairs(10)
    model.compile(keras.optimizers.SGD(0.0))
    by_batch = [
        float(model.test_on_batch(part(data, rows), return_dict=True)["loss"])
        for rows in (slice(0, 4), slice(4, 8), slice(8, 10))
    ]
    mean = (4 * by_batch[0] + 4 * by_batch[1] + 2 * by_batch[2]) / 10
    assert abs(mean - by_batch[2]) > 0.1
    found = model.evaluate(data, batch_size=4, verbose=0, return_dict=True)
    assert found["contrastive_loss"] == pytest.approx(mean, rel=1e-5)
    assert found["loss"] == pytest.approx(mean, rel=1e-5)
    scale = float(ops.convert_to_numpy(model.logit_scale()))
    assert found["logit_scale"] == pytest.approx(scale, rel=1e-5)
    history = model.fit(
        part(data, slice(0, 8)),
        batch_size=4,
        shuffle=False,
        validation_data=data,
        validation_batch_size=4,
        verbose=0,
    ).history
    assert history["val_contrastive_loss"][0] == pytest.approx(mean, rel=1e-5)
    assert history["contrastive_loss"][0] == pytest.approx(by_batch[1], rel=1e-5)


# === What is refused ===
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_weight": np.ones(4)}, "sample_weight and class_"),
        ({"class_weight": {0: 2.0}}, "sample_weight and class_"),
        ({"y": np.zeros(4), "sample_weight": np.ones(4)}, "sample_weight and class_"),
        ({"y": np.zeros(4), "class_weight": {0: 2.0}}, "sample_weight and class_"),
        ({"y": np.zeros(4)}, "Labels are not used: what is to be learned is in"),
    ],
)
def test_labels_and_weights_are_refused(arguments, message):
    model = trainer()
    model.compile("sgd")
    with pytest.raises(ValueError, match=message):
        model.fit(pairs(4), batch_size=4, verbose=0, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{"loss": "mse"}, {"metrics": ["accuracy"]}])
def test_another_loss_or_metrics_are_refused(arguments):
    model = trainer()
    model.compile("sgd", **arguments)
    with pytest.raises(ValueError, match="Compile with an optimizer alone"):
        model.fit(pairs(4), batch_size=4, verbose=0)


def test_a_batch_of_one_pair_is_refused_before_anything_runs():
    model = trainer()
    model.compile("sgd")
    for rows, size, split in ((1, 8, 0.0), (4, 1, 0.0), (9, 4, 0.0), (10, 4, 0.1)):
        with pytest.raises(ValueError, match="A batch of 1 pair has no negatives"):
            model.fit(pairs(rows), batch_size=size, validation_split=split, verbose=0)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 0


@pytest.mark.slow
def test_a_batch_of_one_pair_is_refused_in_a_step():
    model = trainer()
    model.compile("sgd")
    with pytest.raises(ValueError, match="A batch of 1 pair has no negatives"):
        model.train_on_batch(pairs(1))


@pytest.mark.slow
def test_a_short_last_batch_is_warned_of():
    model = trainer()
    model.compile("sgd")
    with pytest.warns(UserWarning, match="10 pairs in batches of 4 leave a last .* 2"):
        model.fit(pairs(10), batch_size=4, verbose=0)


# === Chunks ===
@pytest.mark.slow
@pytest.mark.compiled
def test_rows_that_are_not_known_are_no_silent_end_of_chunking():
    if BACKEND != "tensorflow":
        pytest.skip("shapes are always known elsewhere")
    import tensorflow as tf

    model = trainer(image_chunk_size=2)
    model.compile("sgd")
    data = tf.data.Dataset.from_tensor_slices(pairs(8))
    with pytest.raises(ValueError, match="drop_remainder=True"):
        model.fit(data.batch(4), verbose=0)
    model.fit(data.batch(4, drop_remainder=True), verbose=0)


@pytest.mark.slow
def test_short_batches_of_an_evaluation_take_the_chunks_they_can():
    plain, chunked = trainer(), trainer(image_chunk_size=4, text_chunk_size=3)
    for model in (plain, chunked):
        model.compile("sgd")
    found = [
        model.evaluate(pairs(11), batch_size=8, verbose=0, return_dict=True)
        for model in (plain, chunked)
    ]
    assert found[1]["loss"] == pytest.approx(found[0]["loss"], rel=1e-5)


# === Precision ===
def test_the_loss_of_a_float16_model_is_scaled():
    for policy, scaled in (("mixed_float16", True), ("mixed_bfloat16", False)):
        model = trainer(dtype=policy)
        model.compile(Lamb(1e-3))
        kind = keras.optimizers.LossScaleOptimizer
        assert isinstance(model.optimizer, kind) is scaled
        assert model.dtype_policy.name == policy


@pytest.mark.slow
@pytest.mark.compiled
def test_a_float16_model_trains_through_the_scaled_loss():
    if BACKEND == "jax":
        pytest.skip("XLA multiplies no float16 matrices on a CPU")
    model = trainer(dtype="mixed_float16")
    model.compile(Lamb(1e-2))
    data = pairs(8)
    history = model.fit(data, batch_size=4, epochs=6, shuffle=False, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    # Steps that overflow are left out, and the scale is halved; the others count.
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) > 6


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_in_half_precision_are_refused(dtype):
    if BACKEND == "jax" and dtype == "float16":
        pytest.skip("XLA multiplies no float16 matrices on a CPU")
    model = trainer(dtype=dtype)
    model.compile("sgd")
    with pytest.raises(ValueError, match=f"Weights in {dtype}.*mixed_bfloat16"):
        model.train_on_batch(pairs(4))


@pytest.mark.slow
def test_updates_of_lora_in_bfloat16_models_are_trained_in_float32():
    model = trainer(dtype="bfloat16")
    model.model.enable_lora(2)
    model.model.text_encoder.trainable = False  # the tests change the vision tower's
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    model.compile(Lamb(1e-2))
    history = model.fit(pairs(4), batch_size=4, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["lora", "thawed"])
def test_weights_that_the_optimizer_does_not_know_are_named(how):
    model = trainer()
    model.model.vision_encoder.trainable = how != "thawed"
    model.compile(Lamb(1e-2))
    model.fit(pairs(4), batch_size=4, verbose=0)
    if how == "lora":
        model.model.enable_lora(2)
    else:
        model.model.vision_encoder.trainable = True
    with pytest.raises(ValueError, match=r"does not know.*Compile again"):
        model.fit(pairs(4), batch_size=4, verbose=0)
    model.compile(Lamb(1e-2))
    model.fit(pairs(4), batch_size=4, verbose=0)
