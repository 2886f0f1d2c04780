"""What a contrastive run needs, counted before anything is allocated, as tables."""

import dataclasses
import math
from typing import Any

import keras

from keras_pe.layers.initializers import without_allocation
from keras_pe.training.devices.flops import (
    TowerFlops,
    loss_flops,
    text_flops,
    vision_flops,
)
from keras_pe.training.devices.memory import (
    BYTES,
    DeviceMemory,
    loss_bytes,
    tower_bytes,
)
from keras_pe.training.devices.sharding import ParameterGroup, parameter_groups
from keras_pe.training.resolution import ResolutionStage, plan_stages
from keras_pe.training.run.config import RunConfig, build_model, check_config, freeze
from keras_pe.training.run.plan_parts import (
    RunPlan,
    planned_pieces,
    weight_bytes,
    weights_table,
)


@dataclasses.dataclass(frozen=True)
class StageCost:
    """What one stage of resolution takes.

    Attributes:
        image_size: side of the images, pixels.
        samples: pairs seen in it.
        steps: optimizer steps.
        tokens: tokens of an image.
        image_forward_flops: operations of one image's forward pass.
        text_forward_flops: operations of one text's forward pass.
        training_flops: operations of one pair in training, three forward passes; of
            a frozen tower one.
        executed_flops: with those that are made again to save memory.
        memory: an estimate for one device.
    """

    image_size: int
    samples: int
    steps: int
    tokens: int
    image_forward_flops: int
    text_forward_flops: int
    training_flops: int
    executed_flops: int
    memory: DeviceMemory


@dataclasses.dataclass(frozen=True)
class TrainingPlan(RunPlan):
    """A whole run. `print(plan)` shows it as tables.

    Attributes:
        vision_parameters: of the vision tower.
        text_parameters: of the text tower.
        parameters: of the whole model, the logit scale included.
        trained_parameters: those of them that are not frozen.
        batch_size: pairs of a step, over all devices.
        num_devices: devices of the run.
        precision: Keras dtype policy.
        pieces: how many each large weight is cut into; 1 for none.
        groups: how the weights lie on the devices.
        stages: the stages of resolution.
        num_frames: of a clip; None where the data are images.

    Example:
        >>> from keras_pe.training.run.config import small_towers
        >>> config = RunConfig(**small_towers(64, width=32, layers=2, text_layers=1),
        ...     stages=(ResolutionStage(64, 6400),), batch_size=64, warmup_steps=2)
        >>> plan = plan_training(config)
        >>> isinstance(plan, TrainingPlan), plan.steps, plan.stages[0].tokens
        (True, 100, 65)
    """

    vision_parameters: int
    text_parameters: int
    parameters: int
    trained_parameters: int
    batch_size: int
    num_devices: int
    precision: str
    pieces: int
    groups: tuple[ParameterGroup, ...]
    stages: tuple[StageCost, ...]
    num_frames: int | None = None

    @property
    def forward_multiply_adds(self) -> int:
        """Multiply-adds of both towers' forward passes: the FLOPs of the paper.

        Its figure 2 counts neither the backward pass nor a multiply-add as two
        operations: a sixth of `training_flops`, but for masks and loss.
        """
        return (
            sum(
                stage.samples * (stage.image_forward_flops + stage.text_forward_flops)
                for stage in self.stages
            )
            // 2
        )

    def __str__(self) -> str:
        parts = [self._summary(), self._stages(), self._memory_line()]
        return "\n\n".join([*parts, weights_table(self.groups)])

    def _summary(self) -> str:
        frozen = ""
        if self.trained_parameters < self.parameters:
            frozen = f"; {self.trained_parameters / 1e6:,.2f} M of all are trained"
        if self.num_frames is not None:
            frozen += f"\nclips of {self.num_frames} frames, each an image of its own"
        return (
            f"{self.parameters / 1e6:,.2f} M parameters: vision tower "
            f"{self.vision_parameters / 1e6:,.2f} M, text tower "
            f"{self.text_parameters / 1e6:,.2f} M{frozen}\n"
            f"{_billions(self.samples)} {self._steps_line()}\n"
            f"{self._flops_line()}\n"
            f"{self.forward_multiply_adds / 1e21:,.4g} ZFLOP as the paper counts: "
            f"multiply-adds of the forward pass\n"
            f"{self._layout_line()}"
        )

    def _stages(self) -> str:
        seen = "an image" if self.num_frames is None else "a clip"
        heading = f"stage|samples|steps|tokens|GFLOP {seen}|a text|a trained pair"
        heading += "|executed|ZFLOP|GB a device"
        names = ("image_forward", "text_forward", "training", "executed")
        return self._stage_table(heading, True, [f"{name}_flops" for name in names])


def _billions(samples: int) -> str:
    """Returns a number of samples in billions, or in millions where there are few."""
    if samples < 1e9:
        return f"{samples / 1e6:,.1f} M"
    return f"{samples / 1e9:,.1f} B"


