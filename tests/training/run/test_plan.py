"""What a run needs: against published sizes, PyTorch's own count and a hand's."""

import dataclasses
import re
import resource

import keras
import numpy as np
import pytest

from keras_pe import PECore
from keras_pe.layers.initializers import without_allocation
from keras_pe.presets.variants import text_config, vision_config
from keras_pe.training.devices.flops import loss_flops, text_flops, vision_flops
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.plan import plan_training
from tests import small_models

BACKEND = keras.backend.backend()

pytestmark = pytest.mark.quick


def config_of(vision, text, stages, **changes):
    """A configuration without masks."""
    return RunConfig(
        **{
            "vision": vision,
            "text": text,
            "stages": tuple(ResolutionStage(*stage) for stage in stages),
            "mask_weight": 0.0,
            "warmup_steps": 1,
            **changes,
        }
    )


def published(name, stages, **changes):
    return config_of(vision_config(name), text_config(name), stages, **changes)


def small_plan(num_devices=1, pieces=None, fused_attention=True, **changes):
    arguments = {
        "vision": small_models.VISION,
        "text": small_models.TEXT,
        "stages": [(16, 320), (32, 160)],
        "batch_size": 16,
        **changes,
    }
    return plan_training(
        config_of(**arguments),
        num_devices,
        pieces=pieces,
        fused_attention=fused_attention,
    )


# === The paper's models: tables 4, 17 and 18 ===
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "size", "sharding", "millions", "vision", "gmacs"),
    [
        # Multiply-adds of the image towers as timm publishes them.
        ("PE-Core-B16-224", 443_000, 224, "data", 447.66, 0.09, 17.8),
        ("PE-Core-L14-336", 443_000, 336, "data", 671.14, 0.32, 192.2),
        ("PE-Core-G14-448", 656_000, 448, "parameters", 2419.27, 1.88, 2059.3),
    ],
)
def test_published_sizes(name, steps, size, sharding, millions, vision, gmacs):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config = published(
        name,
        [(size, steps * 131_072)],
        precision="mixed_bfloat16",
        sharding=sharding,
        remat=True,
    )
    plan = plan_training(config, 256)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000  # kilobytes; the weights of G are 9.7 million
    assert round(plan.parameters / 1e6, 2) == millions
    assert plan.parameters == plan.vision_parameters + plan.text_parameters + 1
    assert round(plan.vision_parameters / 1e9, 2) == vision
    assert plan.steps == steps
    assert round(plan.samples / 1e9, 1) == {443_000: 58.1, 656_000: 86.0}[steps]
    assert plan.stages[0].image_forward_flops / 2e9 == pytest.approx(gmacs, rel=2e-3)
    memory = plan.stages[0].memory
    pieces = 256 if sharding == "parameters" else 1
    # All but norms and biases are cut.
    assert memory.parameters == pytest.approx(4 * plan.parameters / pieces, rel=0.2)
    assert memory.optimizer == 2 * memory.parameters == 2 * memory.gradients
    text = str(plan)
    assert f"{millions:,.2f} M parameters" in text
    assert f"{steps:,} steps of 131,072, on 256 devices (512 rows each)" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stages", "zflop"),
    [
        # Figure 2, steps 1 and 5: L/14 without the pooling block. Which text tower
        # the ablation had is not published; this one is that of the final model.
        ([(224, 12e9)], 1.0),
        ([(98, 10e9), (154, 8e9), (224, 4e9), (336, 2e9)], 1.2),
    ],
)
def test_budgets_of_the_papers_ablation(stages, zflop):
    config = config_of(
        {**vision_config("PE-Core-L14-336"), "pooling": "token"},
        text_config("PE-Core-L14-336"),
        [(size, int(samples)) for size, samples in stages],
        batch_size=32_768,
    )
    plan = plan_training(config)
    found = plan.forward_multiply_adds / 1e21
    assert found == pytest.approx(zflop, rel=0.16)
    assert plan.training_flops == pytest.approx(6 * found * 1e21, rel=1e-3)
    assert f"{found:,.4g} ZFLOP as the paper counts" in str(plan)
    assert f"{plan.training_flops / 1e21:,.4g} ZFLOP of training" in str(plan)


