"""Everything that decides a run of pretraining, its mistakes, and what is built of it.

Mistakes are found before data or weights are touched.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

import keras

from keras_pe.layers.initializers import without_allocation
from keras_pe.models.core import PECore
from keras_pe.models.text_encoder import PETextEncoder
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.training.optimizers.gradient_watch import WatchedAdamW
from keras_pe.training.optimizers.lamb import WatchedLamb
from keras_pe.training.optimizers.schedules import WarmupCosine, WarmupLinear
from keras_pe.training.resolution import ResolutionStage, plan_stages
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from keras_pe.training.trainers.distillation_trainer import check_teacher_scale
from keras_pe.training.trainers.patch_masking import masked_rows


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. Defaults are the paper's (tables 17 and 18).

    Attributes:
        vision: constructor arguments of `PEVisionEncoder`; empty where they are taken
            from the initial weights.
        text: constructor arguments of `PETextEncoder`, likewise.
        stages: image size and samples of each stage of resolution.
        batch_size: pairs of a step, over all devices.
        optimizer: "lamb" or "adamw".
        learning_rate: its peak.
        warmup_steps: steps until the peak.
        schedule: "cosine" or "linear" decay to zero. The paper says annealed.
        weight_decay: of matrices; vectors and the logit scale have none.
        beta_2: decay of the second moment.
        lamb_exclude: tensors that LAMB does not adapt, besides vectors; expressions.
        unadapted_rate: factor of LAMB's learning rate for all that are not adapted.
        gradient_clip: largest global norm of a step's gradient; None for no limit.
        loss: "softmax" or "sigmoid".
        duplicates: what equal captions of a batch are to each other.
        augment: random crop, brightness, saturation and mirroring.
        mask_weight: factor of the mask loss; 0 for no mask regularisation.
        mask_ratio: share of a copy's patches that is masked.
        mask_every: one image in so many has a masked copy.
        mask_block: side of a masked block, patches.
        keep_patches: share of patches that stays; below 1 drops the others.
        image_chunk_size: images that go through the tower at once; None for all.
        text_chunk_size: the same for texts.
        loss_chunk_size: rows of the loss matrix held at once; None for all.
        remat: whether blocks are computed again in the backward pass.
        precision: Keras dtype policy.
        caption_key: text file or JSON field that has the captions; None for the usual.
        max_bad_share: share of unusable samples above which the run stops.
        freeze: tower whose weights stay as they are: "none", "vision" or "text".
        sharding: "data" copies the weights to each device, "parameters" cuts them.
        seed: of weights, data order, augmentation and masks.
    """

    vision: dict[str, Any]
    text: dict[str, Any]
    stages: tuple[ResolutionStage, ...]
    batch_size: int = 131_072
    optimizer: Literal["lamb", "adamw"] = "lamb"
    learning_rate: float = 2e-3
    warmup_steps: int = 2000
    schedule: Literal["cosine", "linear"] = "cosine"
    weight_decay: float = 0.05
    beta_2: float = 0.95
    lamb_exclude: tuple[str, ...] = ()
    unadapted_rate: float = 1.0
    gradient_clip: float | None = None
    loss: Literal["softmax", "sigmoid"] = "softmax"
    duplicates: Literal["negative", "ignore"] = "negative"
    augment: bool = True
    mask_weight: float = 1.0
    mask_ratio: float = 0.4
    mask_every: int = 16
    mask_block: int = 1
    keep_patches: float = 1.0
    image_chunk_size: int | None = None
    text_chunk_size: int | None = None
    loss_chunk_size: int | None = None
    remat: bool = False
    precision: str = "float32"
    caption_key: str | None = None
    max_bad_share: float = 0.01
    freeze: Literal["none", "vision", "text"] = "none"
    sharding: Literal["data", "parameters"] = "data"
    seed: int = 0

    @property
    def samples(self) -> int:
        """Pairs seen in the whole run."""
        return sum(stage.samples for stage in self.stages)


def read_config(settings: dict[str, Any]) -> RunConfig:
    """Returns the configuration that a run wrote to `config.json`."""
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    arguments = {name: value for name, value in settings.items() if name in fields}
    arguments["stages"] = tuple(ResolutionStage(**s) for s in settings["stages"])
    arguments["lamb_exclude"] = tuple(settings["lamb_exclude"])
    return RunConfig(**arguments)


def stages_of(
    samples: int, sizes: tuple[int, ...], shares: tuple[int, ...]
) -> tuple[ResolutionStage, ...]:
    """Splits a number of samples over image sizes in given proportions."""
    ends = [
        samples * sum(shares[: i + 1]) // sum(shares) for i in range(-1, len(shares))
    ]
    return tuple(
        ResolutionStage(size, ends[i + 1] - ends[i]) for i, size in enumerate(sizes)
    )


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
AT_LEAST_ONE = (
    "mask_every",
    "mask_block",
    "image_chunk_size",
    "text_chunk_size",
    "loss_chunk_size",
)
AT_LEAST_ZERO = (
    "warmup_steps",
    "weight_decay",
    "unadapted_rate",
    "mask_weight",
    "seed",
)