# === The count ===
def plan_training(
    config: RunConfig,
    num_devices: int = 1,
    *,
    pieces: int | None = None,
    fused_attention: bool = True,
) -> TrainingPlan:
    """Counts what a contrastive run needs; allocates nothing, on any backend.

    Args:
        config: the run. A tower that is frozen has no gradients, no moments and no
            backward pass.
        num_devices: devices of the run.
        pieces: how many each weight is cut into, with `sharding="parameters"`; None
            for one a device.
        fused_attention: whether attention keeps no probabilities. Flash attention on
            TPU and GPU does not; plain attention, as on a CPU, does.

    Returns:
        `TrainingPlan`.

    Raises:
        ValueError: if the configuration can't run, or not on so many devices.

    Source: Perception Encoder, tables 17 and 18.

    Example:
        >>> from keras_pe.presets.variants import text_config, vision_config
        >>> name = "PE-Core-B16-224"
        >>> config = RunConfig(vision=vision_config(name), text=text_config(name),
        ...     stages=(ResolutionStage(224, 58_000_000_000),), mask_weight=0)
        >>> plan = plan_training(config, num_devices=64)
        >>> plan.steps, round(plan.parameters / 1e6)
        (442505, 448)
    """
    check_config(config)
    vision, text, batch_size = config.vision, config.text, config.batch_size
    frames = config.num_frames or 1  # of a clip, each an image of its own
    pieces = planned_pieces(config, num_devices, pieces)
    with without_allocation():
        model = build_model(config)
    freeze(model, config.freeze)
    groups = parameter_groups(model.weights, pieces)
    trained = parameter_groups(model.trainable_weights, pieces)
    compute_bytes = BYTES[keras.dtype_policies.get(config.precision).compute_dtype]
    text_cost = text_flops(text)
    # One image of a small batch is masked all the same.
    masked = 1.0 / min(config.mask_every, batch_size) if config.mask_weight else 0.0
    image_chunk_size, text_chunk_size = config.image_chunk_size, config.text_chunk_size
    frozen_tower: Any = {"vision": vision, "text": text}.get(config.freeze)

    def memory(image_size: int, image_cost: TowerFlops) -> DeviceMemory:
        def kept(tower: Any, cost: TowerFlops, chunk: int | None, extra: float) -> int:
            whole = min(chunk or batch_size, batch_size) * (1.0 + extra)
            rows = math.ceil(whole / num_devices)
            again = config.remat
            if tower is frozen_tower:
                tower, again = {**tower, "num_layers": 1}, False  # one block at a time
            return tower_bytes(tower, cost, rows, again, compute_bytes, fused_attention)

        more = frames * (1.0 + masked) - 1.0  # images of a sample, beyond the first
        towers = [
            (kept(vision, image_cost, image_chunk_size, more), image_chunk_size),
            (kept(text, text_cost, text_chunk_size, 0.0), text_chunk_size),
        ]
        whole = sum(size for size, chunk in towers if chunk is None)
        one_chunk = max(
            (size for size, chunk in towers if chunk is not None), default=0
        )
        rows = batch_size // num_devices
        return DeviceMemory(
            **weight_bytes(groups, trained, pieces, compute_bytes),
            activations=whole + one_chunk,
            loss=loss_bytes(
                batch_size, text["output_dim"], num_devices, config.loss_chunk_size
            ),
            batch=4 * rows * (frames * 3 * image_size**2 + text["context_length"]),
        )

    def stage_cost(stage: ResolutionStage, steps: int) -> StageCost:
        image_cost = vision_flops(vision, stage.image_size, config.keep_patches)
        # Masked copies go through patch embedding and blocks, not through the head.
        copies = masked * image_cost.blocks
        loss = loss_flops(batch_size, text["output_dim"])
        # Operations are those of a sample: a clip is as many images as it has frames.
        towers = {"vision": image_cost.times(frames), "text": text_cost}
        chunks = {"vision": image_chunk_size, "text": text_chunk_size}
        trained_flops = 3 * (copies + loss) + sum(
            cost.forward * (1 if name == config.freeze else 3)
            for name, cost in towers.items()
        )
        executed = (
            sum(
                cost.forward
                if name == config.freeze
                else cost.training(config.remat, chunks[name] is not None)
                for name, cost in towers.items()
            )
            + copies * (3 + config.remat + (image_chunk_size is not None))
            + loss * (3 + (config.loss_chunk_size is not None))
        )
        return StageCost(
            image_size=stage.image_size,
            samples=stage.samples,
            steps=steps,
            tokens=image_cost.tokens,
            image_forward_flops=image_cost.forward * frames,
            text_forward_flops=text_cost.forward,
            training_flops=round(trained_flops),
            executed_flops=round(executed),
            memory=memory(stage.image_size, image_cost),
        )

    planned = plan_stages(config.stages, batch_size, vision["patch_size"])
    return TrainingPlan(
        vision_parameters=model.vision_encoder.count_params(),
        text_parameters=model.text_encoder.count_params(),
        parameters=model.count_params(),
        trained_parameters=sum(math.prod(w.shape) for w in model.trainable_weights),
        batch_size=batch_size,
        num_devices=num_devices,
        precision=config.precision,
        pieces=pieces,
        groups=groups,
        stages=tuple(
            stage_cost(stage, step.num_steps)
            for stage, step in zip(config.stages, planned, strict=True)
        ),
        num_frames=config.num_frames,
    )
