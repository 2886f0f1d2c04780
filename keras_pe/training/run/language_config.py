"""What decides a run of language alignment, and its mistakes."""

import dataclasses
from typing import Literal

from keras_pe.language.foreign import (
    GGUF,
    HUB,
    after,
)
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.training_config import (
    TrainingConfig,
    check_training,
    expect,
)

SMALL = "small"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageConfig(TrainingConfig):
    """What decides a run of language alignment. Defaults are upstream's for PLM.

    A run has one image size. Its batches are `batch_size` samples, whose documents are
    packed into as many rows as they need.

    Attributes:
        encoder: preset whose vision encoder is aligned.
        layers: its blocks that stay; None for the paper's share, 47 of 50.
        layer_scale: starting value of LayerScale; None for none. A frozen encoder gets
            none, and no stochastic depth.
        rescale: whether the weights before it are divided by it.
        drop_path: stochastic depth rate of the last block that stays.
        pooling: side of the squares of patches that become one token.
        merge: how they do, "average" or "shuffle".
        projector_layers: 2 for an MLP, 1 for a matrix.
        projector_norm: whether patches are normalised before it, for new decoders.
        decoder: "small" for one of our own, trained from scratch; "gguf:" and the path
            of a Llama's GGUF file, such as SmolLM2's; "hub:" and a preset of
            KerasHub's: a name, kaggle://..., hf://... or a folder.
        decoder_tokenizer: preset whose tokenizer it reads; None for the encoder's.
        spell_answers: whether it answers letter by letter, which reading needs.
        spelled_questions: those whose answers are; none for all.
        decoder_dim: its channels.
        decoder_layers: its blocks.
        decoder_heads: its attention heads.
        core_words: whether a new decoder's words start as those of the text tower of
            `encoder`, a dual encoder with the decoder's channels and words.
        start: preset of a `VisionLanguageModel` whose projector and decoder the run
            starts from, such as the one that a first phase left; None for new ones.
        train_encoder: whether the encoder is trained, as in the second phase.
        train_decoder: likewise of the decoder.
        encoder_rate: factor of the encoder's learning rate.
        projector_rate: likewise of the projector.
        decoder_rate: likewise of the decoder.
        row_length: tokens of a packed row, those of images included.
        questions: most questions of a sample in one document, drawn anew each time.
        questions_apart: whether they do not see each other, unless they are turns of a
            conversation: an answer can't be copied from the one before. For a decoder
            of our own.
        repeats: `PATTERN:TIMES` each: shards of names like this come so often an epoch.

    Source: Perception Encoder, section 5.1; upstream `apps/plm` for what it leaves out.

    Example:
        >>> from keras_pe.training import ResolutionStage
        >>> config = LanguageConfig(encoder="pe_core_emoji_patch8_64",
        ...     stages=(ResolutionStage(64, 640),), batch_size=32, encoder_rate=0.1)
        >>> config.decoder, config.optimizer
        ('small', 'adamw')
    """

    encoder: str
    layers: int | None = None
    layer_scale: float | None = 0.1
    rescale: bool = True
    drop_path: float = 0.1
    pooling: int = 1
    merge: Literal["average", "shuffle"] = "average"
    projector_layers: int = 2
    projector_norm: bool = False
    decoder: str = SMALL
    decoder_tokenizer: str | None = None
    spell_answers: bool = False
    spelled_questions: tuple[str, ...] = ()
    decoder_dim: int = 256
    decoder_layers: int = 6
    decoder_heads: int = 4
    core_words: bool = False
    start: str | None = None
    train_encoder: bool = True
    train_decoder: bool = True
    encoder_rate: float = 1.0
    projector_rate: float = 1.0
    decoder_rate: float = 1.0
    row_length: int = 2048
    questions: int = 8
    questions_apart: bool = False
    repeats: tuple[str, ...] = ()
    batch_size: int = 2048
    optimizer: Literal["lamb", "adamw"] = "adamw"
    learning_rate: float = 4e-5
    warmup_steps: int = 120
    weight_decay: float = 0.01
    gradient_clip: float | None = 1.0
    augment: bool = False


def check_language(config: LanguageConfig) -> None:
    """Refuses a configuration that can't run.

    Args:
        config: the run.

    Raises:
        SettingError: says which setting is wrong.

    Example:
        >>> from keras_pe.training.run.training_config import stages_of
        >>> check_language(LanguageConfig(encoder="pe_core_emoji_patch8_64",
        ...     stages=stages_of(640, (64,), (1,)), batch_size=32, warmup_steps=2))
    """
    check_training(config, patch_size=1)
    for name in ("encoder_rate", "projector_rate", "decoder_rate"):
        expect(config, name, getattr(config, name) > 0, "more than 0")
    expect(config, "drop_path", 0 <= config.drop_path < 1, "0 to 1, less than 1")
    scale = config.layer_scale
    expect(config, "layer_scale", scale is None or scale > 0, "more than 0, or none")
    expect(config, "projector_layers", config.projector_layers <= 2, "1 or 2")
    told = config.decoder == SMALL or bool(hub_preset(config) or gguf_path(config))
    expect(config, "decoder", told, f"{SMALL}, gguf:FILE or hub:PRESET")
    if config.decoder != SMALL:
        words = f", as decoder={config.decoder} has its own vocabulary"
        expect(config, "spell_answers", not config.spell_answers, "false" + words)
        none = not config.spelled_questions
        expect(config, "spelled_questions", none, "none" + words)
        expect(
            config,
            "questions_apart",
            not config.questions_apart,
            f"false, as decoder={config.decoder} counts positions without them",
        )
        none = config.decoder_tokenizer is None
        expect(config, "decoder_tokenizer", none, "none" + words)
        expect(config, "core_words", not config.core_words, "false" + words)
    its_own = config.decoder_tokenizer is None or not config.core_words
    words = "none, as core_words=true takes the encoder's words"
    expect(config, "decoder_tokenizer", its_own, words)
    spelled = config.spell_answers or not config.spelled_questions
    expect(config, "spelled_questions", spelled, "none, as spell_answers is false")
    # Documents say how many tokens an image has, and are packed by it.
    expect(config, "stages", len(config.stages) == 1, "one stage")
    expect(config, "augment", not config.augment, "false: answers may tell left, red")
    new = config.start is None and config.decoder == SMALL
    if new and not config.train_decoder:
        raise SettingError(
            "train_decoder=false and start=none: a new decoder would stay as it was "
            "drawn. Give --set start=PRESET, or train it."
        )


def hub_preset(config: LanguageConfig) -> str | None:
    """Returns which preset of KerasHub's is the decoder, or None."""
    return after(HUB, config.decoder)


def gguf_path(config: LanguageConfig) -> str | None:
    """Returns the GGUF file that the decoder comes out of, or None."""
    return after(GGUF, config.decoder)


def image_size_of(config: LanguageConfig) -> int:
    """Returns the side of the images, pixels."""
    return config.stages[0].image_size
