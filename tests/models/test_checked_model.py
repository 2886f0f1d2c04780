"""What can't be right is refused by place before a compiled step, whoever feeds it."""

import io

import keras
import numpy as np
import pytest

import keras_pe
from keras_pe.arrays import NonFiniteError
from keras_pe.models.checked_model import named_arguments
from keras_pe.models.feature_pyramid import FeaturePyramid
from tests.small_models import (
    TEXT,
    VISION,
    core,
    images,
    text_encoder,
    token_ids,
    vision_encoder,
)

pytestmark = pytest.mark.quick
ENTRIES = ("predict", "predict_on_batch", "evaluate", "test_on_batch")
TRAINING = ("fit", "train_on_batch")
PLACES = {  # who feeds a model, and how it calls the second batch
    "arrays": "",
    "generator": "Batch 1: ",
    "PyDataset": "Batch 1: ",
    "tf.data": "Batch 1: ",
    "torch": "Batch 1: ",
    "grain dataset": "A batch: ",
    "grain loader": "A batch: ",
}
TOKENS = {k: v for k, v in VISION.items() if k not in ("output_dim", "num_layers")}


def model_of(name):
    """Returns a small model of one of the classes that have inputs of their own."""
    return {
        "core": core,
        "vision": vision_encoder,
        "text": text_encoder,
        "lang": lambda: keras_pe.PELang(**TOKENS, num_layers=1),
        "spatial": lambda: keras_pe.PESpatial(**TOKENS, num_layers=1),
        "pyramid": lambda: FeaturePyramid(vision_encoder(), channels=8, scales=(1,)),
    }[name]()


def wrong_images(value):
    wrong = images(5)
    wrong[3, 4, 5, 0] = value
    return wrong


def wrong_ids(value):
    ids = token_ids(5)
    ids[3, 1] = value
    return ids


def inputs_of(name, given=None, ids=None):
    given = images(5) if given is None else given
    ids = token_ids(5) if ids is None else ids
    if name == "core":
        return {"images": given, "token_ids": ids}
    return ids if name == "text" else given


def call(model, entry, x):
    model.compile("sgd", "mse", run_eagerly=True)
    silent = {} if entry.endswith("on_batch") else {"verbose": 0}
    return getattr(model, entry)(x, **silent)


# === Images ===
@pytest.mark.parametrize("name", ["core", "vision", "lang", "spatial", "pyramid"])
def test_images_that_are_not_finite_are_refused_by_place(name):
    model = model_of(name)
    for value in (np.nan, np.inf, -np.inf):
        x = inputs_of(name, wrong_images(value))
        for entry in ENTRIES:
            with pytest.raises(NonFiniteError, match=r"image 3 of 5 holds NaN"):
                call(model, entry, x)


@pytest.mark.compiled
def test_unscaled_images_are_refused_where_steps_are_compiled():
    for entry in ENTRIES:
        with pytest.raises(ValueError, match=r"got values from 0 to 255"):
            call(vision_encoder(), entry, 255 * np.eye(32).reshape(1, 32, 32, 1))


def test_a_layer_called_on_nan_passes_it_on_as_training_needs():
    found = keras.ops.convert_to_numpy(vision_encoder()(wrong_images(np.nan)))
    assert np.isnan(found[3]).all()
    assert np.isfinite(found[[0, 1, 2, 4]]).all()


def test_images_are_looked_at_to_the_last_piece(monkeypatch):
    monkeypatch.setattr("keras_pe.models.vision_arguments.PIECE", 2 * 32 * 32 * 3 * 4)
    with pytest.raises(NonFiniteError, match="image 3 of 5"):
        vision_encoder().predict(wrong_images(np.nan), verbose=0)


# === Ids ===
@pytest.mark.parametrize("name", ["core", "text"])
@pytest.mark.parametrize("wrong", [600, -1, 2**31 - 1])
def test_unknown_ids_are_refused_by_place(name, wrong):
    model = model_of(name)
    x = inputs_of(name, ids=wrong_ids(wrong))
    for entry in (*ENTRIES, *TRAINING):
        with pytest.raises(ValueError, match=r"0 to 599.*\[3, 1\].*vocabulary_size"):
            call(model, entry, x)


# === Whoever feeds it ===
class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def fed_by(source, batches):
    """Returns what yields one-element tuples of batches, with their number."""
    batches = [(x,) for x in batches]
    if source == "arrays":
        return np.concatenate([x for (x,) in batches])
    if source == "generator":
        return (batch for batch in batches)
    if source == "PyDataset":
        return Batches(batches)
    if source == "tf.data":
        tf = pytest.importorskip("tensorflow")
        shape = (None, *batches[0][0].shape[1:])
        signature = (tf.TensorSpec(shape, batches[0][0].dtype),)
        return tf.data.Dataset.from_generator(
            lambda: iter(batches), output_signature=signature
        )
    if source == "torch":
        torch = pytest.importorskip("torch")
        samples = torch.utils.data.TensorDataset(
            torch.from_numpy(np.concatenate([x for (x,) in batches]))
        )
        return torch.utils.data.DataLoader(samples, batch_size=len(batches[0][0]))
    grain = pytest.importorskip("grain")
    if source == "grain dataset":
        return grain.MapDataset.source(batches)
    order = grain.samplers.IndexSampler(len(batches), num_epochs=1)
    return grain.DataLoader(data_source=batches, sampler=order)


