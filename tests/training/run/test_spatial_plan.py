"""What an alignment needs: against PyTorch's own count, a hand's, published sizes."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_pe.presets.hub import find_preset
from keras_pe.training.devices.flops import vision_flops
from keras_pe.training.run.initial_weights import vision_of
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.spatial_config import (
    SpatialConfig,
    build_spatial_trainer,
    unallocated_trainer,
)
from keras_pe.training.run.spatial_plan import plan_alignment
from keras_pe.training.run.training_config import stages_of
from recipes.align_spatial import CONFIGS
from tests.small_models import VISION, images, vision_encoder
from tests.training.gradients import loss_and_gradients

BACKEND = keras.backend.backend()
BATCH, SIDE = 4, 32
PATCHES = (SIDE // VISION["patch_size"]) ** 2

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets")
    vision_encoder(num_layers=2).save_to_preset(folder / "core")
    wide = vision_encoder(hidden_dim=48, patch_size=4, image_size=16)
    wide.save_to_preset(folder / "wide")
    return folder


def config_of(presets, **changes):
    options = {
        "encoder": str(presets / "core"),
        "teacher_layer": 1,
        "mask_teacher": "masks",
        "most_shapes": 2,
        "drop_path": 0.0,
        **changes,
    }
    if "teacher" in changes:
        options["teacher"] = str(presets / changes["teacher"])
    return SpatialConfig(stages=stages_of(64, (SIDE,), (1,)), batch_size=4, **options)


# === Operations ===
@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch can count what it runs")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mask_teacher": "none", "remat": True},
        {"loss_chunk_size": 8},
        {"image_chunk_size": 2},
        {"teacher": "wide", "mask_teacher": "teacher"},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_operations_are_those_that_pytorch_counts(presets, changes):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    config = config_of(presets, **changes)
    trainer = build_spatial_trainer(config)
    data = {
        "images": images(BATCH),
        "masked_patches": np.zeros((BATCH, PATCHES), bool),
    }
    if config.mask_teacher == "masks":
        data["mask_rows"] = np.ones((BATCH, PATCHES, 3), "float32")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss_and_gradients(trainer, data)
    planned = plan_alignment(config).stages[0].executed_flops
    # The plan counts a gradient of the images, which nobody asks for.
    patches = 2 * PATCHES * VISION["hidden_dim"] * 3 * VISION["patch_size"] ** 2
    assert counter.get_total_flops() == BATCH * (planned - patches)


def test_operations_of_a_run_by_hand(presets):
    plan = plan_alignment(config_of(presets))
    student = {**VISION, "num_layers": 2, "pooling": None, "output_dim": None}
    tokens = vision_flops(student).forward
    taught = vision_flops({**student, "num_layers": 1}).forward
    losses = 2 * PATCHES**2 * (3 * 32 + 3)
    (stage,) = plan.stages
    assert (stage.student_flops, stage.teacher_flops) == (tokens, taught)
    assert stage.loss_flops == losses
    assert stage.training_flops == 3 * tokens + taught + losses
    assert (plan.samples, plan.steps, stage.tokens) == (64, 16, PATCHES + 1)
    assert plan.training_flops == 64 * stage.training_flops


def test_masks_of_sam_are_counted(presets):
    plan = plan_alignment(config_of(presets, mask_teacher="sam:sam_huge_sa1b"))
    # 2.98 T multiply-adds of the encoder, 1.81 G of each of 1,024 points.
    assert plan.stages[0].sam_flops / 2e12 == pytest.approx(2.98 + 1.855, rel=1e-2)
    assert plan.sam_share > 0.999
    assert "641.1 M parameters, float32, 64 points at a time): 6." in str(plan)
    few = config_of(presets, mask_teacher="sam:sam_huge_sa1b", sam_points=1)
    assert plan_alignment(few).stages[0].sam_flops / 2e12 == pytest.approx(2.98, 1e-2)
    with pytest.raises(SettingError, match="knows the sizes of sam_base_sa1b"):
        plan_alignment(config_of(presets, mask_teacher="sam:my_sam"))


# === Memory ===
def test_what_makes_memory_smaller(presets):
    whole = plan_alignment(config_of(presets)).stages[0].memory

    def smaller(part, num_devices=1, **changes):
        plan = plan_alignment(config_of(presets, **changes), num_devices)
        memory = plan.stages[0].memory
        assert getattr(memory, part) < getattr(whole, part), changes
        return memory

    smaller("activations", remat=True)
    smaller("activations", image_chunk_size=1)
    smaller("activations", precision="mixed_bfloat16")
    smaller("loss", loss_chunk_size=4)
    smaller("batch", mask_teacher="none")
    half = smaller("activations", num_devices=2)
    assert half.parameters == whole.parameters
    assert half.batch == whole.batch // 2
    # A frozen teacher has no gradients and no moments.
    trainer = unallocated_trainer(config_of(presets))
    trained = sum(np.prod(w.shape) for w in trainer.trainable_weights)
    assert whole.gradients == 4 * trained
    assert whole.optimizer == 8 * trained
    both = trainer.model.count_params() + trainer.teacher.count_params()
    assert whole.parameters == 4 * (both + VISION["hidden_dim"])


# === The paper's runs ===
@pytest.mark.slow
@pytest.mark.parametrize("name", ["g14", "l14", "b16", "s16", "t16"])
def test_published_sizes(name):
    config = CONFIGS[f"paper-{name}"]
    size = {"t": "tiny", "s": "small", "b": "base", "l": "large", "g": "gigantic"}
    side = config.stages[0].image_size
    preset = find_preset(f"pe_spatial_{size[name[0]]}_patch{name[1:]}_{side}")
    plan = plan_alignment(config, 256)
    # The published ones have positions for the images that they are trained on.
    native, sizes = vision_of(config.encoder), preset.vision_config()
    positions = [(x["image_size"] // x["patch_size"]) ** 2 for x in (native, sizes)]
    more = (positions[0] - positions[1]) * sizes["hidden_dim"]
    assert plan.student_parameters == preset.parameters + more
    assert plan.teacher_parameters == (
        1_882_032_640 if name == "g14" else find_preset("PE-Spatial-G14-448").parameters
    )
    assert plan.steps == 24_000
    text = str(plan)
    assert "24,000 steps of 12,288, on 256 devices (48 rows each)" in text
    assert "weights cut into 256 pieces" in text
    if name != "g14":  # an encoder of the student's class may teach
        assert "teacher/pe_vision_encoder/block_*/attention/qkv/kernel" in text


def test_weights_are_named_as_those_of_the_run(presets):
    """The layout of pieces goes by names and shapes."""
    for changes in ({}, {"teacher": "wide"}):
        config = config_of(presets, **changes)
        described = [
            [
                (w.path, tuple(w.shape), w.dtype)
                for w in trainer.variables
                if "seed_generator" not in w.path
            ]
            for trainer in (unallocated_trainer(config), build_spatial_trainer(config))
        ]
        assert described[0] == described[1]


@pytest.mark.parametrize(
    ("changes", "devices", "message"),
    [({}, 3, "a batch of 4 and 3 devices"), ({"teacher_layer": 7}, 1, "layer")],
)
def test_what_makes_no_sense_is_refused(presets, changes, devices, message):
    with pytest.raises(ValueError, match=message):
        plan_alignment(dataclasses.replace(config_of(presets), **changes), devices)
