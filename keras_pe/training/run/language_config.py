"""What decides a run of language alignment, its mistakes, and what is built of it."""

import dataclasses
import re
from typing import Any, Literal, NamedTuple

from keras_pe.language.foreign import (
    GGUF,
    HUB,
    after,
    foreign_decoder,
    foreign_prompt,
)
from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.language.prompts import Prompt, QuestionPrompt
from keras_pe.language.small_decoder import SmallDecoder
from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.layers.initializers import without_allocation
from keras_pe.layers.projector import VisionProjector
from keras_pe.models.aligned import TOKENS, PELang, language_layers
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.training.run.hub_decoders import planned_hub_decoder, said_of
from keras_pe.training.run.initial_weights import vision_of
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.training_config import (
    TrainingConfig,
    build_optimizer,
    check_training,
    expect,
)
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer

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
        decoder_dim: its channels.
        decoder_layers: its blocks.
        decoder_heads: its attention heads.
        start: preset of a `VisionLanguageModel` whose projector and decoder the run
            starts from, such as the one that a first phase left; None for new ones.
        train_encoder: whether the encoder is trained, as in the second phase.
        train_decoder: likewise of the decoder.
        encoder_rate: factor of the encoder's learning rate.
        projector_rate: likewise of the projector.
        decoder_rate: likewise of the decoder.
        row_length: tokens of a packed row, those of images included.
        questions: most questions of a sample in one document, drawn anew each time.
        repeats: `PATTERN:TIMES` each: shards of names like this come so often an epoch.

    Source: Perception Encoder, section 5.1; upstream `apps/plm` for what it leaves out.
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
    decoder_dim: int = 256
    decoder_layers: int = 6
    decoder_heads: int = 4
    start: str | None = None
    train_encoder: bool = True
    train_decoder: bool = True
    encoder_rate: float = 1.0
    projector_rate: float = 1.0
    decoder_rate: float = 1.0
    row_length: int = 2048
    questions: int = 8
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


# === What is built of it ===
class LanguageParts(NamedTuple):
    """What language alignment trains, and what asks it.

    Attributes:
        trainer: holds encoder, projector and decoder.
        model: the same three as what answers.
    """

    trainer: LanguageAlignmentTrainer
    model: VisionLanguageModel


def image_size_of(config: LanguageConfig) -> int:
    """Returns the side of the images, pixels."""
    return config.stages[0].image_size


def build_language_trainer(config: LanguageConfig) -> LanguageParts:
    """Returns the compiled trainer with its first weights, and what answers by it.

    Raises:
        SettingError: if what it starts from does not fit the configuration.
    """
    core = PEVisionEncoder.from_preset(config.encoder, dtype=config.precision)
    encoder = PELang.from_core(
        core,
        layers=config.layers,
        layer_scale=config.layer_scale if config.train_encoder else None,
        drop_path=config.drop_path if config.train_encoder else 0.0,
        rescale=config.rescale,
    )
    encoder.remat = config.remat and config.train_encoder
    side = image_size_of(config)
    tokens = image_tokens_of(config, encoder.patch_size)
    foreign = None if config.decoder == SMALL else build_foreign_decoder(config)
    if config.start is None:
        prompt = build_prompt(config, tokens, foreign)
        decoder = foreign or build_decoder(config, prompt.vocabulary_size)
        projector = build_projector(config, encoder.hidden_dim, decoder.hidden_dim)
    else:
        given = VisionLanguageModel.from_preset(
            config.start, decoder=foreign, dtype=config.precision
        )
        projector, decoder = given.projector, given.decoder
        check_start(config, given, encoder, tokens)
        prompt = given.prompt
    decoder.remat = config.remat
    prompt.packs = getattr(decoder, "packs", True)  # which a preset does not say
    trainer = LanguageAlignmentTrainer(
        encoder,
        projector,
        decoder,
        train_encoder=config.train_encoder,
        train_decoder=config.train_decoder,
        image_chunk_size=config.image_chunk_size,
    )
    trainer.compile(optimizer=build_optimizer(config, part_rates(config, trainer)))
    converter = PEImageConverter(side)
    model = VisionLanguageModel(encoder, projector, decoder, prompt, converter)
    return LanguageParts(trainer, model)


def unallocated_trainer(config: LanguageConfig) -> LanguageAlignmentTrainer:
    """Returns the trainer, not compiled, whose weights are shapes that none reads."""
    given: Any = vision_of(config.encoder)
    aligned = {**given, **TOKENS, "output_bias": False, "remat": config.remat}
    aligned["num_layers"] = config.layers or language_layers(given["num_layers"])
    if config.train_encoder:
        aligned["drop_path"] = config.drop_path
        if given.get("layer_scale") is None:
            aligned["layer_scale"] = config.layer_scale
    preset, decoder = hub_preset(config), None
    if gguf_path(config) is not None:
        decoder = build_foreign_decoder(config)
    with without_allocation():
        encoder = PELang(**aligned, dtype=config.precision)
        if preset is not None:
            decoder = planned_hub_decoder(preset, config.row_length, config.precision)
        elif decoder is None:
            decoder = build_decoder(config, build_tokenizer(config).vocabulary_size)
        decoder.remat = config.remat
        return LanguageAlignmentTrainer(
            encoder,
            build_projector(config, encoder.hidden_dim, decoder.hidden_dim),
            decoder,
            train_encoder=config.train_encoder,
            train_decoder=config.train_decoder,
            image_chunk_size=config.image_chunk_size,
        )


