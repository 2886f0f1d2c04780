"""Gradients that are not finite are named and change nothing."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_pe.training
from keras_pe.training.optimizers.gradient_watch import (
    GradientWatch,
    WatchedAdamW,
    dense,
    watched,
)
from keras_pe.training.optimizers.lamb import Lamb, WatchedLamb

pytestmark = [pytest.mark.quick, pytest.mark.compiled]
CLASSES = pytest.mark.parametrize("make", [WatchedLamb, WatchedAdamW])
BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)


class PlainLamb(Lamb):
    """LAMB that takes every gradient, as Keras' own optimizers do."""

    _clip_gradients = keras.optimizers.Optimizer._clip_gradients

    def apply(self, grads, trainable_variables=None):
        found = [dense(gradient) for gradient in grads]
        keras.optimizers.Optimizer.apply(self, found, trainable_variables)


def number(variable):
    return float(ops.convert_to_numpy(variable))


def weights():
    rng = np.random.default_rng(0)
    return [
        keras.Variable(rng.normal(size=shape).astype("float32"), name=name)
        for name, shape in (("kernel", (3, 2)), ("bias", (2,)), ("scale", ()))
    ]


def gradients(seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in ((3, 2), (2,), ())]


def tensors(arrays):
    return [ops.convert_to_tensor(array) for array in arrays]


def snapshot(optimizer, variables):
    """Returns all that a skipped step must leave alone."""
    watch = (optimizer.gradient_norm, optimizer.first_non_finite)
    kept = [v for v in optimizer.variables if not any(v is w for w in watch)]
    return [np.copy(ops.convert_to_numpy(v)) for v in [*variables, *kept]]


def assert_same(before, after):
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@CLASSES
def test_records_the_norm_before_clipping(make):
    variables, found = weights(), gradients()
    optimizer = make(1e-2, global_clipnorm=0.1)
    optimizer.apply(tensors(found), variables)
    exact = np.sqrt(sum(np.sum(np.square(g, dtype="float64")) for g in found))
    assert number(optimizer.gradient_norm) == pytest.approx(exact, rel=1e-6)
    assert number(optimizer.first_non_finite) == -1


@pytest.mark.slow
@CLASSES
@pytest.mark.parametrize(
    "arguments",
    [{}, {"global_clipnorm": 0.5}, {"clipnorm": 0.5}, {"weight_decay": 0.2}],
    ids=lambda arguments: next(iter(arguments), "plain"),
)
def test_finite_gradients_give_what_the_plain_optimizer_gives(make, arguments):
    plain = PlainLamb if make is WatchedLamb else keras.optimizers.AdamW
    results = []
    for cls in (make, plain):
        variables, optimizer = weights(), cls(1e-2, **arguments)
        for seed in range(4):
            optimizer.apply(tensors(gradients(seed)), variables)
        results.append([ops.convert_to_numpy(v) for v in variables])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-7)


@CLASSES
@BAD
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nothing_changes_and_the_tensor_is_named(make, bad, place):
    variables = weights()
    optimizer = make(1e-2, weight_decay=0.1, use_ema=True, global_clipnorm=1.0)
    optimizer.apply(tensors(gradients()), variables)
    before = snapshot(optimizer, variables)
    broken = gradients(2)
    for later in range(place, 3):
        broken[later] = np.where(
            np.arange(broken[later].size).reshape(broken[later].shape) == 0,
            np.float32(bad),
            broken[later],
        )
    optimizer.apply(tensors(broken), variables)
    assert_same(before, snapshot(optimizer, variables))
    index = int(number(optimizer.first_non_finite))
    assert optimizer.watched_paths[index] == variables[place].path
    assert not np.isfinite(number(optimizer.gradient_norm))
    # The next sound step goes through, from the last good weights.
    optimizer.apply(tensors(gradients(3)), variables)
    assert number(optimizer.first_non_finite) == -1
    assert not np.array_equal(before[0], ops.convert_to_numpy(variables[0]))
    assert np.all(np.isfinite(ops.convert_to_numpy(variables[0])))


def test_a_variable_that_is_not_known_is_refused():
    variables, optimizer = weights(), WatchedLamb(1e-2)
    optimizer.apply(tensors(gradients()), variables)
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply(tensors(gradients()), weights())


def test_a_skipped_batch_is_as_if_it_had_never_been():
    ends = []
    for broken in (False, True):
        variables, optimizer = weights(), WatchedLamb(1e-2)
        for step in range(4):
            if broken and step == 2:
                nothing = [np.full_like(g, np.nan) for g in gradients()]
                optimizer.apply(tensors(nothing), variables)
            optimizer.apply(tensors(gradients(step)), variables)
        ends.append([ops.convert_to_numpy(v) for v in variables])
    assert_same(*ends)


@pytest.mark.slow
def test_a_broken_batch_drops_out_of_an_accumulation():
    ends = []
    for broken in (False, True):
        variables = weights()
        optimizer = WatchedLamb(1e-2, gradient_accumulation_steps=2)
        for step in range(4):
            if broken and step in (1, 3):  # the batch that would make the update
                nothing = [np.full_like(g, np.nan) for g in gradients()]
                optimizer.apply(tensors(nothing), variables)
            optimizer.apply(tensors(gradients(step)), variables)
        ends.append([ops.convert_to_numpy(v) for v in variables])
    assert_same(*ends)


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
def test_missing_gradients_keep_the_numbering():
    variables = weights()
    optimizer = WatchedLamb(1e-2)
    optimizer.build(variables)
    broken = [
        None,
        ops.convert_to_tensor(gradients()[1]),
        ops.convert_to_tensor(np.nan),
    ]
    optimizer.apply(broken, variables)
    assert number(optimizer.first_non_finite) == 2


