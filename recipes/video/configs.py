"""The named configurations of `recipes.video`."""

import dataclasses

from keras_pe.presets.variants import text_config, vision_config
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.training_config import stages_of
from recipes.configs import FINETUNE

VIDEO_STEPS, VIDEO_BATCH = 5400, 4096  # table 19: 22.1 M clips
COOLDOWN_SAMPLES = 50_000_000  # section 2.4


def paper(name: str, image_size: int, large: bool = False) -> RunConfig:
    """Returns the fine-tuning of a released model's architecture on clips.

    Source: Perception Encoder, section 2.4 and table 19; masks are those of images.
    """
    text = text_config(name)
    assert text is not None
    return RunConfig(
        vision=vision_config(name),
        text=text,
        stages=(ResolutionStage(image_size, VIDEO_STEPS * VIDEO_BATCH),),
        batch_size=VIDEO_BATCH,
        learning_rate=1e-6,
        mask_weight=0.0,
        num_frames=8,
        precision="mixed_bfloat16",
        remat=large,
        sharding="parameters" if large else "data",
    )


def cooldown(video: RunConfig) -> RunConfig:
    """Returns what comes before it: images alone, at the largest size.

    The paper prints neither batch nor rate of this phase; those of the video stage are
    taken, and no masks.
    """
    size = video.stages[0].image_size
    return dataclasses.replace(
        video, num_frames=None, stages=stages_of(COOLDOWN_SAMPLES, (size,), (1,))
    )


PAPER = {
    # T and S are distilled from G first: `recipes.distill`.
    "paper-t16": paper("PE-Core-T16-384", 384),
    "paper-s16": paper("PE-Core-S16-384", 384),
    "paper-b16": paper("PE-Core-B16-224", 224),
    "paper-l14": paper("PE-Core-L14-336", 336, large=True),
    "paper-g14": paper("PE-Core-G14-448", 448, large=True),
}
COOLDOWN = {
    name.replace("paper", "cooldown"): cooldown(config)
    for name, config in PAPER.items()
}

# Own clips, and the architecture and image size of --initial-weights.
CLIPS = dataclasses.replace(
    FINETUNE, num_frames=8, batch_size=64, stages=stages_of(20_000, (224,), (1,))
)
# Minutes on one core, with any clips; for trying things out.
SMOKE = dataclasses.replace(
    CLIPS, batch_size=16, warmup_steps=2, stages=stages_of(320, (64,), (1,))
)

CONFIGS: dict[str, RunConfig] = {
    "finetune": CLIPS,
    "smoke": SMOKE,
    **PAPER,
    **COOLDOWN,
}
