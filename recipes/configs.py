"""The named configurations of `recipes.pretrain`."""

from typing import Any

from keras_pe.presets.variants import text_config, vision_config
from keras_pe.training.run.config import RunConfig, small_towers
from keras_pe.training.run.training_config import stages_of


# === The paper's own runs: tables 17 and 18 ===
# Samples of each stage are printed for the ablation alone: 10, 8, 4 and 2 billion at
# 98, 154, 224 and 336 px. The final runs' shares are this pattern, cut or continued.
def paper(name: str, steps: int, sizes: tuple[int, ...], **changes: Any) -> RunConfig:
    text = text_config(name)
    assert text is not None
    return RunConfig(
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


# Minutes on one core, with any shards; for trying things out.
SMOKE = RunConfig(
    **small_towers(64, width=32, layers=2, text_layers=1),
    stages=stages_of(640, (48, 64), (3, 2)),
    batch_size=32,
    optimizer="adamw",
    learning_rate=1.5e-3,
    schedule="linear",
    warmup_steps=2,
    beta_2=0.98,
    gradient_clip=1.0,
)

# Own images, and the architecture of --initial-weights. A small rate and no masks:
# what the weights know is to be kept.
FINETUNE = RunConfig(
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

CONFIGS: dict[str, RunConfig] = {"finetune": FINETUNE, "smoke": SMOKE, **PAPER}
