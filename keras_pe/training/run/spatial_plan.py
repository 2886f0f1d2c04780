"""What an alignment needs, counted before anything is allocated, as tables."""

import dataclasses
import math
from typing import Any

import keras

from keras_pe.models.vision_forward import VisionForward
from keras_pe.training.devices.flops import TowerFlops, vision_flops
from keras_pe.training.devices.memory import (
    BYTES,
    DeviceMemory,
    tower_bytes,
)
from keras_pe.training.devices.sharded_step import Inputs
from keras_pe.training.devices.sharding import ParameterGroup, parameter_groups
from keras_pe.training.resolution import plan_stages
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.plan_parts import (
    RunPlan,
    planned_pieces,
    weight_bytes,
    weights_table,
)
from keras_pe.training.run.spatial_config import (
    MASKS,
    SpatialConfig,
    check_spatial,
    sam_preset,
    unallocated_trainer,
)
from keras_pe.training.teachers.sam_cost import (
    SAM_SIZES,
    SamSize,
    sam_bytes,
    sam_flops,
)
from keras_pe.training.trainers.spatial_trainer import SpatialAlignmentTrainer

SAM_CHUNK = 64  # points at a time, as `SamTeacher` has it


@dataclasses.dataclass(frozen=True)
class AlignmentCost:
    """What one stage of resolution takes. Operations are those of one image.

    Attributes:
        image_size: side of the images, pixels.
        samples: images seen in it.
        steps: optimizer steps.
        tokens: tokens of an image.
        student_flops: of the student's forward pass.
        teacher_flops: of the teacher's, up to its layer.
        loss_flops: of the losses in training: gradients of the student's tokens too.
        sam_flops: of SAM, all its points.
        training_flops: of all in training: three passes of the student.
        executed_flops: with those that are made again to save memory.
        memory: an estimate for one device.
    """

    image_size: int
    samples: int
    steps: int
    tokens: int
    student_flops: int
    teacher_flops: int
    loss_flops: int
    sam_flops: int
    training_flops: int
    executed_flops: int
    memory: DeviceMemory


@dataclasses.dataclass(frozen=True)
class AlignmentPlan(RunPlan):
    """A whole alignment. `print(plan)` shows it as tables.

    Attributes:
        student_parameters: of the encoder that is trained.
        teacher_parameters: of the encoder that teaches, all its layers.
        sam: the preset of SAM; None if it does not teach.
        batch_size: images of a step, over all devices.
        num_devices: devices of the run.
        precision: Keras dtype policy.
        pieces: how many each large weight is cut into; 1 for none.
        groups: how the weights lie on the devices.
        stages: the stages of resolution.
    """

    student_parameters: int
    teacher_parameters: int
    sam: str | None
    batch_size: int
    num_devices: int
    precision: str
    pieces: int
    groups: tuple[ParameterGroup, ...]
    stages: tuple[AlignmentCost, ...]

    @property
    def sam_share(self) -> float:
        """Share of the training's operations that SAM makes."""
        of_sam = sum(stage.samples * stage.sam_flops for stage in self.stages)
        return of_sam / self.training_flops

    def __str__(self) -> str:
        parts = [self._summary(), self._stages(), self._memory_line()]
        if self.sam is not None:
            size = SAM_SIZES[self.sam]
            parts[-1] += (
                f"\nSAM beside it ({self.sam}, {size.parameters / 1e6:,.1f} M "
                f"parameters, float32, {SAM_CHUNK} points at a time): "
                f"{sam_bytes(size, SAM_CHUNK) / 1e9:,.2f}"
            )
        return "\n\n".join([*parts, weights_table(self.groups)])

    def _summary(self) -> str:
        of_sam = ""
        if self.sam is not None:
            of_sam = f"; {self.sam_share:.0%} of it are SAM's"
        return (
            f"{self.student_parameters / 1e6:,.2f} M parameters of the student, "
            f"{self.teacher_parameters / 1e6:,.2f} M of its teacher\n"
            f"{self.samples / 1e6:,.1f} M {self._steps_line()}\n"
            f"{self._flops_line()}{of_sam}\n"
            f"{self._layout_line()}"
        )

    def _stages(self) -> str:
        heading = "stage|samples|steps|tokens|GFLOP of a student|teacher|losses|SAM"
        heading += "|a trained image|executed|ZFLOP|GB a device"
        names = ("student", "teacher", "loss", "sam", "training", "executed")
        return self._stage_table(heading, False, [f"{name}_flops" for name in names])