# === Operations ===
def test_operations_of_a_small_image_tower_by_hand():
    # 16 patches of 8 x 8 x 3 numbers and a class token, 32 channels, 3 blocks.
    block = 17 * 32 * 96  # queries, keys and values
    block += 2 * 17 * 17 * 32  # logits and weighted sum, over all heads
    block += 17 * 32 * 32  # output
    block += 2 * 17 * 32 * 64  # feed-forward
    rest = 16 * 192 * 32  # patches
    rest += 2 * 17 * 32 * 32  # keys and values of the pooling
    rest += 2 * 32 * 32 + 2 * 17 * 32  # its query, output, logits and sum
    rest += 2 * 32 * 128  # its feed-forward
    rest += 32 * 16  # projection
    flops = vision_flops(small_models.VISION)
    assert flops.tokens == 17
    assert flops.blocks == 2 * 3 * block
    assert flops.rest == 2 * rest
    assert flops.training() == 3 * flops.forward
    assert flops.training(remat=True) == 3 * flops.forward + flops.blocks
    assert flops.training(chunked=True) == 4 * flops.forward


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch can count what it runs")
@pytest.mark.parametrize(
    "changes",
    [{}, {"pooling": "token"}, {"pooling": "average", "class_token": False}],
)
def test_operations_are_those_that_pytorch_counts(changes):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    vision, text = small_models.vision_encoder(**changes), small_models.text_encoder()
    model = PECore(vision, text)
    config = {**small_models.VISION, **changes}
    counted = {}
    for name, call in {
        "image": lambda: model.encode_image(
            small_models.images(1, 48, 48), gradient=True
        ),
        "text": lambda: model.encode_text(small_models.token_ids(1), gradient=True),
    }.items():
        # The fused kernel of CPUs isn't counted.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
        counted[name] = counter.get_total_flops()
    assert counted["image"] == vision_flops(config, 48).forward
    assert counted["text"] == text_flops(small_models.TEXT).forward


def test_operations_of_a_run():
    plan = small_plan(mask_weight=1.0, mask_every=4, remat=True, loss_chunk_size=4)
    vision = [vision_flops(small_models.VISION, size) for size in (16, 32)]
    text = text_flops(small_models.TEXT)
    loss = loss_flops(16, 16)
    for stage, image in zip(plan.stages, vision, strict=True):
        forward = image.forward + text.forward + image.blocks / 4 + loss
        assert stage.training_flops == round(3 * forward)
        again = image.blocks * 1.25 + text.blocks + loss
        assert stage.executed_flops == round(3 * forward + again)
    first, second = plan.stages
    whole = 320 * first.training_flops + 160 * second.training_flops
    assert plan.training_flops == whole
    assert (first.steps, second.steps, plan.samples) == (20, 10, 480)
    assert plan.device_days(1e9, 0.5) == pytest.approx(whole / (0.5e9 * 86400))


# === Memory ===
def test_what_makes_memory_smaller():
    whole = small_plan().stages[1].memory

    def smaller(part, **changes):
        memory = small_plan(**changes).stages[1].memory
        assert getattr(memory, part) < getattr(whole, part), changes
        assert memory.total < whole.total
        return memory

    smaller("activations", remat=True)
    smaller("activations", image_chunk_size=4, text_chunk_size=4)
    smaller("activations", precision="mixed_bfloat16")
    smaller("loss", loss_chunk_size=4)
    half = smaller("activations", num_devices=2)
    assert half.parameters == whole.parameters
    assert half.batch == whole.batch // 2 == 4 * 8 * (3 * 32 * 32 + 8)
    assert small_plan(fused_attention=False).stages[1].memory.total > whole.total