@pytest.mark.parametrize(
    ("name", "source"),
    [*(("vision", source) for source in PLACES), ("text", "arrays"), ("text", "torch")],
)
def test_batches_are_looked_at_one_by_one(name, source):
    model = model_of(name)
    right = inputs_of(name)
    wrong = inputs_of(name, wrong_images(np.nan), wrong_ids(600))
    what = {"vision": "image ", "text": "ids .*"}[name]
    with pytest.raises(Exception, match=f"(?s){PLACES[source]}.*{what}") as found:
        model.predict(fed_by(source, [right, wrong]), verbose=0)
    assert isinstance(found.value, ValueError) or source == "tf.data"
    found = model.predict(fed_by(source, [right, right]), verbose=0)
    expected = np.asarray(model.encode(right))
    np.testing.assert_allclose(found, np.concatenate([expected] * 2), atol=1e-5)


@pytest.mark.parametrize("source", PLACES)
def test_batches_of_training_are_looked_at_too(source):
    model = text_encoder()
    with pytest.raises(Exception, match=r"(?s)from 0 to 599"):
        call(model, "fit", fed_by(source, [wrong_ids(600)]))


@pytest.mark.parametrize("wrap", [list, tuple, lambda x: [x]])
@pytest.mark.parametrize("name", ["core", "vision", "text"])
def test_lists_are_refused_with_advice(wrap, name):
    for entry in (*ENTRIES, *TRAINING):
        with pytest.raises(ValueError, match=r"got a (list|tuple) of \d.*np.stack"):
            call(model_of(name), entry, wrap(inputs_of(name)))


@pytest.mark.parametrize("name", ["vision", "text"])
def test_no_rows_are_refused(name):
    for entry in (*ENTRIES, *TRAINING):
        with pytest.raises(ValueError, match="no rows"):
            call(model_of(name), entry, inputs_of(name)[:0])


@pytest.mark.parametrize("entry", ["predict", "evaluate", "fit"])
def test_a_model_keeps_its_weights_when_its_data_fail(entry):
    model = text_encoder()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    targets = np.ones((5, TEXT["output_dim"]), "float32")

    class Broken(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index:
                raise OSError("the disk is gone")
            return token_ids(5), targets

    with pytest.raises(Exception, match="the disk is gone"):
        getattr(model, entry)(Broken(), verbose=0)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.mark.parametrize("wrong", ["images", "token_ids"])
def test_a_part_of_no_rows_or_no_array_is_refused(wrong):
    model, inputs = core(), inputs_of("core")
    for entry in ENTRIES:
        with pytest.raises(ValueError, match="no rows"):
            call(model, entry, {**inputs, wrong: inputs[wrong][:0]})
        with pytest.raises(TypeError, match=f"{wrong} is a BytesIO, expected an array"):
            call(model, entry, {**inputs, wrong: io.BytesIO(b"no array")})


def iter_of(batches):
    yield from batches


@pytest.mark.parametrize("wrap", [tuple, list, lambda batch: iter_of([batch])])
@pytest.mark.slow
def test_validation_data_are_looked_at(wrap):
    model = text_encoder(num_layers=1)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    targets = np.ones((5, TEXT["output_dim"]), "float32")
    wrong = wrap((wrong_ids(600), targets))
    with pytest.raises(ValueError, match=r"from 0 to 599"):
        model.fit(token_ids(5), targets, validation_data=wrong, verbose=0)


@pytest.mark.compiled
def test_training_itself_goes_on_as_before():
    model = text_encoder()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    ids, targets = token_ids(6), np.ones((6, TEXT["output_dim"]), "float32")
    history = model.fit(
        ids,
        targets,
        batch_size=4,
        epochs=3,
        validation_data=(ids, targets),
        verbose=0,
    ).history
    assert history["loss"][2] < history["loss"][0]
    np.testing.assert_allclose(
        model.evaluate(ids, targets, verbose=0), history["val_loss"][2], rtol=1e-5
    )


def test_arguments_get_their_names():
    found = named_arguments("fit", 1, None, 4, 2, verbose=0)
    assert found == {"x": 1, "y": None, "batch_size": 4, "epochs": 2, "verbose": 0}
    found = named_arguments("evaluate", 1, _use_cached_eval_dataset=True)
    assert found == {"x": 1, "_use_cached_eval_dataset": True}
