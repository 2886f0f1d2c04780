"""Token ids that do not exist are refused before a step makes NaN of them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.training.trainers.batch_checks import check_ids
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from keras_pe.training.trainers.distillation_trainer import DistillationTrainer
from tests.small_models import core, images, text_encoder, token_ids, vision_encoder

pytestmark = pytest.mark.quick
MESSAGE = (
    r"token_ids has the id {} at \(2, 1\), but the model knows 0 to 599.*Tokenizer"
)


def batch(wrong=None, name="token_ids", rows=4):
    ids = token_ids(rows)
    if wrong is not None:
        ids[2, 1] = wrong
    return {"images": images(rows), "token_ids": token_ids(rows), name: ids}


def trainer():
    found = ContrastiveTrainer(core(num_layers=1))
    found.compile(keras.optimizers.SGD(0.1))
    return found


class Data(keras.utils.PyDataset):
    """Two batches, of which the second is spoiled."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong, self.epochs = wrong, 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return (batch(self.wrong if index else None),)

    def on_epoch_end(self):
        self.epochs += 1


def fit_arrays(model, wrong):
    model.fit(batch(wrong), batch_size=4, verbose=0)


def fit_generator(model, wrong):
    batches = ((batch(w),) for w in (None, wrong))
    model.fit(batches, steps_per_epoch=2, verbose=0)


def fit_dataset(model, wrong):
    model.fit(Data(wrong), shuffle=False, verbose=0)


def train_on_batch(model, wrong):
    model.train_on_batch(batch(wrong))


@pytest.mark.parametrize(
    ("train", "wrong"),
    [
        *((train, 600) for train in (fit_arrays, fit_generator, fit_dataset)),
        *((train_on_batch, wrong) for wrong in (600, -1, 49407)),
    ],
)
def test_training_refuses_them_and_keeps_its_weights(train, wrong):
    model = trainer()
    with pytest.raises(ValueError, match=MESSAGE.format(wrong)):
        train(model, wrong)
    for variable in model.variables:
        if variable.dtype == "float32":
            assert np.isfinite(ops.convert_to_numpy(variable)).all()


@pytest.mark.parametrize(
    "train", [pytest.param(fit_generator, marks=pytest.mark.compiled), fit_dataset]
)
@pytest.mark.slow
def test_what_is_fine_is_trained_on(train):
    model = trainer()
    train(model, 599)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 2


@pytest.mark.slow
def test_a_dataset_hears_of_its_epochs():
    ours, stock = Data(599), Data(599)
    trainer().fit(ours, shuffle=False, epochs=2, verbose=0)
    keras.Model.fit(trainer(), stock, shuffle=False, epochs=2, verbose=0)
    assert ours.epochs == stock.epochs >= 2


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")
@pytest.mark.compiled
def test_tf_data_says_it_too():
    import tensorflow as tf

    def data(wrong):
        whole = tf.data.Dataset.from_tensor_slices(batch(wrong, rows=8))
        return whole.batch(4, drop_remainder=True)

    model = trainer()
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"Batch 0: token_ids has the id 700"
    ):
        model.fit(data(700), verbose=0)
    model.fit(data(599), verbose=0)
    assert np.isfinite(ops.convert_to_numpy(model.model.logit_scale))


def test_a_teacher_has_a_vocabulary_of_its_own():
    student = core(num_layers=1)
    teacher = type(student)(
        vision_encoder(num_layers=1), text_encoder(num_layers=1, vocabulary_size=590)
    )
    model = DistillationTrainer(student, teacher)
    model.compile(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match=r"^teacher_token_ids has the id 598 at"):
        model.train_on_batch(batch(598, "teacher_token_ids"))
    # Without ids of its own the teacher reads the student's.
    with pytest.raises(ValueError, match=r"^token_ids has the id 598 .* 0 to 589"):
        model.train_on_batch(batch())


@pytest.mark.parametrize("other", [None, np.zeros(3), [], ({"images": 1},)])
def test_other_things_are_left_alone(other):
    check_ids(other, {"token_ids": 3})