@pytest.mark.slow
def test_low_precision_gradients_are_summed_in_float32():
    variable = keras.Variable(np.zeros((300, 300)), dtype="float16")
    optimizer = WatchedLamb(1e-3)
    gradient = ops.full((300, 300), 300.0, dtype="float16")  # 300² overflows float16
    optimizer.apply([gradient], [variable])
    assert number(optimizer.gradient_norm) == pytest.approx(90_000, rel=1e-3)
    assert number(optimizer.first_non_finite) == -1


def test_loss_scale_is_taken_off_the_norm():
    optimizer = WatchedLamb(1e-3, loss_scale_factor=8.0)
    optimizer.apply(tensors([np.array([24.0, 32.0])]), [keras.Variable([1.0, 1.0])])
    assert number(optimizer.gradient_norm) == pytest.approx(5.0)


class Breaks(keras.layers.Layer):
    """Gives its second weight a gradient of NaN where the input is above a limit."""

    def build(self, shape):
        self.first = self.add_weight(shape=(3, 2), initializer="ones", name="first")
        self.second = self.add_weight(shape=(2,), initializer="ones", name="second")

    def call(self, x):
        too_large = ops.any(x > 100.0)
        return ops.matmul(x, self.first) + self.second * ops.where(
            too_large, np.nan, 1.0
        )


@pytest.mark.slow
@CLASSES
def test_in_fit_as_each_backend_compiles_it(make):
    model = keras.Sequential([keras.Input((3,)), Breaks(name="breaks")])
    model.compile(make(0.05, global_clipnorm=1.0), lambda y, p: ops.sum(p, axis=-1))
    good = np.ones((4, 3), "float32")
    model.fit(good, good[:, :2], verbose=0)
    optimizer = model.optimizer
    assert number(optimizer.first_non_finite) == -1
    norm = number(optimizer.gradient_norm)
    # The loss is a mean of sums: gradients are 1 throughout.
    assert norm == pytest.approx(np.sqrt(8.0), rel=1e-5)
    variables = model.trainable_variables
    before = snapshot(optimizer, variables)
    model.train_on_batch(good * 200.0, good[:, :2])
    assert_same(before, snapshot(optimizer, variables))
    index = int(number(optimizer.first_non_finite))
    # The loss is NaN, but the gradient of `first`, which comes before, is not.
    assert optimizer.watched_paths[index].endswith("second")
    model.fit(good, good[:, :2], verbose=0)
    assert number(optimizer.first_non_finite) == -1
    assert not np.array_equal(before[0], ops.convert_to_numpy(variables[0]))


def test_sparse_gradient_of_an_embedding_in_fit():
    """TensorFlow hands over rows, of which one may occur twice."""
    model = keras.Sequential([keras.Input((3,), dtype="int32")])
    model.add(keras.layers.Embedding(5, 2, embeddings_initializer="ones"))
    model.compile(WatchedLamb(0.1), lambda y, p: ops.sum(p, axis=(1, 2)))
    tokens = np.array([[1, 1, 2]], "int32")
    model.train_on_batch(tokens, tokens)
    # Gradient: 2 in both columns of row 1, 1 in those of row 2.
    norm = number(model.optimizer.gradient_norm)
    assert norm == pytest.approx(np.sqrt(2 * 4 + 2 * 1), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Lamb", "WatchedLamb", "WatchedAdamW"])
def test_a_broken_batch_changes_nothing_in_a_bare_fit(name):
    """As a user of the exported names does it, without any callback of ours."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(getattr(keras_pe.training, name)(0.05), "mse")
    good = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    model.fit(good, good[:, :2], batch_size=4, verbose=0)
    before = snapshot(model.optimizer, model.trainable_variables)
    broken = np.where(np.arange(24).reshape(8, 3) % 5 == 0, np.nan, good)
    model.fit(broken, good[:, :2], batch_size=4, verbose=0)
    assert_same(before, snapshot(model.optimizer, model.trainable_variables))
    model.fit(good, good[:, :2], batch_size=4, verbose=0)
    assert not np.array_equal(before[0], ops.convert_to_numpy(model.variables[0]))


def test_the_name_of_models_saved_before_is_known():
    config = {
        "module": "keras_pe.training.optimizers.gradient_watch",
        "class_name": "WatchedLamb",
        "config": {"learning_rate": 0.5, "name": "lamb"},
        "registered_name": "keras_pe>WatchedLamb",
    }
    found = keras.saving.deserialize_keras_object(config)
    assert type(found) is Lamb
    assert number(found.learning_rate) == 0.5


def test_factory_keeps_the_fast_optimizer_of_keras():
    plain = keras.optimizers.AdamW(1e-3)
    assert isinstance(WatchedAdamW(1e-3), type(plain))
    assert watched(keras.optimizers.AdamW) is WatchedAdamW
    assert watched(Lamb) is Lamb is WatchedLamb
    assert issubclass(Lamb, GradientWatch)


@CLASSES
def test_configuration_round_trip(make):
    optimizer = make(1e-3, weight_decay=0.07, global_clipnorm=2.0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is make
    assert again.get_config() == optimizer.get_config()


def test_mixin_in_front_of_any_optimizer():
    class WatchedSGD(GradientWatch, keras.optimizers.SGD):
        pass

    variables, optimizer = weights(), WatchedSGD(0.1, momentum=0.9)
    optimizer.apply(tensors(gradients()), variables)
    before = snapshot(optimizer, variables)
    optimizer.apply(tensors([g * np.inf for g in gradients()]), variables)
    assert_same(before, snapshot(optimizer, variables))
