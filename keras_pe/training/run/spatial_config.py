"""What decides a run of spatial alignment, its mistakes, and what is built of it."""

import dataclasses
from typing import Any, Literal

import keras

from keras_pe.layers.initializers import without_allocation
from keras_pe.losses.correspondence import SHARPNESS
from keras_pe.models.aligned import TOKENS, PESpatial
from keras_pe.models.tower import resolve_layers
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.training.run.initial_weights import vision_of
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.training_config import (
    TrainingConfig,
    build_optimizer,
    check_training,
    expect,
)
from keras_pe.training.trainers.spatial_trainer import SpatialAlignmentTrainer

MASKS = "masks"  # of the samples themselves
SAM = "sam:"  # and the name of a preset of KerasHub's


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpatialConfig(TrainingConfig):
    """What decides a run of spatial alignment. Defaults are the paper's (table 21).

    Attributes:
        encoder: preset whose vision encoder is aligned.
        teacher: preset whose tokens are matched; "self" for the encoder before
            training; "none" for none.
        teacher_layer: its layer, from 1; None for the paper's share, 41 of 50.
        mask_teacher: what says which patches belong together: "masks" of the samples,
            "sam:" and a preset of KerasHub's SAM (a name or a folder), "teacher" for
            the teacher's tokens, "none" for nothing.
        most_shapes: of a sample's masks; of more, the smallest count as background.
        sam_points: SAM's prompts along each side of an image.
        sam_keep: which of SAM's masks of a point; see `SamTeacher`.
        feature_weight: factor of the feature loss.
        correspondence_weight: factor of the correspondence loss.
        sharpness: of the mask teacher's cosines; None takes them as they are.
        background_weight: of pairs that are background on both sides.
        layer_scale: starting value of LayerScale; None for none.
        rescale: whether the weights before it are divided by it.
        drop_path: stochastic depth rate of the last block.
    """

    encoder: str
    teacher: str = "self"
    teacher_layer: int | None = None
    mask_teacher: str = MASKS
    most_shapes: int = 64
    sam_points: int = 32
    sam_keep: Literal["0", "1", "2", "3", "best", "smallest"] = "0"
    feature_weight: float = 1.0
    correspondence_weight: float = 1.0
    sharpness: float | None = SHARPNESS
    background_weight: float = 1.0
    layer_scale: float | None = 0.1
    rescale: bool = True
    drop_path: float = 0.4
    batch_size: int = 12_288
    learning_rate: float = 5e-4
    warmup_steps: int = 0
    mask_ratio: float = 0.75
    mask_block: int = 2


def check_spatial(config: SpatialConfig) -> None:
    """Refuses a configuration that can't run.

    Args:
        config: the run.

    Raises:
        SettingError: says which setting is wrong.

    Example:
        >>> from keras_pe.training.run.training_config import stages_of
        >>> check_spatial(SpatialConfig(encoder="pe_core_emoji_patch8_64",
        ...     stages=stages_of(640, (64,), (1,)), batch_size=32))
    """
    check_training(config, patch_size=1)
    known = (MASKS, "teacher", "none")
    told = config.mask_teacher in known or bool(sam_preset(config))
    expect(config, "mask_teacher", told, f"{' or '.join(known)} or sam:PRESET")
    expect(config, "mask_ratio", 0 <= config.mask_ratio < 1, "0 to 1, less than 1")
    expect(config, "drop_path", 0 <= config.drop_path < 1, "0 to 1, less than 1")
    for name in ("layer_scale", "sharpness"):
        value = getattr(config, name)
        expect(config, name, value is None or value > 0, "more than 0, or none")
    if config.teacher == "none" and config.mask_teacher in ("teacher", "none"):
        raise SettingError(
            f"teacher=none and mask_teacher={config.mask_teacher}: nothing is taught. "
            "Give --set teacher=self or --set mask_teacher=masks."
        )


def sam_preset(config: SpatialConfig) -> str | None:
    """Returns which SAM says what belongs together, "" if none is named, or None."""
    told = config.mask_teacher
    return told.removeprefix(SAM) if told.startswith(SAM) else None


# === What is built of it ===
def build_spatial_trainer(config: SpatialConfig) -> SpatialAlignmentTrainer:
    """Returns the compiled trainer, with its student's first weights."""
    own = PEVisionEncoder.from_preset(config.encoder, dtype=config.precision)
    student = PESpatial.from_core(
        own,
        layer_scale=config.layer_scale,
        drop_path=config.drop_path,
        rescale=config.rescale,
    )
    teacher = None
    if config.teacher == "self":
        teacher = own
    elif config.teacher != "none":
        with of_teacher():
            teacher = PEVisionEncoder.from_preset(
                config.teacher, dtype=config.precision
            )
    trainer = _trainer(config, student, teacher)
    trainer.compile(optimizer=build_optimizer(config))
    return trainer


def unallocated_trainer(config: SpatialConfig) -> SpatialAlignmentTrainer:
    """Returns the trainer, not compiled, whose weights are shapes that none reads."""
    given: Any = vision_of(config.encoder)
    aligned = {**given, **TOKENS, "output_bias": False, "drop_path": config.drop_path}
    if given.get("layer_scale") is None:
        aligned["layer_scale"] = config.layer_scale
    with without_allocation():
        student = PESpatial(**aligned, dtype=config.precision)
        teacher = None
        if config.teacher == "self":
            teacher = PEVisionEncoder(**given, dtype=config.precision)
        elif config.teacher != "none":
            with of_teacher():
                teacher = PEVisionEncoder(
                    **vision_of(config.teacher), dtype=config.precision
                )
        return _trainer(config, student, teacher)


def of_teacher() -> Any:
    """Returns a scope that tells a teacher's weights from a student of its name."""
    return keras.name_scope("teacher")


def _trainer(
    config: SpatialConfig, student: PESpatial, teacher: PEVisionEncoder | None
) -> SpatialAlignmentTrainer:
    student.remat = config.remat
    if teacher is not None and config.teacher_layer is not None:
        try:
            resolve_layers(config.teacher_layer, teacher.num_layers)
        except ValueError as error:
            raise SettingError(
                f"teacher_layer={config.teacher_layer}: {error}"
            ) from None
    names: dict[str, Any] = {"teacher": "teacher", "none": None}
    return SpatialAlignmentTrainer(
        student,
        teacher,
        teacher_layer="auto" if config.teacher_layer is None else config.teacher_layer,
        # Masks of samples, and SAM's, are made before the step.
        mask_teacher=names.get(config.mask_teacher, "batch"),
        feature_weight=config.feature_weight,
        correspondence_weight=config.correspondence_weight,
        sharpness=config.sharpness,
        background_weight=config.background_weight,
        image_chunk_size=config.image_chunk_size,
        loss_chunk_size=config.loss_chunk_size,
    )