def check_config(config: RunConfig) -> None:
    """Refuses a configuration that can't run.

    Args:
        config: the run.

    Raises:
        SettingError: says which setting is wrong and which flag changes it.

    Example:
        >>> towers = small_towers(64, width=32, layers=2, text_layers=1)
        >>> stages = stages_of(640, (64,), (1,))
        >>> check_config(RunConfig(**towers, stages=stages, batch_size=32,
        ...     warmup_steps=2))
    """
    if not config.vision or not config.text:
        raise SettingError(
            "This configuration takes its architecture from weights: give "
            "--initial-weights with a preset (pe_core_emoji_patch8_64, a directory, "
            "PE-Core-S16-384, ...)."
        )
    for name, kind in typing.get_type_hints(RunConfig).items():
        if typing.get_origin(kind) is Literal:
            _expect(config, name, getattr(config, name) in typing.get_args(kind), kind)
    for name, value in vars(config).items():
        finite = not isinstance(value, float) or math.isfinite(value)
        _expect(config, name, finite, "a finite number")
    for name in AT_LEAST_ONE:
        value = getattr(config, name)
        _expect(config, name, value is None or value >= 1, "1 or more")
    for name in AT_LEAST_ZERO:
        _expect(config, name, getattr(config, name) >= 0, "0 or more")
    _expect(config, "learning_rate", config.learning_rate > 0, "more than 0")
    _expect(config, "beta_2", 0 <= config.beta_2 < 1, "0 to 1, less than 1")
    _expect(config, "max_bad_share", 0 <= config.max_bad_share <= 1, "0 to 1")
    _expect(config, "keep_patches", 0 < config.keep_patches <= 1, "up to 1, above 0")
    _expect(config, "mask_ratio", 0 < config.mask_ratio < 1, "between 0 and 1")
    clip = config.gradient_clip
    _expect(config, "gradient_clip", clip is None or clip > 0, "more than 0, or none")
    if config.batch_size < 2:
        raise SettingError(
            f"batch_size={config.batch_size}: an image is told from the captions of "
            "the others in its batch, so a batch of one teaches nothing (its loss is "
            "0). Expected 2 or more (--batch-size)."
        )
    _check_chunks(config)
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
    patch = config.vision.get("patch_size", 16)
    planned = plan_stages(config.stages, config.batch_size, patch)
    steps = sum(stage.num_steps for stage in planned)
    if config.warmup_steps >= steps:
        raise SettingError(
            f"warmup_steps={config.warmup_steps} in a run of {steps} steps: expected "
            "fewer (--warmup-steps), or a longer run (--samples)."
        )
    if config.mask_weight:
        masked_rows(config.batch_size, config.mask_every, config.image_chunk_size)


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


def _check_chunks(config: RunConfig) -> None:
    for name in ("image_chunk_size", "text_chunk_size", "loss_chunk_size"):
        size = getattr(config, name)
        if size and size < config.batch_size and config.batch_size % size:
            raise SettingError(
                f"{name}={size}: expected a divisor of the batch of "
                f"{config.batch_size} (--{name.replace('_', '-')}, --batch-size)."
            )


def _expect(config: RunConfig, name: str, right: bool, expected: Any) -> None:
    if not right:
        if not isinstance(expected, str):
            expected = " or ".join(map(str, typing.get_args(expected)))
        raise SettingError(
            f"{name}={getattr(config, name)!r}: expected {expected} (--set {name}=...)."
        )


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


def build_optimizer(config: RunConfig) -> keras.optimizers.Optimizer:
    """Returns the optimizer, on one learning-rate curve through all stages."""
    curve = {"cosine": WarmupCosine, "linear": WarmupLinear}[config.schedule]
    planned = plan_stages(config.stages, config.batch_size)
    steps = sum(stage.num_steps for stage in planned)
    schedule = curve(config.learning_rate, config.warmup_steps, steps)
    settings: dict[str, Any] = {
        "weight_decay": config.weight_decay,
        "beta_1": 0.9,
        "beta_2": config.beta_2,
        "epsilon": 1e-6,
        "global_clipnorm": config.gradient_clip,
    }
    if config.optimizer == "lamb":
        return WatchedLamb(
            schedule,
            **settings,
            exclude=config.lamb_exclude,
            unadapted_rate=config.unadapted_rate,
        )
    optimizer = WatchedAdamW(schedule, **settings)
    # Lamb leaves vectors out by itself.
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "scale", "embedding", "probe"]
    )
    return optimizer


def build_trainer(config: RunConfig, model: PECore) -> ContrastiveTrainer:
    """Returns the compiled contrastive stage."""
    trainer = ContrastiveTrainer(
        model,
        loss=config.loss,
        duplicates=config.duplicates,
        loss_chunk_size=config.loss_chunk_size,
        image_chunk_size=config.image_chunk_size,
        text_chunk_size=config.text_chunk_size,
        mask_weight=config.mask_weight,
    )
    trainer.compile(optimizer=build_optimizer(config))
    return trainer
