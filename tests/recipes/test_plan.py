"""`recipes.plan`, and how recipes spread over devices."""

import argparse
import dataclasses

import keras
import numpy as np
import pytest

from keras_pe.training.devices.distribution import host_position
from keras_pe.training.devices.setup import (
    add_device_arguments,
    all_devices,
    check_layout,
    refuse_pieces,
    start_devices,
)
from keras_pe.training.run.config import small_towers
from keras_pe.training.run.plan import plan_training
from keras_pe.training.run.training_config import stages_of
from recipes import plan
from recipes.configs import CONFIGS
from recipes.plan import print_plan, small_step

BACKEND = keras.backend.backend()

pytestmark = pytest.mark.quick


# === The plan ===
def test_the_paper_s_largest_run(capsys):
    print_plan("paper-g14", CONFIGS["paper-g14"], devices=256, compile_step=False)
    printed = capsys.readouterr().out
    assert printed.startswith("paper-g14\n")
    assert "2,419.27 M parameters" in printed
    assert "86.0 B samples in 656,000 steps of 131,072, on 256 devices" in printed
    assert "mixed_bfloat16, weights cut into 256 pieces" in printed
    lines = printed.splitlines()
    sizes = ["98", "154", "224", "336", "448"]
    assert [line.split()[0] for line in lines if " px  " in line] == sizes
    assert any("block_*/feed_forward/expand/kernel" in line for line in lines)
    assert "device days at 40% of the peak: 6,251 H100 SXM, 13,4" in printed


def test_every_configuration_has_a_plan():
    for name in ("smoke", "paper-t16", "paper-b16"):
        config = CONFIGS[name]
        plan = plan_training(config, 2)
        assert plan.samples == config.samples
        assert plan.batch_size == config.batch_size
        assert [s.image_size for s in plan.stages] == [
            s.image_size for s in config.stages
        ]


@pytest.mark.slow
def test_chunks_and_masks_are_planned():
    config = CONFIGS["paper-b16"]
    whole = plan_training(config, 64).stages[-1]
    chunked = dataclasses.replace(config, image_chunk_size=8192)
    assert plan_training(chunked, 64).stages[-1].memory.total < whole.memory.total
    unmasked = dataclasses.replace(config, mask_weight=0.0)
    assert plan_training(unmasked, 64).stages[-1].training_flops < whole.training_flops


def test_the_compiled_step_has_rows_for_every_device():
    config = dataclasses.replace(CONFIGS["paper-g14"], image_chunk_size=4096)
    small = small_step(config, 8)
    assert (small.batch_size, small.image_chunk_size) == (128, None)
    unmasked = dataclasses.replace(config, mask_weight=0.0)
    assert small_step(unmasked, 8).batch_size == 8


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone compiles for other devices")
@pytest.mark.slow
def test_a_step_is_compiled_for_virtual_devices(capfd):
    config = dataclasses.replace(
        CONFIGS["smoke"],
        **small_towers(64, width=64, layers=1, text_layers=1),
        stages=stages_of(320, (48,), (1,)),
        sharding="parameters",
    )
    assert plan.VIRTUAL_DEVICES == 8
    print_plan("smoke", config, devices=4)
    printed = capfd.readouterr().out
    assert "virtual devices, with a batch of 64 in place of 32" in printed
    assert "compiled for 4 cpu devices, batch 64 at 48 px" in printed
    assert "the plan's estimate for the same" in printed


@pytest.mark.skipif(BACKEND == "jax", reason="JAX can")
def test_other_backends_compile_no_step(capsys):
    config = dataclasses.replace(CONFIGS["smoke"], sharding="parameters")
    print_plan("smoke", config, devices=4)
    assert "Compiling" not in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=jax"):
        print_plan("smoke", config, devices=4, compile_step=True)


# === Devices ===
def options(*arguments):
    parser = argparse.ArgumentParser()
    add_device_arguments(parser)
    return parser.parse_args(arguments)


def test_one_device_needs_no_setting_up():
    start_devices(options())
    with all_devices("parameters", list) as count:
        assert count == 1
        assert keras.distribution.distribution() is None
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        check_layout(model)
        history = model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert host_position() == (0, 1)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(SystemExit, match="need --coordinator"):
        start_devices(options("--process-id", "0"))
    message = "needs --num-processes" if BACKEND == "jax" else "is for JAX, got"
    with pytest.raises(SystemExit, match=message):
        start_devices(options("--coordinator", "localhost:1"))


@pytest.mark.skipif(BACKEND != "torch", reason="torchrun does it for PyTorch")
def test_pytorch_has_no_virtual_devices():
    with pytest.raises(SystemExit, match="torchrun --nproc-per-node 3"):
        start_devices(options("--virtual-devices", "3"))


def test_weights_that_should_be_cut_are_not_copied_silently():
    refuse_pieces("data", 8)
    refuse_pieces("parameters", 1)
    with pytest.raises(ValueError, match=f"got the {BACKEND} backend"):
        refuse_pieces("parameters", 8)