def test_weights_are_cut_or_copied():
    # 32,768 elements are the least that are cut.
    text = {**small_models.TEXT, "vocabulary_size": 2048}
    copied = small_plan(text=text, num_devices=4)
    cut = small_plan(text=text, num_devices=4, sharding="parameters")
    two = small_plan(text=text, num_devices=4, sharding="parameters", pieces=2)
    size = 2048 * 24 * 4
    for plan, pieces in ((copied, 1), (cut, 4), (two, 2)):
        memory = plan.stages[0].memory
        assert plan.pieces == pieces
        assert memory.parameters == 4 * plan.parameters - size + size // pieces
        assert memory.gathered == (size if pieces > 1 else 0)
    assert "copied to each device" in str(copied)
    table = str(cut)
    assert "weights cut into 4 pieces" in table
    assert re.search(r"token_embedding/embeddings +2048 x 24 +1 +along 2048", table)
    groups = {group.pattern: group for group in cut.groups}
    assert sum(group.size for group in cut.groups) == cut.parameters
    kernel = groups[r"pe_vision_encoder/block_\d+/attention/qkv/kernel"]
    assert (kernel.shape, kernel.count, kernel.note) == ((32, 96), 3, "small")


# === Models without values ===
@pytest.mark.slow
def test_a_model_without_allocation_has_shapes_alone():
    with without_allocation():
        model = small_models.core()
    assert all(variable._value is None for variable in model.variables)
    assert model.count_params() == small_models.core().count_params()
    # A model that is built afterwards is an ordinary one, and fills in no other.
    other = small_models.core()
    outputs = other.encode_image(small_models.images())
    assert np.isfinite(keras.ops.convert_to_numpy(outputs)).all()
    assert all(variable._value is None for variable in model.variables)


def test_an_error_inside_leaves_keras_as_it_was():
    with pytest.raises(ValueError, match="hidden_dim"), without_allocation():
        small_models.vision_encoder(hidden_dim=33)
    assert all(v._value is not None for v in small_models.text_encoder().variables)


# === Errors ===
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": None}, "takes its architecture from weights"),
        ({"sharding": "some"}, "sharding='some'"),
        ({"num_devices": 3}, "a batch of 16 and 3 devices"),
        (
            {"num_devices": 4, "pieces": 3, "sharding": "parameters"},
            "3 pieces for 4 devices",
        ),
        ({"stages": [(20, 320)]}, "is no multiple of the patch|whole patches"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_plan(**changes)


@pytest.mark.parametrize("frozen", ["vision", "text"])
def test_a_frozen_tower_has_no_gradients_moments_or_backward_pass(frozen):
    config = published("PE-Core-B16-224", [(224, 131_072)], batch_size=1024)
    whole = plan_training(config, 2)
    plan = plan_training(dataclasses.replace(config, freeze=frozen), 2)
    size = getattr(plan, f"{frozen}_parameters")
    assert whole.trained_parameters == whole.parameters
    assert plan.trained_parameters == plan.parameters - size
    assert "M of all are trained" in str(plan)
    assert "trained" not in str(whole).splitlines()[0]
    ours, theirs = plan.stages[0], whole.stages[0]
    forward = getattr(
        ours, {"vision": "image_forward_flops", "text": "text_forward_flops"}[frozen]
    )
    assert theirs.training_flops - ours.training_flops == 2 * forward
    assert theirs.executed_flops - ours.executed_flops == 2 * forward
    assert plan.forward_multiply_adds == whole.forward_multiply_adds
    assert theirs.memory.parameters == ours.memory.parameters
    assert theirs.memory.gradients - ours.memory.gradients == 4 * size
    assert theirs.memory.optimizer - ours.memory.optimizer == 8 * size
    assert ours.memory.activations < theirs.memory.activations


def test_an_unknown_tower_can_not_be_frozen():
    with pytest.raises(ValueError, match="freeze='both'"):
        small_plan(freeze="both")
