"""What every run has: stages, batch, optimizer, devices; their checks and optimizer."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

import keras

from keras_pe.training.optimizers.gradient_watch import WatchedAdamW
from keras_pe.training.optimizers.lamb import WatchedLamb
from keras_pe.training.optimizers.part_rates import PartAdamW, PartLamb
from keras_pe.training.optimizers.schedules import WarmupCosine, WarmupLinear
from keras_pe.training.resolution import ResolutionStage, plan_stages
from keras_pe.training.run.overrides import SettingError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What decides a run of any trainer. Defaults are the paper's (table 18).

    Attributes:
        stages: image size and samples of each stage of resolution.
        batch_size: samples of a step, over all devices.
        optimizer: "lamb" or "adamw".
        learning_rate: its peak.
        warmup_steps: steps until the peak.
        schedule: "cosine" or "linear" decay to zero. The paper says annealed.
        weight_decay: of matrices; vectors and the logit scale have none.
        beta_2: decay of the second moment.
        lamb_exclude: tensors that LAMB does not adapt, besides vectors; expressions.
        unadapted_rate: factor of LAMB's learning rate for all that are not adapted.
        gradient_clip: largest global norm of a step's gradient; None for no limit.
        augment: random crop, brightness, saturation and mirroring.
        mask_ratio: share of an image's patches that is masked, where masks are.
        mask_block: side of a masked block, patches.
        image_chunk_size: images that go through the tower at once; None for all.
        loss_chunk_size: rows of the loss matrix held at once; None for all.
        remat: whether blocks are computed again in the backward pass.
        precision: Keras dtype policy.
        max_bad_share: share of unusable samples above which the run stops.
        sharding: "data" copies the weights to each device, "parameters" cuts them.
        seed: of weights, data order, augmentation and masks.
    """

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
    augment: bool = True
    mask_ratio: float = 0.4
    mask_block: int = 1
    image_chunk_size: int | None = None
    loss_chunk_size: int | None = None
    remat: bool = False
    precision: str = "float32"
    max_bad_share: float = 0.01
    sharding: Literal["data", "parameters"] = "data"
    seed: int = 0

    @property
    def samples(self) -> int:
        """Samples seen in the whole run."""
        return sum(stage.samples for stage in self.stages)


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


# === What can be wrong with it ===
CHUNKS = ("image_chunk_size", "text_chunk_size", "loss_chunk_size")
AT_LEAST_ONE = (
    "batch_size",
    "mask_every",
    "mask_block",
    "most_shapes",
    "sam_points",
    "layers",
    "pooling",
    "projector_layers",
    "questions",
    "row_length",
    "decoder_dim",
    "decoder_layers",
    "decoder_heads",
    *CHUNKS,
)
AT_LEAST_ZERO = (
    "warmup_steps",
    "weight_decay",
    "unadapted_rate",
    "mask_weight",
    "feature_weight",
    "correspondence_weight",
    "background_weight",
    "seed",
)


def check_training(config: TrainingConfig, patch_size: int) -> None:
    """Refuses what no run of any trainer can have.

    Args:
        config: the run.
        patch_size: of the encoder that is trained, which image sizes must fit.

    Raises:
        SettingError: says which setting is wrong and which flag changes it.
    """
    for name, kind in typing.get_type_hints(type(config)).items():
        if typing.get_origin(kind) is Literal:
            expect(config, name, getattr(config, name) in typing.get_args(kind), kind)
    for name, value in vars(config).items():
        finite = not isinstance(value, float) or math.isfinite(value)
        expect(config, name, finite, "a finite number")
    for name in AT_LEAST_ONE:
        value = getattr(config, name, None)
        expect(config, name, value is None or value >= 1, "1 or more")
    for name in AT_LEAST_ZERO:
        value = getattr(config, name, None)
        expect(config, name, value is None or value >= 0, "0 or more")
    expect(config, "learning_rate", config.learning_rate > 0, "more than 0")
    expect(config, "beta_2", 0 <= config.beta_2 < 1, "0 to 1, less than 1")
    expect(config, "max_bad_share", 0 <= config.max_bad_share <= 1, "0 to 1")
    clip = config.gradient_clip
    expect(config, "gradient_clip", clip is None or clip > 0, "more than 0, or none")
    for name in CHUNKS:
        size = getattr(config, name, None)
        if size and size < config.batch_size and config.batch_size % size:
            raise SettingError(
                f"{name}={size}: expected a divisor of the batch of "
                f"{config.batch_size} (--{name.replace('_', '-')}, --batch-size)."
            )
    planned = plan_stages(config.stages, config.batch_size, patch_size)
    steps = sum(stage.num_steps for stage in planned)
    if config.warmup_steps >= steps:
        raise SettingError(
            f"warmup_steps={config.warmup_steps} in a run of {steps} steps: expected "
            "fewer (--warmup-steps), or a longer run (--samples)."
        )


def expect(config: Any, name: str, right: bool, expected: Any) -> None:
    """Refuses a setting unless it is right, saying what is expected."""
    if not right:
        if not isinstance(expected, str):
            expected = " or ".join(map(str, typing.get_args(expected)))
        raise SettingError(
            f"{name}={getattr(config, name)!r}: expected {expected} (--set {name}=...)."
        )


# === What is built of it ===
def build_optimizer(
    config: TrainingConfig, part_rates: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """Returns the optimizer, on one learning-rate curve through all stages.

    Args:
        config: the run.
        part_rates: factors of the learning rate of parts, as of `PartRates`.
    """
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
    # What has no parts keeps the optimizer that its checkpoints name.
    lamb, adamw = (PartLamb, PartAdamW) if part_rates else (WatchedLamb, WatchedAdamW)
    if part_rates:
        settings["part_rates"] = part_rates
    if config.optimizer == "lamb":
        return lamb(
            schedule,
            **settings,
            exclude=config.lamb_exclude,
            unadapted_rate=config.unadapted_rate,
        )
    optimizer = adamw(schedule, **settings)
    # Lamb leaves vectors out by itself.
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "scale", "embedding", "probe"]
    )
    return optimizer