# === The count ===
def plan_alignment(
    config: SpatialConfig,
    num_devices: int = 1,
    *,
    pieces: int | None = None,
    fused_attention: bool = True,
) -> AlignmentPlan:
    """Counts what an alignment needs; allocates nothing, on any backend.

    Args:
        config: the run.
        num_devices: devices of the run.
        pieces: as of `plan_training`.
        fused_attention: as of `plan_training`.

    Returns:
        `AlignmentPlan`.

    Raises:
        ValueError: if the configuration can't run, or not on so many devices, or names
            a SAM whose size is not known.

    Source: Perception Encoder, table 21.

    Example:
        >>> from keras_pe.training.run.training_config import stages_of
        >>> config = SpatialConfig(encoder="pe_core_gigantic_patch14_448",
        ...     stages=stages_of(24_000 * 12_288, (448,), (1,)), mask_teacher="none")
        >>> plan = plan_alignment(config, num_devices=64)
        >>> plan.steps, round(plan.student_parameters / 1e6)
        (24000, 1852)
    """
    check_spatial(config)
    pieces = planned_pieces(config, num_devices, pieces)
    preset = sam_preset(config)
    sam = None if preset is None else known_sam(preset)
    trainer = unallocated_trainer(config)
    groups = parameter_groups(
        [w for w in trainer.weights if "seed_generator" not in w.path], pieces
    )
    trained = parameter_groups(trainer.trainable_weights, pieces)
    planned = plan_stages(config.stages, config.batch_size, trainer.model.patch_size)
    cost = _Costs(config, trainer, sam, num_devices, fused_attention)

    def stage_cost(image_size: int, samples: int, steps: int) -> AlignmentCost:
        held = weight_bytes(groups, trained, pieces, cost.compute_bytes)
        return AlignmentCost(
            image_size=image_size,
            samples=samples,
            steps=steps,
            **cost.flops(image_size),
            memory=DeviceMemory(**held, **cost.memory(image_size)),
        )

    teacher: Any = trainer.teacher
    return AlignmentPlan(
        student_parameters=trainer.model.count_params(),
        teacher_parameters=0 if teacher is None else teacher.count_params(),
        sam=preset,
        batch_size=config.batch_size,
        num_devices=num_devices,
        precision=config.precision,
        pieces=pieces,
        groups=groups,
        stages=tuple(
            stage_cost(stage.image_size, stage.samples, step.num_steps)
            for stage, step in zip(config.stages, planned, strict=True)
        ),
    )


