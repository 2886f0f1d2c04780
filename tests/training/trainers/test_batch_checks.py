"""Batches that would be misunderstood are refused, whatever they come from."""

import sys
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.training.trainers.batch_checks import (
    warn_of_unknown_length,
    with_checked_batches,
)
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from tests.small_models import core, images, token_ids

pytestmark = pytest.mark.quick
BACKEND = keras.backend.backend()
UNKNOWN = "token_ids has the id 700"
VOCABULARIES = {"token_ids": 600}


def trainer(rate=0.1):
    keras.utils.set_random_seed(0)
    found = ContrastiveTrainer(core(num_layers=1))
    found.compile(keras.optimizers.SGD(rate))
    return found


def pairs(rows=8, wrong=None):
    ids = token_ids(rows)
    if wrong is not None:
        ids[5, 1] = wrong
    return {"images": images(rows), "token_ids": ids}


def row(data, number):
    if isinstance(data, dict):
        return {name: value[number] for name, value in data.items()}
    return tuple(value[number] for value in data)


def count(data):
    return len(data["images"] if isinstance(data, dict) else data[0])


# === Sources: each gives batches of four ===
def generator(data):
    for first in range(0, count(data), 4):
        part = row(data, slice(first, first + 4))
        yield part if isinstance(part, tuple) else (part,)


class Data(keras.utils.PyDataset):
    def __init__(self, data):
        super().__init__()
        self.batches = list(generator(data))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def data_loader(data):
    torch = pytest.importorskip("torch")
    rows = [row(data, number) for number in range(count(data))]
    return torch.utils.data.DataLoader(rows, batch_size=4)


def grain_map(data):
    grain = pytest.importorskip("grain")
    rows = [row(data, number) for number in range(count(data))]
    return grain.MapDataset.source(rows).batch(4)


def grain_iterator(data):
    return grain_map(data).to_iter_dataset()


def grain_loader(data):
    grain = pytest.importorskip("grain")
    rows = [row(data, number) for number in range(count(data))]
    return grain.DataLoader(
        data_source=rows,
        sampler=grain.samplers.SequentialSampler(
            len(rows), grain.sharding.NoSharding()
        ),
        operations=[grain.transforms.Batch(4)],
        worker_count=0,
    )


def tf_data(data):
    if "tensorflow" not in sys.modules:
        pytest.skip("TensorFlow is not loaded")
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(data).batch(4)


SOURCES = [
    generator,
    Data,
    data_loader,
    grain_map,
    grain_iterator,
    grain_loader,
    tf_data,
]
AS_USED = generator, tf_data  # what TensorFlow reads inside its compiled loop


def refusal(source):
    """The class of the error: TensorFlow's own where it reads the data."""
    if source is not tf_data and BACKEND != "tensorflow":
        return ValueError
    import tensorflow as tf

    if source is tf_data:
        return tf.errors.InvalidArgumentError
    # Keras looks at two batches itself, and TensorFlow reads the others.
    return ValueError, tf.errors.InvalidArgumentError


# === What is right is trained on ===
@pytest.fixture(scope="module")
def steps():
    """What two steps of `train_on_batch` leave of a trainer, and the last loss."""
    control = trainer()
    for batch in generator(pairs()):
        logs = control.train_on_batch(batch[0], return_dict=True)
    values = [ops.convert_to_numpy(variable) for variable in control.variables]
    return values, float(logs["contrastive_loss"])


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(source, marks=pytest.mark.compiled if source in AS_USED else ())
        for source in SOURCES
    ],
)
@pytest.mark.slow
def test_every_source_gives_the_steps_of_its_batches(source, steps):
    model, (expected, loss) = trainer(), steps
    # Without it Keras on TensorFlow begins a step more where it can't know the length.
    model.fit(source(pairs()), steps_per_epoch=2, shuffle=False, verbose=0)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 2
    for ours, theirs in zip(model.variables, expected, strict=True):
        ours = ops.convert_to_numpy(ours)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert np.isfinite(loss)


