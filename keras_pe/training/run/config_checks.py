"""What can be wrong with a configuration, found before data or weights are touched."""

import math
import typing
from typing import Any, Literal

import keras

from keras_pe import PECore, PETextEncoder, PEVisionEncoder
from keras_pe.training.devices.unallocated import without_allocation
from keras_pe.training.resolution import plan_stages
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.patch_arrays import masked_rows
from keras_pe.training.run.settings import SettingError

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
        >>> from keras_pe.training.run.config import small_towers, stages_of
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
            f"batch_size={config.batch_size}: a picture is told from the captions of "
            "the others in its batch, so a batch of one teaches nothing (its loss is "
            "0). Expected 2 or more (--batch-size)."
        )
    _check_chunks(config)
    if config.mask_weight and config.keep_patches < 1:
        raise SettingError(
            "Masked pictures are compared with whole ones, so masks and dropped "
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
        masked_rows(config, config.batch_size)


def check_towers(config: RunConfig) -> None:
    """Builds both towers without a weight, so that their constructors can refuse.

    Args:
        config: the run.

    Raises:
        ValueError: what a constructor says of its arguments.

    Example:
        >>> from keras_pe.training.run.config import small_towers
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
