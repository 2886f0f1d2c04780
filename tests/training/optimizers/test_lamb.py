"""LAMB against the published algorithm in float64 NumPy."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.training.optimizers.lamb import Lamb
from keras_pe.training.optimizers.schedules import WarmupCosine

pytestmark = [pytest.mark.quick, pytest.mark.compiled]
BACKEND = keras.backend.backend()
SHAPES = {  # name -> shape
    "kernel": (5, 7),
    "zeros": (4, 6),
    "stack": (2, 3, 4),
    "bias": (7,),
    "logit_scale": (),
    "position_embedding": (3, 5),
}
ADAPTED = ("kernel", "zeros", "stack", "position_embedding")


def initial(name):
    if name == "zeros":
        return np.zeros(SHAPES[name])
    rng = np.random.default_rng(sorted(SHAPES).index(name))
    return rng.normal(0, 0.5, SHAPES[name])


def gradients(steps):
    """Returns the same random gradients each time; scales differ by tensor."""
    rng = np.random.default_rng(0)
    scales = dict(zip(SHAPES, (1e-3, 1.0, 10.0, 0.1, 1e-2, 1e-5), strict=True))
    return [
        {n: scales[n] * rng.normal(0.3, 1.0, s) for n, s in SHAPES.items()}
        for _ in range(steps)
    ]


def published(  # You et al. 2020, algorithm 2, in float64
    steps,
    rate=2e-3,
    decay=0.05,
    adapted=ADAPTED,
    limit=np.inf,
    beta_1=0.9,
    beta_2=0.95,
    unadapted_rate=1.0,
):
    weights = {name: initial(name) for name in SHAPES}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for t, gradient in enumerate(gradients(steps), start=1):
        step_rate = rate(t - 1) if callable(rate) else rate
        for name, w in weights.items():
            g = gradient[name]
            m[name] = beta_1 * m[name] + (1 - beta_1) * g
            v[name] = beta_2 * v[name] + (1 - beta_2) * g * g
            m_hat = m[name] / (1 - beta_1**t)
            v_hat = v[name] / (1 - beta_2**t)
            u = m_hat / (np.sqrt(v_hat) + 1e-6)
            ratio = unadapted_rate
            if name in adapted:
                u = u + decay * w
                size, length = np.sqrt(np.sum(w * w)), np.sqrt(np.sum(u * u))
                ratio = min(size / length if size and length else 1.0, limit)
            weights[name] = w - step_rate * ratio * u
    return weights


def variables(dtype="float32"):
    return {
        name: keras.Variable(initial(name), dtype=dtype, name=name) for name in SHAPES
    }


def compiled(optimizer, names, values):
    """Returns a function of gradients that applies them, as `fit` compiles it."""
    if BACKEND == "jax":
        import jax

        optimizer.build(values)
        apply = jax.jit(optimizer.stateless_apply)

        def step(found):
            new, state = apply(
                [v.value for v in optimizer.variables], found, [v.value for v in values]
            )
            for variable, value in zip(
                [*values, *optimizer.variables], [*new, *state], strict=True
            ):
                variable.assign(value)

        return step
    if BACKEND == "tensorflow":
        import tensorflow as tf

        optimizer.build(values)
        return tf.function(lambda found: optimizer.apply(found, values))
    return lambda found: optimizer.apply(found, values)


def trained(optimizer, steps, dtype="float32", compile_=BACKEND == "jax"):
    found = variables(dtype)
    names, values = list(found), list(found.values())
    step = (
        compiled(optimizer, names, values)
        if compile_
        else lambda given: optimizer.apply(given, values)
    )
    for gradient in gradients(steps):
        step([ops.convert_to_tensor(gradient[n], dtype) for n in names])
    return {name: ops.convert_to_numpy(v) for name, v in found.items()}


def difference(found, expected):
    """Returns the largest relative error of a tensor, in norms."""
    return max(
        np.linalg.norm(np.asarray(found[n], "float64") - expected[n])
        / np.linalg.norm(expected[n])
        for n in SHAPES
    )


@pytest.mark.slow
@pytest.mark.parametrize("compile_", [False, True], ids=["eager", "compiled"])
def test_fifty_steps_equal_the_publication(compile_):
    found = trained(Lamb(), 50, compile_=compile_)
    assert difference(found, published(50)) < 1e-5
    # The test means something: the weights moved by much more than that.
    assert difference(found, {n: initial(n) + 1e-12 for n in SHAPES}) > 1e-2


def test_one_tensor_at_a_time_equals_all_at_once(monkeypatch):
    if BACKEND != "torch":
        pytest.skip("only PyTorch has a path for all tensors at once")
    together = trained(Lamb(), 10)
    plain = keras.optimizers.Optimizer._backend_update_step
    monkeypatch.setattr(Lamb, "_backend_update_step", plain)
    assert difference(trained(Lamb(), 10), together) < 1e-6


@pytest.mark.slow
@pytest.mark.once  # of Keras' own code, the same for all backends
def test_keras_lamb_is_another_algorithm():
    """Why this class exists: the decay of Keras' own is outside the trust ratio."""
    arguments = {"learning_rate": 2e-3, "beta_2": 0.95, "epsilon": 1e-6}
    theirs = trained(keras.optimizers.Lamb(**arguments, weight_decay=0.05), 50)
    same_rule = {name: published(50)[name] for name in ADAPTED}
    # Tensors that both adapt: so the exclusions are not what differs.
    apart = max(
        np.linalg.norm(theirs[n] - same_rule[n]) / np.linalg.norm(same_rule[n])
        for n in ADAPTED
    )
    assert apart > 1e-3
    without = trained(keras.optimizers.Lamb(**arguments), 50)
    expected = published(50, decay=0.0)
    assert (
        max(
            np.linalg.norm(without[n] - expected[n]) / np.linalg.norm(expected[n])
            for n in ADAPTED
        )
        < 1e-5
    )


