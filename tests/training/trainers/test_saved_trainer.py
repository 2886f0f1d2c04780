"""Trainers are Keras models: they save, load, sum up and go on where they were."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_pe
from keras_pe.training.optimizers.lamb import Lamb
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from keras_pe.training.trainers.distillation_trainer import DistillationTrainer
from tests.small_models import core, images, perturb, token_ids

pytestmark = [pytest.mark.quick, pytest.mark.slow]
BATCH = 4


def contrastive():
    model = perturb(core(num_layers=1))
    return ContrastiveTrainer(
        model, loss="sigmoid", mask_weight=0.5, loss_chunk_size=2, image_chunk_size=4
    )


def distillation():
    teacher = perturb(core(num_layers=1, hidden_dim=48), seed=3)
    return DistillationTrainer(
        perturb(core(num_layers=1)), teacher, teacher_logit_scale=30.0, image_size=16
    )


def pairs(masks):
    data = {"images": images(BATCH), "token_ids": token_ids(BATCH)}
    if masks:
        data["masked_patches"] = np.arange(BATCH * 16).reshape(BATCH, 16) % 3 == 0
    return data


def values(model):
    return [
        ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]
    ]


@pytest.mark.parametrize(
    "make", [contrastive, pytest.param(distillation, marks=pytest.mark.compiled)]
)
def test_a_loaded_trainer_goes_on_to_the_bit(make, tmp_path):
    data = pairs(masks=make is contrastive)
    trainer = make()
    trainer.compile(Lamb(1e-2))
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "trainer.keras")
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    trainer.fit(data, callbacks=[saver], **options)
    again = keras.models.load_model(tmp_path / "trainer.keras")
    assert type(again) is type(trainer)
    assert again.get_config() == trainer.get_config()
    for ours, theirs in zip(values(again), values(trainer), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for model in (trainer, again):
        model.fit(data, **options)
    for ours, theirs in zip(values(again), values(trainer), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("limit", [100.0, None])
def test_a_loaded_trainer_has_the_limit_of_the_logit_scale(limit):
    made = ContrastiveTrainer(core(num_layers=1), loss="sigmoid", max_logit_scale=limit)
    assert made.model.max_logit_scale == limit
    again = keras.models.clone_model(made)
    assert again.model.max_logit_scale == limit


def test_a_trainer_is_summed_up():
    lines = []
    trainer = contrastive()
    trainer.summary(print_fn=lambda text, **_: lines.append(text))
    assert f"Total params: {trainer.count_params():,}" in "\n".join(lines)


def test_weights_of_a_trainer_are_no_weights_of_its_model(tmp_path):
    trainer, model = contrastive(), core(num_layers=1)
    trainer.save_weights(tmp_path / "trainer.weights.h5")
    with pytest.raises(ValueError, match=r"trainer\.model\.save_weights"):
        model.load_weights(tmp_path / "trainer.weights.h5")
    trainer.model.save_weights(tmp_path / "model.weights.h5")
    model.load_weights(tmp_path / "model.weights.h5")
    for ours, theirs in zip(model.weights, trainer.model.weights, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs)
        )


def test_fit_of_the_model_itself_says_what_trains_it():
    model = keras_pe.PECore(core().vision_encoder, core().text_encoder)
    model.compile("sgd")
    with pytest.raises(ValueError, match="ContrastiveTrainer"):
        model.fit(pairs(masks=False), batch_size=BATCH, verbose=0)
