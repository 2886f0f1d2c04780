"""The named configurations of this project: its presets, and the paper's ladder."""

import dataclasses
from typing import Any, Literal

from keras_pe.training.run.config import (
    DistillConfig,
    RunConfig,
    small_towers,
)
from keras_pe.training.run.training_config import stages_of


@dataclasses.dataclass(frozen=True)
class EmojiConfig(RunConfig):
    """A run on drawings.

    Attributes:
        dataset: what older runs call the drawings, which had noted nothing else.
        augmentation: how much drawings are varied, "mild" or "strong".
    """

    dataset: Literal["emoji"] = "emoji"
    augmentation: Literal["mild", "strong"] = "mild"


# LAMB at batches of hundreds: with the paper's settings small embeddings hardly move,
# while vectors, whose step is absolute, are shaken.
SMALL_LAMB: dict[str, Any] = {
    "optimizer": "lamb",
    "learning_rate": 4e-3,
    "beta_2": 0.95,
    "lamb_exclude": ("embedding", "probe"),
    "unadapted_rate": 0.25,
}

# The preset's recipe from scratch: 12 MB as float16. 32 px images of emoji
# can't be told apart, so the ladder of resolutions starts at 40. Most of the progress
# is made at 64 px, where a cosine would have no learning rate left.
EMOJI = EmojiConfig(
    **small_towers(64, width=192, layers=6, text_layers=4),
    stages=stages_of(1_024_000, (40, 48, 64), (3, 2, 5)),
    batch_size=256,
    augmentation="strong",
    warmup_steps=200,
    gradient_clip=1.0,
    # LAMB is for batches of ten thousands. Here, at as many samples, it reached less
    # than half of AdamW's score on the validation drawings.
    optimizer="adamw",
    learning_rate=1.5e-3,
    schedule="linear",
    beta_2=0.98,
)

# The run that made the shipped weights: it goes on from the preset's first version
# (25 % on the unseen vendor), which had seen fewer drawings and little above 32 px.
EMOJI_CONTINUED = dataclasses.replace(
    EMOJI, stages=stages_of(192_000, (48, 64), (2, 3)), learning_rate=1e-3
)

# The nine steps of the paper's ablation (figure 2), each on top of the one before,
# but for LAMB.
# What the paper does at 98, 154, 224 and 336 px is done at 40, 48 and 64.
LADDER_SAMPLES = 256_000
BASELINE: dict[str, Any] = {
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "beta_2": 0.98,
    "gradient_clip": 1.0,
    "augment": False,
    "mask_weight": 0.0,
}


def ladder() -> dict[str, EmojiConfig]:
    """Returns the nine rungs by name, and the first one at all samples."""

    def rung(image_size: int, vision: dict[str, Any], **changes: Any) -> EmojiConfig:
        towers = small_towers(image_size, 128, layers=4, text_layers=3, vision=vision)
        return EmojiConfig(**{**towers, **BASELINE, **changes})

    plain = {"rope": False, "pooling": "token"}
    half, whole = LADDER_SAMPLES // 2, LADDER_SAMPLES
    constant = {"stages": stages_of(half, (48,), (1,))}
    progressive = {"stages": stages_of(half, (40, 48), (1, 1))}
    batch = {"stages": stages_of(whole, (40, 48), (1, 1)), "batch_size": 128}
    lamb = {**batch, **SMALL_LAMB}
    # LAMB halves the scores at batches this small: it is measured, and left out again.
    high = {**batch, "stages": stages_of(whole, (40, 48, 64), (10, 8, 4))}
    augmented = {**high, "augment": True}
    masked = {**augmented, "mask_weight": 1.0}
    rope = {"pooling": "token"}
    return {
        "rung1-baseline": rung(48, plain, **constant),
        "rung2-progressive": rung(48, plain, **progressive),
        "rung3-batch": rung(48, plain, **batch),
        "rung4-lamb": rung(48, plain, **lamb),
        "rung5-resolution": rung(64, plain, **high),
        "rung6-rope": rung(64, rope, **high),
        "rung7-pooling": rung(64, {}, **high),
        "rung8-augmentation": rung(64, {}, **augmented),
        "rung9-masks": rung(64, {}, **masked),
        # Not a rung: the baseline with as many samples as the last rung sees.
        "vanilla": rung(48, plain, stages=stages_of(whole, (48,), (1,))),
    }


# Minutes on one core; for trying things out.
SMOKE = dataclasses.replace(
    EMOJI,
    **small_towers(64, width=32, layers=2, text_layers=1),
    stages=stages_of(320, (48, 64), (3, 2)),
    batch_size=32,
    warmup_steps=2,
)

CONFIGS: dict[str, EmojiConfig] = {
    "emoji": EMOJI,
    "emoji-continued": EMOJI_CONTINUED,
    "smoke": SMOKE,
    **ladder(),
}

DISTILLED: dict[str, DistillConfig] = {
    "emoji": DistillConfig(
        EmojiConfig(
            **small_towers(64, width=192, layers=3, text_layers=4),
            stages=stages_of(512_000, (64,), (1,)),
            batch_size=256,
            augmentation="strong",
            optimizer="adamw",
            learning_rate=1e-3,
            beta_2=0.98,
            schedule="linear",
            warmup_steps=100,
            gradient_clip=1.0,
            mask_weight=0.0,
        ),
        teacher="pe_core_emoji_patch8_64",
        start="blocks",
    ),
    "smoke": DistillConfig(
        EmojiConfig(
            **small_towers(64, width=32, layers=2, text_layers=1),
            stages=stages_of(96, (64,), (1,)),
            batch_size=32,
            warmup_steps=2,
            mask_weight=0.0,
        ),
        teacher="pe_core_emoji_patch8_64",
    ),
}
