"""Everything that decides a run of pretraining, its mistakes, and what is built of it.

Mistakes are found before data or weights are touched.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import keras

from keras_pe.layers.initializers import without_allocation
from keras_pe.models.core import PECore
from keras_pe.models.text_encoder import PETextEncoder
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.training_config import (
    TrainingConfig,
    build_optimizer,
    check_training,
    expect,
)
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from keras_pe.training.trainers.distillation_trainer import check_teacher_scale
from keras_pe.training.trainers.patch_masking import masked_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(TrainingConfig):
    """What decides a run of pretraining. Defaults are the paper's (tables 17 and 18).

    Attributes:
        vision: constructor arguments of `PEVisionEncoder`; empty where they are taken
            from the initial weights.
        text: constructor arguments of `PETextEncoder`, likewise.
        loss: "softmax" or "sigmoid".
        duplicates: what equal captions of a batch are to each other.
        mask_weight: factor of the mask loss; 0 for no mask regularisation.
        mask_every: one image in so many has a masked copy.
        keep_patches: share of patches that stays; below 1 drops the others.
        text_chunk_size: texts that go through the tower at once; None for all.
        caption_key: text file or JSON field that has the captions; None for the usual.
        freeze: tower whose weights stay as they are: "none", "vision" or "text".
        num_frames: frames of a clip whose embeddings are averaged, where the data are
            clips; None for images.

    Example:
        >>> from keras_pe.training import ResolutionStage
        >>> stages = (ResolutionStage(64, 10_000),)
        >>> config = RunConfig(vision={}, text={}, stages=stages)
        >>> config.optimizer, config.learning_rate    # the paper's
        ('lamb', 0.002)
    """

    vision: dict[str, Any]
    text: dict[str, Any]
    loss: Literal["softmax", "sigmoid"] = "softmax"
    duplicates: Literal["negative", "ignore"] = "negative"
    mask_weight: float = 1.0
    mask_every: int = 16
    keep_patches: float = 1.0
    text_chunk_size: int | None = None
    caption_key: str | None = None
    freeze: Literal["none", "vision", "text"] = "none"
    num_frames: int | None = None


def read_config(settings: dict[str, Any], kind: Any = None) -> Any:
    """Returns the configuration that a run wrote to `config.json`.

    Args:
        settings: what stands there.
        kind: its class; None for `RunConfig`.
    """
    kind = RunConfig if kind is None else kind
    fields = {field.name for field in dataclasses.fields(kind)}
    arguments = {name: value for name, value in settings.items() if name in fields}
    arguments["stages"] = tuple(ResolutionStage(**s) for s in settings["stages"])
    arguments["lamb_exclude"] = tuple(settings["lamb_exclude"])
    return kind(**arguments)


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """A student's run and who teaches it.

    Attributes:
        student: towers, stages, optimizer and data. The image size of the stages is
            the teacher's; the student's own is that of its tower.
        teacher: preset name, directory or handle.
        teacher_logit_scale: factor of the teacher's cosines.
        start: "scratch", or "blocks": weights of the teacher's blocks, at even
            distances; the student is then as wide as the teacher.

    Raises:
        ValueError: if `teacher_logit_scale` is not above 0.

    Example:
        >>> towers = small_towers(64, width=32, layers=2, text_layers=1)
        >>> student = RunConfig(**towers, stages=(ResolutionStage(64, 640),))
        >>> DistillConfig(student, "pe_core_emoji_patch8_64").teacher_logit_scale
        200.0
    """

    student: RunConfig
    teacher: str
    teacher_logit_scale: float = 200.0
    start: Literal["scratch", "blocks"] = "scratch"

    def __post_init__(self) -> None:
        check_teacher_scale(self.teacher_logit_scale)


def small_towers(
    image_size: int,
    width: int,
    layers: int,
    text_layers: int,
    vision: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns both towers of a model for a laptop, as arguments of `RunConfig`.

    Args:
        image_size: side of the images, pixels.
        width: channels of a token, in both.
        layers: blocks of the vision tower.
        text_layers: blocks of the text tower.
        vision: further arguments of `PEVisionEncoder`.

    Example:
        >>> towers = small_towers(64, width=32, layers=2, text_layers=1)
        >>> towers["vision"]["num_layers"], towers["text"]["num_layers"]
        (2, 1)
    """
    return {
        "vision": {
            "image_size": image_size,
            "patch_size": 8,
            "hidden_dim": width,
            "num_layers": layers,
            "num_heads": 4,
            "intermediate_dim": 4 * width,
            "output_dim": width,
            "pooling_heads": 4,
            **(vision or {}),
        },
        "text": {
            "vocabulary_size": 6000,
            "context_length": 20,
            "hidden_dim": width,
            "num_layers": text_layers,
            "num_heads": 4,
            "intermediate_dim": 4 * width,
            "output_dim": width,
        },
    }


