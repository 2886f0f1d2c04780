"""Training on two devices against training on one.

Programs in `programs` do the training, because devices and processes are set up before
anything else: PyTorch in two processes of torchrun, TensorFlow on two logical devices.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_pe.training.devices.distribution import (
    cross_replica_gather,
    host_position,
    local_rows,
    num_replicas,
    replica_loss_scale,
    static_batches,
)

BACKEND = keras.backend.backend()
on_torch = pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's processes")
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="MirroredStrategy")
on_both = pytest.mark.skipif(BACKEND == "jax", reason="JAX gathers by itself")


def run(*command: str) -> None:
    environment = {
        **os.environ,
        "KERAS_BACKEND": BACKEND,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the program of this backend wrote: it runs once for all tests."""
    directory = tmp_path_factory.mktemp("two_devices")
    output = str(directory / "results.npz")
    programs = "tests.training.programs"
    if BACKEND == "torch":
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        program = ["-m", f"{programs}.torch_two_processes", output, str(directory)]
        run(*launcher, "--nproc-per-node", "2", *program)
    else:
        run("-m", f"{programs}.tensorflow_two_replicas", output)
    found = dict(np.load(output))
    found["directory"] = directory
    return found


# === One device ===
@pytest.mark.quick
def test_one_device_gathers_nothing():
    assert cross_replica_gather() is None
    assert replica_loss_scale() == 1.0
    assert num_replicas() == 1
    assert host_position() == (0, 1)


@pytest.mark.quick
def test_local_rows_are_the_batch_in_order():
    batch = {"images": np.arange(12).reshape(6, 2), "masks": np.arange(3)}
    parts = [local_rows(batch, host, 3) for host in range(3)]
    for name, whole in batch.items():
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), whole)


@pytest.mark.quick
def test_local_rows_must_divide():
    with pytest.raises(ValueError, match="6 rows does not divide over 4 processes"):
        local_rows({"x": np.arange(6)}, 0, 4)


# === Two devices ===
@on_both
@pytest.mark.slow
def test_two_devices_train_like_one(results):
    single, double = results["single/losses"], results["distributed/losses"]
    assert len(single) == len(double) == 6
    assert double[0] == pytest.approx(single[0], rel=1e-6)
    np.testing.assert_allclose(double, single, rtol=1e-5)
    np.testing.assert_allclose(
        results["distributed/weights"], results["single/weights"], rtol=0, atol=2e-6
    )


@on_both
@pytest.mark.slow
def test_the_logs_hold_the_loss_of_the_whole_batch(results):
    for name in ("single", "distributed"):
        expected = np.mean(results[f"{name}/losses"])
        assert results[f"{name}/logged"] == pytest.approx(expected, rel=1e-6)


@on_both
@pytest.mark.slow
def test_a_gather_without_gradient_is_seen(results):
    single, wrong = results["single/losses"], results["no_gradient/losses"]
    assert wrong[0] == pytest.approx(single[0], rel=1e-6)
    assert np.abs(wrong[1:] / single[1:] - 1).max() > 1e-4
    difference = results["no_gradient/weights"] - results["single/weights"]
    assert np.abs(difference).max() > 1e-3


@on_both
@pytest.mark.slow
def test_rows_come_in_the_order_of_the_replicas(results):
    rows = np.repeat([0.0, 0.0, 1.0, 1.0], 3).reshape(4, 3)
    ids, flags = [0, 1, 10, 11], [True, True, False, True]
    for name, expected in (("rows", rows), ("ids", ids), ("bool", flags)):
        found = results[f"gather/{name}"]
        assert found.dtype == np.asarray(expected, found.dtype).dtype
        for local in found if BACKEND == "tensorflow" else [found]:
            np.testing.assert_array_equal(local, expected)


@on_both
@pytest.mark.slow
def test_gradients_of_all_copies_come_home(results):
    # Replica p weighs row r by (p + 1) * 10 ** r: row r gets 3 * 10 ** r in all.
    expected = 3 * 10.0 ** np.arange(4).reshape(2, 2, 1) * np.ones((1, 1, 3))
    np.testing.assert_allclose(results["gather/gradients"], expected)


@on_both
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["plain", "chunked"])
def test_the_trainer_logs_and_clamps_on_two_devices_as_on_one(results, loss):
    one, two = results[f"one/{loss}/logs"], results[f"two/{loss}/logs"]
    assert one.shape == (2, 2)
    np.testing.assert_allclose(two, one, rtol=1e-5)
    np.testing.assert_allclose(two[:, 1], 100.0, rtol=1e-4)  # from 120
    assert abs(one[1, 0] - one[0, 0]) > 1e-3  # the last step's, no mean of both
    for count in ("one", "two"):  # also of averaged weights
        assert results[f"{count}/{loss}/scale"] <= np.log(100.0) + 1e-6
    assert_same_weights(results, f"two/{loss}", f"one/{loss}")