def image_tokens_of(config: LanguageConfig, patch_size: int) -> int:
    """Returns how many tokens of the decoder an image has.

    Raises:
        SettingError: if squares of patches do not fill an image.
    """
    side = image_size_of(config)
    if side % (patch_size * config.pooling):
        raise SettingError(
            f"pooling={config.pooling}: expected squares of {patch_size} px patches "
            f"that fill {side} px (--set pooling=..., --set stages=SIZE:SAMPLES)."
        )
    return (side // patch_size // config.pooling) ** 2


def build_tokenizer(config: LanguageConfig) -> PETokenizer:
    """Returns the decoder's tokenizer, for texts as long as a row."""
    preset = config.decoder_tokenizer or config.encoder
    given = PETokenizer.from_preset(preset).get_config()
    made: PETokenizer = PETokenizer.from_config(
        {**given, "context_length": config.row_length}
    )
    return made


def build_prompt(
    config: LanguageConfig, image_tokens: int, foreign: KerasHubDecoder | None = None
) -> Prompt:
    """Returns what asks the decoder, which may come from elsewhere.

    Raises:
        SettingError: if it can't be asked.
    """
    if foreign is not None:
        with said_of(config.decoder):
            return foreign_prompt(config.decoder, foreign, image_tokens)
    return QuestionPrompt(build_tokenizer(config), image_tokens, config.spell_answers)


def build_foreign_decoder(config: LanguageConfig) -> KerasHubDecoder:
    """Returns the language model of a GGUF file or of a preset of KerasHub's.

    Raises:
        SettingError: if it can't be loaded.
    """
    with said_of(config.decoder):
        return foreign_decoder(config.decoder, config.row_length, config.precision)


def build_projector(
    config: LanguageConfig, input_dim: int, output_dim: int
) -> VisionProjector:
    """Returns a new projector."""
    return VisionProjector(
        input_dim,
        output_dim,
        pooling=config.pooling,
        merge=config.merge,
        depth=config.projector_layers,
        norm=config.projector_norm,
        dtype=config.precision,
    )


def build_decoder(config: LanguageConfig, vocabulary_size: int) -> SmallDecoder:
    """Returns a new decoder."""
    return SmallDecoder(
        vocabulary_size,
        hidden_dim=config.decoder_dim,
        num_layers=config.decoder_layers,
        num_heads=config.decoder_heads,
        max_length=config.row_length,
        remat=config.remat,
        dtype=config.precision,
    )


def check_start(
    config: LanguageConfig,
    given: VisionLanguageModel,
    encoder: PELang,
    image_tokens: int,
) -> None:
    """Refuses to go on from parts that are not those of a configuration.

    Raises:
        SettingError: naming the first setting that differs.
    """
    projector, decoder = given.projector, given.decoder
    found = {
        "pooling": projector.pooling,
        "merge": projector.merge,
        "projector_layers": projector.depth,
        "projector_norm": projector.norm is not None,
        "row_length": decoder.max_length,
    }
    if config.decoder == SMALL:
        found["spell_answers"] = getattr(given.prompt, "spell_answers", False)
        found["decoder_dim"] = decoder.hidden_dim
        for name in ("decoder_layers", "decoder_heads"):
            found[name] = getattr(decoder, name.replace("decoder", "num"))
    for name, value in found.items():
        if value != getattr(config, name):
            raise SettingError(
                f"{name}={getattr(config, name)}: start={config.start} has {value}. "
                f"Give --set {name}={value}, or start anew."
            )
    if projector.input_dim != encoder.hidden_dim:
        raise SettingError(
            f"start={config.start} reads an encoder of {projector.input_dim} channels, "
            f"{config.encoder} has {encoder.hidden_dim}."
        )
    if given.prompt.image_tokens != image_tokens:
        raise SettingError(
            f"start={config.start} has {given.prompt.image_tokens} tokens an image, "
            f"and images of {image_size_of(config)} px {image_tokens}."
        )


def part_rates(
    config: LanguageConfig, trainer: LanguageAlignmentTrainer
) -> dict[str, float]:
    """Returns the factors of learning rates that are not 1, of what is trained."""
    parts = (
        (trainer.model, config.encoder_rate, config.train_encoder),
        (trainer.projector, config.projector_rate, True),
        (trainer.decoder, config.decoder_rate, config.train_decoder),
    )
    return {
        f"{re.escape(part.name)}/": rate
        for part, rate, trained in parts
        if trained and rate != 1.0
    }