def step_inputs(
    config: SpatialConfig, trainer: SpatialAlignmentTrainer, image_size: int
) -> Inputs:
    """Returns shape and dtype of each array of a batch of an alignment.

    Args:
        config: the run.
        trainer: made of it.
        image_size: side of the images, pixels.
    """
    rows, patches = config.batch_size, (image_size // trainer.model.patch_size) ** 2
    inputs: Inputs = {
        "images": ((rows, image_size, image_size, 3), "float32"),
        "masked_patches": ((rows, patches), "bool"),
    }
    if trainer.of_pairs and trainer.mask_teacher == "batch":
        inputs["mask_rows"] = ((rows, patches, mask_points(config)), "float32")
        if config.mask_teacher == MASKS and config.background_weight != 1.0:
            inputs["background"] = ((rows, patches), "float32")
    return inputs


def mask_points(config: SpatialConfig) -> int:
    """Returns how many numbers of each patch the masks of a batch have."""
    if config.mask_teacher == MASKS:
        return config.most_shapes + 1
    return config.sam_points**2


def known_sam(preset: str) -> SamSize:
    """Returns the size of a published SAM.

    Raises:
        SettingError: naming those that are known.
    """
    if preset not in SAM_SIZES:
        raise SettingError(
            f"mask_teacher=sam:{preset}: a plan knows the sizes of "
            f"{', '.join(SAM_SIZES)}. Plan with the nearest of them."
        )
    return SAM_SIZES[preset]


class _Costs:
    """Counts operations and memory of a trainer by image size."""

    def __init__(
        self,
        config: SpatialConfig,
        trainer: SpatialAlignmentTrainer,
        sam: SamSize | None,
        num_devices: int,
        fused_attention: bool,
    ) -> None:
        self.config, self.trainer, self.sam = config, trainer, sam
        self.num_devices, self.fused_attention = num_devices, fused_attention
        policy = keras.dtype_policies.get(config.precision)
        self.compute_bytes = BYTES[policy.compute_dtype]
        size = config.image_chunk_size
        self.chunked = size is not None and size < config.batch_size
        self.teaches = trainer.teacher is not None and (
            trainer.of_features or trainer.mask_teacher == "teacher"
        )
        self.points = mask_points(config)
        if trainer.mask_teacher == "teacher" and trainer.teacher is not None:
            self.points = trainer.teacher.hidden_dim

    def student(self, image_size: int) -> TowerFlops:
        """Returns the operations of the student on one image."""
        return vision_flops(_tokens_of(self.trainer.model), image_size)

    def teacher(self, image_size: int) -> TowerFlops:
        """Returns those of the teacher, up to its layer, on the student's grid."""
        if not self.teaches:
            return TowerFlops(0, 0, 0)
        assert self.trainer.teacher is not None
        sizes = _tokens_of(self.trainer.teacher, self.trainer.teacher_layer)
        side = image_size // self.trainer.model.patch_size
        return vision_flops(sizes, side * sizes["patch_size"])

    def flops(self, image_size: int) -> dict[str, Any]:
        """Returns the fields of `AlignmentCost` that say operations."""
        student, teacher = self.student(image_size), self.teacher(image_size)
        side = image_size // self.trainer.model.patch_size
        channels = self.trainer.model.hidden_dim
        once = again = linear = 0
        if self.trainer.of_pairs:
            pairs = 2 * side**4
            once = pairs * (3 * channels + self.points)  # the gradient: two products
            again = pairs * (channels + self.points) if self.chunked else 0
            if self.config.loss_chunk_size is not None:  # one product and its loss
                once -= pairs * channels
        if self.trainer.projection is not None:
            linear = 2 * side**2 * math.prod(self.trainer.projection.kernel.shape)
        of_sam = 0
        if self.sam is not None:
            of_sam = sam_flops(self.sam, self.config.sam_points, (side, side))
        training = 3 * (student.forward + linear) + teacher.forward + once + of_sam
        executed = student.training(self.config.remat, self.chunked) - 3 * (
            student.forward
        )
        executed += again + int(self.chunked) * (teacher.forward + linear)
        return {
            "tokens": student.tokens,
            "student_flops": student.forward + linear,
            "teacher_flops": teacher.forward,
            "loss_flops": once,
            "sam_flops": of_sam,
            "training_flops": training,
            "executed_flops": training + executed,
        }

    def memory(self, image_size: int) -> dict[str, int]:
        """Returns the fields of `DeviceMemory` that depend on the images."""
        config, model = self.config, self.trainer.model
        rows = config.batch_size // self.num_devices
        chunk = rows
        if self.chunked:
            assert config.image_chunk_size is not None
            chunk = math.ceil(config.image_chunk_size / self.num_devices)
        options = self.compute_bytes, self.fused_attention
        student = self.student(image_size)
        kept = tower_bytes(_tokens_of(model), student, chunk, config.remat, *options)
        if self.teaches:
            assert self.trainer.teacher is not None
            one = {**_tokens_of(self.trainer.teacher), "num_layers": 1}
            kept += tower_bytes(one, self.teacher(image_size), chunk, False, *options)
        patches = (image_size // model.patch_size) ** 2
        tokens = 4 * chunk * patches
        lost = 2 * tokens * model.hidden_dim  # float32, of unit length; their gradient
        if self.teaches:
            lost += 2 * tokens * _tokens_of(self.trainer.teacher)["hidden_dim"]
        if self.trainer.of_pairs:
            held = chunk * patches
            if config.loss_chunk_size is not None:
                held = min(held, math.ceil(config.loss_chunk_size / self.num_devices))
            lost += 3 * 4 * held * patches + tokens * self.points
        given = sum(
            math.prod(shape) * BYTES.get(dtype, 1)
            for shape, dtype in step_inputs(config, self.trainer, image_size).values()
        )
        return {
            "activations": kept,
            "loss": lost,
            "batch": given // self.num_devices,
        }


def _tokens_of(encoder: Any, layers: int | None = None) -> Any:
    """Returns the sizes of an encoder whose tokens are taken after some blocks."""
    assert isinstance(encoder, VisionForward)  # presets are
    return {
        "image_size": encoder.image_size,
        "patch_size": encoder.patch_size,
        "hidden_dim": encoder.hidden_dim,
        "num_heads": encoder.num_heads,
        "intermediate_dim": encoder.intermediate_dim,
        "num_layers": encoder.num_layers if layers is None else layers,
        "class_token": encoder.class_token,
        "pooling": None,
        "output_dim": None,
    }