# === What can be wrong with it ===
def check_config(config: RunConfig) -> None:
    """Refuses a configuration that can't run.

    Args:
        config: the run.

    Raises:
        SettingError: says which setting is wrong and which flag changes it.

    Example:
        >>> towers = small_towers(64, width=32, layers=2, text_layers=1)
        >>> stages = (ResolutionStage(64, 640),)
        >>> check_config(RunConfig(**towers, stages=stages, batch_size=32,
        ...     warmup_steps=2))
    """
    if not config.vision or not config.text:
        raise SettingError(
            "This configuration takes its architecture from weights: give "
            "--initial-weights with a preset (pe_core_emoji_patch8_64, a directory, "
            "PE-Core-S16-384, ...)."
        )
    expect(config, "keep_patches", 0 < config.keep_patches <= 1, "up to 1, above 0")
    expect(config, "mask_ratio", 0 < config.mask_ratio < 1, "between 0 and 1")
    if config.batch_size < 2:
        raise SettingError(
            f"batch_size={config.batch_size}: an image is told from the captions of "
            "the others in its batch, so a batch of one teaches nothing (its loss is "
            "0). Expected 2 or more (--batch-size)."
        )
    check_training(config, config.vision.get("patch_size", 16))
    if config.mask_weight and config.keep_patches < 1:
        raise SettingError(
            "Masked images are compared with whole ones, so masks and dropped "
            "patches don't go together: --set mask_weight=0 or --set keep_patches=1."
        )
    if config.mask_weight and config.freeze == "vision":
        raise SettingError(
            "Masks train the vision tower, which freeze=vision holds as it is: --set "
            "mask_weight=0."
        )
    if config.mask_weight:
        masked_rows(config.batch_size, config.mask_every, config.image_chunk_size)
    if config.num_frames is not None:
        expect(config, "num_frames", config.num_frames >= 1, "at least 1, or None")
        if config.mask_weight or config.keep_patches < 1:
            raise SettingError(
                "Patches of clips are neither masked nor dropped: --set mask_weight=0 "
                "--set keep_patches=1."
            )


def check_towers(config: RunConfig) -> None:
    """Builds both towers without a weight, so that their constructors can refuse.

    Args:
        config: the run.

    Raises:
        ValueError: what a constructor says of its arguments.

    Example:
        >>> towers = small_towers(64, width=32, layers=2, text_layers=1)
        >>> check_towers(RunConfig(**towers, stages=()))
    """
    dtype: Any = keras.dtype_policies.get(config.precision)
    with without_allocation():
        vision = PEVisionEncoder(**config.vision, remat=config.remat, dtype=dtype)
        text = PETextEncoder(**config.text, remat=config.remat, dtype=dtype)
        PECore(vision, text)


# === What is built of it ===
def build_model(config: RunConfig) -> PECore:
    """Returns an untrained dual encoder."""
    vision = PEVisionEncoder(
        **config.vision, remat=config.remat, dtype=config.precision
    )
    text = PETextEncoder(**config.text, remat=config.remat, dtype=config.precision)
    return PECore(vision, text)


def build_tokenizer(config: RunConfig) -> PETokenizer:
    """Returns the tokenizer that fits the text tower."""
    return PETokenizer(
        context_length=config.text["context_length"],
        vocabulary_size=config.text["vocabulary_size"],
        on_truncation="ignore",
    )


def freeze(model: PECore, tower: str) -> None:
    """Holds the weights of a tower, "vision" or "text", as they are; "none" of none."""
    if tower != "none":
        getattr(model, f"{tower}_encoder").trainable = False


def build_trainer(
    config: RunConfig, model: PECore, part_rates: Mapping[str, float] | None = None
) -> ContrastiveTrainer:
    """Returns the compiled contrastive stage.

    Args:
        config: the run.
        model: that is trained.
        part_rates: factors of the learning rate of parts, as of `PartRates`.
    """
    trainer = ContrastiveTrainer(
        model,
        loss=config.loss,
        duplicates=config.duplicates,
        loss_chunk_size=config.loss_chunk_size,
        image_chunk_size=config.image_chunk_size,
        text_chunk_size=config.text_chunk_size,
        mask_weight=config.mask_weight,
    )
    trainer.compile(optimizer=build_optimizer(config, part_rates))
    return trainer