def test_exclusion_by_path_and_its_opposite():
    rest = tuple(name for name in ADAPTED if name != "position_embedding")
    excluded = trained(Lamb(exclude=["position_emb"]), 20)
    assert difference(excluded, published(20, adapted=rest)) < 1e-5
    assert difference(excluded, published(20)) > 1e-3  # a wrong exclusion shows


def test_keras_exclusion_takes_off_the_decay_alone():
    optimizer = Lamb(weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    found = trained(optimizer, 20)
    without = published(20, decay=0.0)["kernel"]
    assert np.linalg.norm(found["kernel"] - without) < 1e-5 * np.linalg.norm(without)
    other = published(20, decay=0.5)["stack"]
    assert np.linalg.norm(found["stack"] - other) < 1e-5 * np.linalg.norm(other)


def test_trust_ratio_limit():
    found = trained(Lamb(trust_ratio_limit=0.2), 20)
    assert difference(found, published(20, limit=0.2)) < 1e-5
    assert difference(found, published(20)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("compile_", [False, True], ids=["eager", "compiled"])
def test_rate_of_tensors_that_are_not_adapted(compile_):
    found = trained(Lamb(unadapted_rate=0.25), 20, compile_=compile_)
    assert difference(found, published(20, unadapted_rate=0.25)) < 1e-5
    assert difference(found, published(20)) > 1e-3


def test_no_decay_and_no_momentum():
    found = trained(Lamb(weight_decay=None, beta_1=0.0), 10)
    assert difference(found, published(10, decay=0.0, beta_1=0.0)) < 1e-5


def test_schedule():
    schedule = WarmupCosine(2e-3, warmup_steps=5, total_steps=20)
    found = trained(Lamb(schedule), 20)

    def curve(step):
        if step < 5:
            return 2e-3 * (step + 1) / 5
        return 1e-3 * (1 + np.cos(np.pi * (step - 5) / 15))

    assert difference(found, published(20, rate=curve)) < 1e-5


@pytest.mark.slow
def test_bfloat16_variables_have_float32_norms():
    # 300² is far beyond what float16 can hold, and sums in bfloat16 stall at 256.
    size = (64, 64)
    variable = keras.Variable(np.full(size, 300.0), dtype="float16")
    optimizer = Lamb(learning_rate=0.1, weight_decay=0.0)
    optimizer.apply([ops.ones(size, dtype="float16")], [variable])
    # ‖w‖ / ‖u‖ is 300, so the step is 0.1 * 300 * 1.
    assert ops.convert_to_numpy(variable) == pytest.approx(270.0, abs=0.25)
    low = trained(Lamb(), 3, dtype="bfloat16")
    assert difference(low, published(3)) < 2e-2


def test_float64_variables_stay_float64():
    if BACKEND == "jax":
        pytest.skip("JAX has no float64 unless it is switched on for the process")
    # Keras holds the learning rate in float32.
    expected = published(20, rate=float(np.float32(2e-3)))
    assert difference(trained(Lamb(), 20, dtype="float64"), expected) < 1e-12


def test_sparse_gradient_of_an_embedding():
    """A token that occurs twice counts once, with both gradients."""

    def run(sparse):
        table = keras.Variable(np.arange(12.0).reshape(4, 3) / 10, name="embeddings")
        optimizer = Lamb(learning_rate=0.1, global_clipnorm=1.0)
        rows, ids = np.ones((3, 3), "float32"), np.array([1, 3, 1])
        dense = np.zeros((4, 3), "float32")
        np.add.at(dense, ids, rows)
        gradient = ops.convert_to_tensor(dense)
        if sparse:
            import tensorflow as tf

            gradient = tf.IndexedSlices(rows, ids, dense_shape=(4, 3))
        for _ in range(3):
            optimizer.apply([gradient], [table])
        return ops.convert_to_numpy(table)

    if BACKEND != "tensorflow":
        pytest.skip("only TensorFlow makes sparse gradients")
    np.testing.assert_allclose(run(True), run(False), rtol=1e-6)


def fit(jit, **options):
    """Returns the weights after four steps of a small model, as a vector."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(
        Lamb(0.1, **options),
        "mse",
        jit_compile=jit and BACKEND != "torch",
        run_eagerly=not jit,
    )
    x = np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3)
    model.fit(x, x[:, :2] * 3, batch_size=2, shuffle=False, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()])


@functools.cache
def plain_fit():
    return fit(True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"global_clipnorm": 0.1},
        {"clipnorm": 0.1},
        {"gradient_accumulation_steps": 2},
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
        {"loss_scale_factor": 8.0},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_options_of_keras_in_fit(arguments):
    """Each option changes the outcome, runs compiled, and gives the same eagerly."""
    compiled_, eager = fit(True, **arguments), fit(False, **arguments)
    np.testing.assert_allclose(compiled_, eager, rtol=1e-4, atol=1e-6)
    assert np.all(np.isfinite(compiled_))
    if "loss_scale_factor" in arguments:
        np.testing.assert_allclose(compiled_, plain_fit(), rtol=1e-4, atol=1e-6)
    else:
        assert np.abs(compiled_ - plain_fit()).max() > 1e-3


@pytest.mark.slow
def test_accumulated_gradients_are_one_large_batch():
    ways = {}
    for count in (None, 3):
        value = keras.Variable(initial("kernel"), dtype="float32")
        optimizer = Lamb(0.1, gradient_accumulation_steps=count)
        all_gradients = [g["kernel"] for g in gradients(6)]
        if count is None:
            all_gradients = [np.mean(all_gradients[i : i + 3], 0) for i in (0, 3)]
        for gradient in all_gradients:
            optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [value])
        ways[count] = ops.convert_to_numpy(value)
    np.testing.assert_allclose(ways[3], ways[None], rtol=1e-5, atol=1e-7)


def test_configuration_round_trip():
    schedule = WarmupCosine(1e-3, warmup_steps=2, total_steps=9, final=1e-5)
    optimizer = Lamb(
        schedule, 0.8, 0.9, 0.1, 1e-5, 2.0, ["embedding$"], global_clipnorm=1.0
    )
    config = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(config)
    assert type(again) is Lamb
    assert again.get_config() == optimizer.get_config()
    assert again.exclude == ("embedding$",)
    assert again.trust_ratio_limit == 2.0
    assert Lamb().get_config()["weight_decay"] == 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta_1": 1.0}, "beta_1=1.0"),
        ({"beta_2": -0.1}, "beta_2=-0.1"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"trust_ratio_limit": 0.0}, "trust_ratio_limit=0.0"),
        ({"unadapted_rate": 0.0}, "unadapted_rate=0.0"),
        ({"exclude": "bias"}, r"expected a list"),
        ({"exclude": ["("]}, "no regular expression"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Lamb(**arguments)


def lora_movement(optimizer):
    """Returns how far LoRA's zero matrix has gone in ten steps."""
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(16)
    model = keras.Sequential([keras.Input((8,)), layer])
    layer.enable_lora(2)
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")
    y = np.random.default_rng(1).normal(size=(40, 16)).astype("float32")
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return np.linalg.norm(ops.convert_to_numpy(layer.lora_kernel_b))


@pytest.mark.slow
def test_loras_zero_matrix_moves_as_under_adam():
    adam = lora_movement(keras.optimizers.Adam(1e-3, beta_2=0.95, epsilon=1e-6))
    assert lora_movement(Lamb(1e-3)) == pytest.approx(adam, rel=0.05)
    # Relative to its own norm, the step of a matrix that starts at zero is nothing.
    assert lora_movement(Lamb(1e-3, adapt_lora=True)) < adam / 4