@pytest.mark.parametrize("source", [data_loader, grain_map])
def test_a_source_can_be_read_in_every_epoch_and_evaluated(source):
    data = pairs()
    model = trainer(0.0)
    found = source(data)
    history = model.fit(found, validation_data=source(data), epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    expected = model.evaluate(data, batch_size=4, verbose=0, return_dict=True)
    assert history.history["val_loss"] == pytest.approx([expected["loss"]] * 2, 1e-5)
    again = model.evaluate(found, verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(expected["loss"], 1e-5)


# === What is wrong is refused ===
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("extra", [(), (np.arange(8),)])
def test_pairs_in_a_tuple_are_refused(source, extra):
    data = (images(8), token_ids(8), *extra)
    with pytest.raises(ValueError, match=r"dictionary of arrays, got an array \("):
        trainer().fit(source(data), verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_arrays_side_by_side_are_refused(method):
    for given in ((images(4), token_ids(4)), ([images(4), token_ids(4)],)):
        with pytest.raises(ValueError, match=r'Give {"images": images, "token_ids"'):
            getattr(trainer(), method)(*given)


@pytest.fixture(scope="module")
def model():
    """One for all sources: what it has compiled serves them too."""
    return trainer()


@pytest.mark.parametrize("source", SOURCES)
def test_unknown_ids_are_refused_in_training(source, model):
    with pytest.raises(refusal(source), match=UNKNOWN):
        model.fit(source(pairs(wrong=700)), verbose=0)
    for variable in model.variables:
        assert np.isfinite(ops.convert_to_numpy(variable)).all()


@pytest.mark.parametrize("source", [dict, *SOURCES])
def test_unknown_ids_are_refused_in_evaluation(source, model):
    wrong = pairs(wrong=700)
    error = ValueError if source is dict else refusal(source)
    with pytest.raises(error, match=UNKNOWN):
        model.evaluate(source(wrong), verbose=0)
    with pytest.raises(error, match=UNKNOWN):
        model.predict(source(wrong), verbose=0)
    with pytest.raises(error, match=UNKNOWN):
        model.fit(pairs(), batch_size=8, validation_data=source(wrong), verbose=0)


@pytest.mark.parametrize("wrap", [tuple, list])
def test_unknown_ids_are_refused_in_validation_arrays(wrap):
    with pytest.raises(ValueError, match=UNKNOWN):
        trainer().fit(pairs(), validation_data=wrap([pairs(wrong=700)]), verbose=0)


@pytest.mark.parametrize("method", ["test_on_batch", "predict_on_batch"])
def test_unknown_ids_are_refused_in_a_batch(method):
    with pytest.raises(ValueError, match=UNKNOWN):
        getattr(trainer(), method)(pairs(wrong=700))


@pytest.mark.parametrize("method", ["fit", "evaluate", "test_on_batch"])
def test_more_images_than_texts_are_refused(method):
    wrong = {"images": images(8), "token_ids": token_ids(4)}
    with pytest.raises(ValueError, match="8 of images, 4 of token_ids"):
        getattr(trainer(), method)(wrong)


def test_more_images_than_texts_are_refused_in_batches():
    wrong = {"images": images(8), "token_ids": token_ids(4)}
    with pytest.raises(ValueError, match="8 of images, 4 of token_ids"):
        trainer().fit(((wrong,) for _ in range(1)), verbose=0)


def test_more_images_than_texts_are_refused_in_tf_data():
    if "tensorflow" not in sys.modules:
        pytest.skip("TensorFlow is not loaded")
    import tensorflow as tf

    wrong = {"images": images(8), "token_ids": token_ids(4)}
    signature = {
        "images": tf.TensorSpec((None, 32, 32, 3)),
        "token_ids": tf.TensorSpec((None, 8), tf.int32),
    }
    data = tf.data.Dataset.from_generator(
        lambda: iter([wrong]), output_signature=signature
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="8 of images, 4 of token_ids"
    ):
        trainer().evaluate(data, verbose=0)


@pytest.mark.parametrize("source", [generator, Data, data_loader, grain_map, tf_data])
def test_a_last_batch_of_one_pair_is_refused(source):
    error = refusal(source)
    if source is tf_data and BACKEND != "tensorflow":  # the step itself refuses it
        error = ValueError
    with pytest.raises(error, match="A batch of 1 pair has no negatives"):
        trainer().fit(source(pairs(9)), shuffle=False, verbose=0)


def test_fewer_masks_than_images_need_batches():
    data = {**pairs(8), "masked_patches": np.ones((4, 16), bool)}
    with pytest.raises(ValueError, match=r"'masked_patches': 4.*give batches"):
        trainer().fit(data, batch_size=4, verbose=0)


def test_weights_by_position_are_refused():
    data, weights = pairs(4), np.ones(4)
    for method, given in (
        ("train_on_batch", (data, None, weights)),
        ("test_on_batch", (data, None, weights)),
        ("evaluate", (data, None, 4, 0, weights)),
    ):
        with pytest.raises(ValueError, match="sample_weight and class_weight are not"):
            getattr(trainer(), method)(*given)
    with pytest.raises(ValueError, match="sample_weight and class_weight are not"):
        trainer().fit(data, validation_data=(data, None, weights), verbose=0)


# === The pieces ===
@pytest.mark.skipif(BACKEND != "tensorflow", reason="its data loop")
def test_data_of_unknown_length_are_warned_of():
    data = pairs()
    for source in (grain_map, generator):
        with pytest.warns(UserWarning, match="Give steps_per_epoch"):
            warn_of_unknown_length(source(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (dict, Data, tf_data, data_loader):
            warn_of_unknown_length(source(data))


def test_a_data_loader_keeps_its_shuffling_and_workers():
    torch = pytest.importorskip("torch")
    rows = [row(pairs(12), number) for number in range(12)]

    def loader():
        generator = torch.Generator().manual_seed(3)
        return torch.utils.data.DataLoader(
            rows, batch_size=4, shuffle=True, num_workers=1, generator=generator
        )

    ours = with_checked_batches(loader(), VOCABULARIES)
    assert len(ours) == 3
    assert ours.batch_size == 4
    for (found,), expected in zip(ours, loader(), strict=True):
        assert torch.equal(found["token_ids"], expected["token_ids"])


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_a_model_keeps_its_weights_when_a_batch_fails(method, last):
    model = trainer(0.0)
    before = [ops.convert_to_numpy(v) for v in model.variables]

    class Broken(Data):
        def __getitem__(self, index):
            if index < last:
                return super().__getitem__(index)
            raise OSError("no such image")

    options = {"shuffle": False} if method == "fit" else {}
    with pytest.raises(Exception, match="no such image"):
        getattr(model, method)(Broken(pairs()), verbose=0, **options)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_other_things_are_left_alone():
    thing = object()
    assert with_checked_batches(thing, VOCABULARIES) is thing
    assert with_checked_batches(None, VOCABULARIES) is None
    data = pairs(4)
    assert with_checked_batches(data, VOCABULARIES) is data
