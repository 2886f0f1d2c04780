"""The named configurations of `recipes.contrastive`."""

import dataclasses
from typing import Any, Literal

from keras_pe.presets.variants import text_config, vision_config
from keras_pe.training.resolution import ResolutionStage


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run. Defaults are the paper's (tables 17 and 18).

    Attributes:
        vision: constructor arguments of `PEVisionEncoder`; empty where they are taken
            from the initial weights.
        text: constructor arguments of `PETextEncoder`, likewise.
        stages: picture size and samples of each stage of resolution.
        batch_size: pairs of a step, over all devices.
        dataset: "shards" of picture-caption pairs, or "emoji" artwork.
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
        augmentation: of emoji, "mild" or "strong"; shards have the paper's crops.
        mask_weight: factor of the mask loss; 0 for no mask regularisation.
        mask_ratio: share of a copy's patches that is masked.
        mask_every: one picture in so many has a masked copy.
        mask_block: side of a masked block, patches.
        keep_patches: share of patches that stays; below 1 drops the others.
        image_chunk_size: pictures that go through the tower at once; None for all.
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
    dataset: Literal["shards", "emoji"] = "shards"
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
    augmentation: Literal["mild", "strong"] = "mild"
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


def read_config(settings: dict[str, Any]) -> Config:
    """Returns the configuration that a run wrote to `config.json`."""
    fields = {field.name for field in dataclasses.fields(Config)}
    arguments = {name: value for name, value in settings.items() if name in fields}
    arguments["stages"] = tuple(ResolutionStage(**s) for s in settings["stages"])
    arguments["lamb_exclude"] = tuple(settings["lamb_exclude"])
    return Config(**arguments)


def stages_of(
    samples: int, sizes: tuple[int, ...], shares: tuple[int, ...]
) -> tuple[ResolutionStage, ...]:
    """Splits a number of samples over picture sizes in given proportions."""
    ends = [
        samples * sum(shares[: i + 1]) // sum(shares) for i in range(-1, len(shares))
    ]
    return tuple(
        ResolutionStage(size, ends[i + 1] - ends[i]) for i, size in enumerate(sizes)
    )


# === The paper's own runs: tables 17 and 18 ===
# Samples of each stage are printed for the ablation alone: 10, 8, 4 and 2 billion at
# 98, 154, 224 and 336 px. The final runs' shares are this pattern, cut or continued.
def paper(name: str, steps: int, sizes: tuple[int, ...], **changes: Any) -> Config:
    text = text_config(name)
    assert text is not None
    return Config(
        vision=vision_config(name),
        text=text,
        stages=stages_of(steps * 131_072, sizes, (10, 8, 4, 2, 1)[: len(sizes)]),
        **{"precision": "mixed_bfloat16", "loss_chunk_size": 4096, **changes},
    )


PAPER = {
    # The paper distils these two from G. Their towers are the released models', their
    # schedule is that of B, of which the paper trains one on pairs directly.
    "paper-t16": paper("PE-Core-T16-384", 443_000, (112, 160, 224, 384)),
    "paper-s16": paper("PE-Core-S16-384", 443_000, (112, 160, 224, 384)),
    "paper-b16": paper("PE-Core-B16-224", 443_000, (112, 160, 224)),
    "paper-l14": paper("PE-Core-L14-336", 443_000, (98, 154, 224, 336), remat=True),
    "paper-g14": paper(
        "PE-Core-G14-448",
        656_000,
        (98, 154, 224, 336, 448),
        remat=True,
        sharding="parameters",
    ),
}


# === Small runs on emoji artwork ===
def small_towers(
    image_size: int,
    width: int,
    layers: int,
    text_layers: int,
    **vision: Any,
) -> dict[str, Any]:
    """Returns both towers of a model for a laptop, as arguments of `Config`."""
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
            **vision,
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


# LAMB at batches of hundreds: with the paper's settings small embeddings hardly move,
# while vectors, whose step is absolute, are shaken.
SMALL_LAMB: dict[str, Any] = {
    "optimizer": "lamb",
    "learning_rate": 4e-3,
    "beta_2": 0.95,
    "lamb_exclude": ("embedding", "probe"),
    "unadapted_rate": 0.25,
}

# The preset's recipe from scratch: 12 MB as float16. 32 px pictures of emoji
# can't be told apart, so the ladder of resolutions starts at 40. Most of the progress
# is made at 64 px, where a cosine would have no learning rate left.
EMOJI = Config(
    **small_towers(64, width=192, layers=6, text_layers=4),
    stages=stages_of(1_024_000, (40, 48, 64), (3, 2, 5)),
    batch_size=256,
    dataset="emoji",
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
    "dataset": "emoji",
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "beta_2": 0.98,
    "gradient_clip": 1.0,
    "augment": False,
    "mask_weight": 0.0,
}


def ladder() -> dict[str, Config]:
    """Returns the nine rungs by name, and the first one at all samples."""

    def rung(image_size: int, vision: dict[str, Any], **changes: Any) -> Config:
        towers = small_towers(image_size, width=128, layers=4, text_layers=3, **vision)
        return Config(**{**towers, **BASELINE, **changes})

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

# Own pictures, and the architecture of --initial-weights. A small rate and no masks:
# what the weights know is to be kept.
FINETUNE = Config(
    vision={},
    text={},
    stages=stages_of(100_000, (224,), (1,)),
    batch_size=256,
    optimizer="adamw",
    learning_rate=1e-5,
    warmup_steps=50,
    beta_2=0.98,
    gradient_clip=1.0,
    mask_weight=0.0,
)

CONFIGS: dict[str, Config] = {
    "finetune": FINETUNE,
    "emoji": EMOJI,
    "emoji-continued": EMOJI_CONTINUED,
    "smoke": SMOKE,
    "smoke-shards": dataclasses.replace(
        SMOKE, dataset="shards", stages=stages_of(640, (48, 64), (3, 2))
    ),
    **ladder(),
    **PAPER,
}
