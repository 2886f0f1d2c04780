"""What decides a fine-tuning on pairs: a run of pretraining, LoRA and layer decay."""

import dataclasses
import os
from typing import Any, Literal

from keras_pe.models.core import PECore
from keras_pe.training.resolution import ResolutionStage, plan_stages, rescaled
from keras_pe.training.run.config import RunConfig, check_config, freeze
from keras_pe.training.run.initial_weights import with_architecture
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.training_config import expect

EPOCHS, BATCH_SIZE, WARMUP_STEPS = 5, 64, 50  # where nothing else is said
# Updates of low rank bear ten times the rate, as those of `ImageClassifier` do.
LEARNING_RATES = {"full": 1e-5, "lora": 1e-4}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairConfig(RunConfig):
    """What decides a fine-tuning on pairs.

    Attributes:
        lora_rank: rank of the updates of LoRA; 0 trains whole weights.
        lora_towers: which towers get updates; the other one stays as it is.
        layer_decay: factor of the learning rate from one layer to the one before it;
            1 trains all alike.

    Example:
        >>> config = PairConfig(vision={}, text={}, lora_rank=8, lora_towers="image",
        ...     stages=(ResolutionStage(64, 1000),), batch_size=50)
        >>> config.samples // config.batch_size    # steps
        20
    """

    lora_rank: int = 0
    lora_towers: Literal["both", "image", "text"] = "both"
    layer_decay: float = 1.0


# A small rate and no masks: what the weights know is to be kept.
BASE = PairConfig(
    vision={},
    text={},
    stages=(ResolutionStage(224, 100_000),),
    batch_size=BATCH_SIZE,
    optimizer="adamw",
    learning_rate=LEARNING_RATES["full"],
    warmup_steps=WARMUP_STEPS,
    beta_2=0.98,
    gradient_clip=1.0,
    mask_weight=0.0,
)


def pair_config(
    preset: str | os.PathLike[str],
    num_pairs: int,
    epochs: int = EPOCHS,
    **settings: Any,
) -> PairConfig:
    """Returns the configuration of a fine-tuning that fits the number of pairs.

    Args:
        preset: what the weights are taken from, as of `with_architecture`.
        num_pairs: images that are trained on.
        epochs: how often each is seen.
        settings: further fields of `PairConfig`; those that are not given fit the
            pairs (`batch_size`, `warmup_steps`) and the way (`learning_rate`).

    Returns:
        The configuration.

    Raises:
        ValueError: if a setting can't be, or the weights are no dual encoder.

    Example:
        >>> config = pair_config("pe_core_emoji_small_patch8_64", 1000, lora_rank=4)
        >>> config.samples, config.batch_size, config.warmup_steps, config.learning_rate
        (5000, 64, 7, 0.0001)
    """
    config = with_architecture(BASE, os.fspath(preset))
    config = fitted(config, num_pairs, epochs, bool(settings.get("lora_rank")))
    config = dataclasses.replace(config, **settings)
    if "warmup_steps" not in settings:
        config = with_short_warmup(config)
    check_pair_config(config)
    return config


def fitted(config: PairConfig, num_pairs: int, epochs: int, lora: bool) -> PairConfig:
    """Returns a configuration with samples, batch and rate for so many pairs.

    Raises:
        SettingError: if there are no epochs.
    """
    if epochs < 1:
        raise SettingError(f"epochs={epochs}: expected 1 or more (--epochs).")
    size = min(config.batch_size, num_pairs)
    # Few pairs still make a step.
    stages = rescaled(config.stages, max(epochs * num_pairs, size))
    rate = LEARNING_RATES["lora" if lora else "full"]
    return dataclasses.replace(
        config, stages=tuple(stages), batch_size=size, learning_rate=rate
    )


def with_short_warmup(config: PairConfig) -> PairConfig:
    """Returns a configuration that warms up for at most a tenth of its steps."""
    planned = plan_stages(config.stages, config.batch_size)
    steps = sum(stage.num_steps for stage in planned)
    return dataclasses.replace(config, warmup_steps=min(WARMUP_STEPS, steps // 10))


def check_pair_config(config: PairConfig) -> None:
    """Refuses a configuration that can't run.

    Raises:
        SettingError: says which setting is wrong and which flag changes it.
    """
    check_config(config)
    expect(config, "lora_rank", config.lora_rank >= 0, "0 (none) or more")
    expect(config, "layer_decay", 0 < config.layer_decay <= 1, "above 0, at most 1")
    if config.lora_rank and config.freeze != "none":
        raise SettingError(
            f"lora_rank={config.lora_rank} and freeze={config.freeze!r}: LoRA freezes "
            "all but its updates by itself. To leave a tower as it is, choose the "
            "other one for the updates (--towers image, or text)."
        )
    if not config.lora_rank and config.lora_towers != "both":
        raise SettingError(
            f"lora_towers={config.lora_towers!r} without LoRA: give its rank (--lora "
            "8), or freeze a tower (--freeze vision, or text)."
        )


def make_trainable(model: PECore, config: PairConfig) -> None:
    """Freezes what the configuration leaves as it is, and adds its updates.

    Args:
        model: with the weights that are tuned; changed.
        config: the run.

    Example:
        >>> make_trainable(model, config)                           # doctest: +SKIP
    """
    freeze(model, config.freeze)
    if not config.lora_rank:
        return
    if config.lora_towers == "both":
        model.enable_lora(config.lora_rank)
        return
    towers = [model.vision_encoder, model.text_encoder]
    adapted = towers.pop(0 if config.lora_towers == "image" else 1)
    adapted.enable_lora(config.lora_rank)
    towers[0].trainable = False
    model.logit_scale.trainable = False