def assert_same_weights(results, one, other):
    ours, theirs = results[f"{one}/weights"], results[f"{other}/weights"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@on_both
@pytest.mark.slow
@pytest.mark.parametrize("count", ["one", "two"])
def test_chunks_of_the_loss_change_nothing(results, count):
    plain, chunked = (results[f"{count}/{n}/logs"] for n in ("plain", "chunked"))
    np.testing.assert_allclose(chunked, plain, rtol=1e-5)
    assert_same_weights(results, f"{count}/chunked", f"{count}/plain")


@on_both
@pytest.mark.slow
@pytest.mark.parametrize("losses", ["plain", "chunked"])
def test_an_alignment_on_two_devices_is_that_on_one(results, losses):
    one, two = results["one/aligned/logs"], results[f"two/aligned_{losses}/logs"]
    assert one.shape == (3, 2)
    assert (abs(one[0] - one[-1]) > 1e-3).all()  # neither loss stands still
    np.testing.assert_allclose(two, one, rtol=1e-6)
    ours, theirs = (
        results[f"{n}/weights"] for n in (f"two/aligned_{losses}", "one/aligned")
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


# === PyTorch ===
@on_torch
@pytest.mark.slow
def test_all_processes_keep_the_weights_of_the_first(results):
    first, second = results["distributed/all_weights"]
    np.testing.assert_array_equal(first, second)


@on_torch
@pytest.mark.slow
def test_gradients_are_clipped_after_the_mean(results):
    clipped, plain = results["single_clipped/weights"], results["single/weights"]
    assert np.abs(clipped - plain).max() > 1e-3
    np.testing.assert_allclose(
        results["distributed_clipped/weights"], clipped, rtol=0, atol=2e-6
    )


@on_torch
@pytest.mark.slow
def test_random_draws_differ_by_process_and_repeat(results):
    first, second = np.split(results["random/first"], 2)
    assert np.abs(first - second).min() > 1e-3
    np.testing.assert_array_equal(results["random/again"], results["random/first"])


@on_torch
@pytest.mark.slow
def test_one_process_stops_evaluates_and_writes_for_all(results):
    np.testing.assert_array_equal(results["stopped_after"], [2, 2])
    assert np.isfinite(results["evaluated"]).all()
    lines = (results["directory"] / "log.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,loss,step_loss")
    assert len(lines) == 2


@on_torch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("uneven_rows", r"disagree on the rows of the arrays .*\(8, 8, 8\), \(4, 4, 4"),
        ("other_rows", r"\(2, 2, 2\) rows after \(4, 4, 4\)"),
        ("runs_out", "ran out of data .* it gave 6"),
        ("no_length", "give steps_per_epoch"),
        ("unused", "does not depend on 2 trainable weights.*dense/kernel"),
        ("ids", r"token_ids has the id \d+ at .*knows 0 to 599"),
        ("tuple", r"A batch is a dictionary of arrays, got an array \(4, 32"),
    ],
)
def test_what_cannot_be_trained_is_refused(results, case, message):
    assert re.search(message, str(results[f"error/{case}"]))


@on_torch
@pytest.mark.quick
def test_without_torchrun_the_error_says_how_to_start():
    from keras_pe.training.devices.torch_loop import fit_distributed, process_group

    with pytest.raises(RuntimeError, match="torchrun --nproc-per-node"):
        process_group().__enter__()
    model = keras.Sequential([keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="is not compiled"):
        fit_distributed(model, [])


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch has it")
@pytest.mark.quick
def test_other_backends_are_sent_elsewhere():
    from keras_pe.training.devices.torch_loop import process_group

    with pytest.raises(RuntimeError, match="MirroredStrategy"):
        process_group().__enter__()


# === TensorFlow ===
@on_tensorflow
@pytest.mark.slow
def test_gradients_are_summed_so_the_loss_is_divided(results):
    single, wrong = results["single/losses"], results["no_division/losses"]
    assert wrong[0] == pytest.approx(single[0], rel=1e-6)
    assert np.abs(wrong[1:] / single[1:] - 1).max() > 1e-4
    # The logs take the division out again: without it they are twice too large.
    doubled = results["no_division/logged"] / np.mean(wrong)
    assert doubled == pytest.approx(2.0, rel=1e-6)


@on_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["plain", "chunked"])
def test_an_evaluation_on_two_replicas_is_the_mean_over_all_batches(results, loss):
    one, two = (results[f"{count}/{loss}/evaluated"] for count in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-4)


@on_tensorflow
@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_seen_on_every_replica(results):
    single, mirrored = json.loads(str(results["watched"]))
    assert mirrored["norms"] == pytest.approx(single["norms"], rel=1e-5)
    assert mirrored["first"] == single["first"] == [-1, -1, 0]
    np.testing.assert_allclose(mirrored["weights"], single["weights"], rtol=1e-5)
    assert mirrored["unchanged"]
    assert single["unchanged"]


@on_tensorflow
@pytest.mark.slow
def test_outside_the_step_nothing_is_replicated(results):
    assert results["outside"]


@on_tensorflow
@pytest.mark.slow
def test_training_leaves_the_arrays_it_was_given(results):
    kept = {name: bool(x) for name, x in results.items() if name.startswith("kept/")}
    assert len(kept) == 6
    assert all(kept.values()), kept


@on_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    "source", ["arrays", "tf_data", "py_dataset", "grain", "static_batches"]
)
def test_fit_splits_a_batch_in_order(results, source):
    expected = [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]
    np.testing.assert_array_equal(results[f"rows/{source}"], expected)


@on_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("uneven_rows", "The batch does not divide over 2 replicas"),
        ("odd_batch", "7 rows does not divide over 2 replicas"),
        ("once", "got a list_iterator, which can be read once"),
        ("empty", "batches is empty"),
    ],
)
def test_batches_that_do_not_fit_are_refused(results, case, message):
    assert message in str(results[f"error/{case}"])


@on_tensorflow
@pytest.mark.quick
def test_static_batches_have_static_shapes_and_a_length():

    batches = [{"x": np.full((4, 3), k, "float32")} for k in range(5)]
    dataset = static_batches(batches)
    assert dataset.element_spec["x"].shape == (4, 3)
    assert int(dataset.cardinality()) == 5
    assert [float(batch["x"][0, 0]) for batch in dataset] == [0, 1, 2, 3, 4]
