"""Weights cut over eight virtual devices of JAX, against training on one."""

import math
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_pe.layers.initializers import without_allocation
from keras_pe.training.devices.sharding import (
    data_parallel,
    parameter_groups,
    shard_axes,
    sharded_parameters,
)
from tests import small_models
from tests.training.programs.processes import environment, free_port, json_of

BACKEND = keras.backend.backend()
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution is JAX's")

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found():
    """What the program printed: it runs once for all tests."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.programs.jax_devices"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json_of(done.stdout)


def assert_same_weights(found, sums):
    """Compares sums of absolute values with those of training on one device."""
    for path, expected in found["weights"]["one"].items():
        # What is added to all keys changes no softmax. The gradient of their biases is
        # rounding noise, of which the optimizer makes steps of full size.
        if not path.endswith(("qkv/bias", "key_value/bias")):
            assert sums[path] == pytest.approx(expected, rel=2e-5, abs=1e-5), path


# === Layout, on every backend ===
@pytest.mark.quick
@pytest.mark.parametrize(
    ("shape", "pieces", "axes", "note"),
    [
        ((1536, 8960), 8, (None, "shard"), ""),
        ((8960, 1536), 8, ("shard", None), ""),
        ((1536, 1536), 8, (None, "shard"), ""),
        ((1536, 8960), 512, ("shard", None), "8960 does not divide by 512"),
        ((1025, 1023), 2, (None, None), "no side of (1025, 1023) divides by 2"),
        ((49408,), 8, (None,), "small"),
        ((16, 16), 8, (None, None), "small"),
        ((), 8, (), "small"),
    ],
)
def test_the_longest_side_that_divides_is_cut(shape, pieces, axes, note):
    assert shard_axes(shape, pieces) == (axes, note)


@pytest.mark.quick
def test_groups_cover_every_variable_once():
    with without_allocation():
        variables = small_models.core().variables
    groups = parameter_groups(variables, 2, minimum_size=256)
    assert sum(group.count for group in groups) == len(variables)
    for variable in variables:
        matching = [g for g in groups if re.fullmatch(g.pattern, variable.path)]
        assert len(matching) == 1
        assert matching[0].shape == tuple(variable.shape)
    assert not any(group.is_sharded for group in parameter_groups(variables, 1))


@pytest.mark.quick
@pytest.mark.skipif(BACKEND == "jax", reason="JAX has it")
def test_other_backends_are_told_what_they_have():
    for call in (data_parallel, lambda: sharded_parameters([])):
        with pytest.raises(RuntimeError, match=r"needs Keras on JAX.*torchrun"):
            call()


# === Eight devices ===
@on_jax
@pytest.mark.slow
@pytest.mark.parametrize("name", ["8 copies", "4 copies of 2 pieces"])
def test_losses_are_those_of_one_device(found, name):
    assert found["devices"] == 8
    alone, many = found["losses"]["one device"], found["losses"][name]
    assert len(alone) == 4
    assert alone[0] - alone[-1] > 1.0
    np.testing.assert_allclose(many, alone, rtol=1e-6)
    assert_same_weights(
        found, found["weights"]["pieces" if "pieces" in name else "copies"]
    )


@on_jax
@pytest.mark.slow
def test_large_weights_and_their_moments_are_cut(found):
    cut = 0
    for path, (whole, piece, count) in found["cut"].items():
        assert count == 8, path
        is_large = len(whole) == 2 and math.prod(whole) >= 256
        assert math.prod(whole) == math.prod(piece) * (2 if is_large else 1), path
        cut += is_large
    kernels = ("attention/qkv/kernel", "attention_qkv_kernel_momentum")
    assert all(any(path.endswith(k) for path in found["cut"]) for k in kernels)
    assert cut == 18 * 3  # weight and two moments
    assert all(whole == piece for whole, piece, _ in found["copied"].values())


@on_jax
@pytest.mark.slow
def test_a_layout_that_went_wrong_is_noticed(found):
    assert "18 large tensors are not cut into 2 pieces" in found["built too early"]
    assert "36 large tensors are not cut" in found["moments copied"]
    assert "3 pieces for 8 devices" in found["pieces of 3"]
    assert "JAX has already started with 8 cpu devices" in found["too late"]


@on_jax
@pytest.mark.slow
def test_a_step_is_compiled_without_weights(found):
    compiled = found["compiled"]
    assert compiled["values"] == []
    assert "12 rows of images" in compiled["rows"]
    # Weights and two moments, most of them an eighth, and eight rows of the batch.
    batch = 8 * 4 * (3 * 48 * 48 + 8)
    large = sum(math.prod(s) for s in compiled["kernels"] if math.prod(s) >= 256)
    least = 12 * large // 8 + batch
    assert least < compiled["argument_bytes"] < least + 20_000


@on_jax
@pytest.mark.slow
def test_devices_fetch_weights_and_not_activations(found):
    kernels = found["compiled"]["kernels"]
    gathered = [s for op, s in found["compiled"]["collectives"] if op == "all-gather"]
    for name in ([32, 96], [64, 32], [32, 16]):
        assert name in kernels
        assert name in gathered
    # 64 images of 37 tokens: none of them travels on its way through the blocks.
    tokens = [s for s in gathered if s[:2] == [64, 37] or s[:1] == [64 * 37]]
    assert not tokens
    assert not any(op == "all-to-all" for op, _ in found["compiled"]["collectives"])


@on_jax
@pytest.mark.slow
def test_an_alignment_in_pieces_is_that_on_one_device(found):
    alone = found["losses"]["an alignment"]
    many = found["losses"]["an alignment in pieces"]
    assert len(alone) == 4
    assert abs(alone[0] - alone[-1]) > 1e-3
    np.testing.assert_allclose(many, alone, rtol=1e-6)
    cut = 0
    for path, (whole, piece, count) in found["teacher"].items():  # the frozen one too
        is_large = len(whole) == 2 and math.prod(whole) >= 256
        assert count == 8, path
        assert math.prod(whole) == math.prod(piece) * (2 if is_large else 1), path
        cut += is_large
    assert cut == 12


# === Two processes ===
@on_jax
@pytest.mark.slow
def test_two_processes_train_like_one(found):
    address = f"127.0.0.1:{free_port()}"
    program = [sys.executable, "-m", "tests.training.programs.jax_two_processes"]
    started = [
        subprocess.Popen(
            [*program, address, str(process)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors
    alone = found["losses"]["one device"]
    for output, _ in outputs:
        two = json_of(output)
        assert two["processes"] == 2
        np.testing.assert_allclose(two["losses"], alone, rtol=1e-6)
        assert two["piece"] == [32, 48]
        assert_same_weights(found, two["whole"])
        student, teacher = two["aligned"]
        assert student == teacher > 1.0
