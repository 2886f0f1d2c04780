"""What is built of the configuration of a language alignment."""

import re
from typing import Any, NamedTuple

from keras_pe.language.foreign import foreign_decoder, foreign_prompt
from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.language.prompts import Prompt, QuestionPrompt
from keras_pe.language.small_decoder import SmallDecoder
from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.layers.initializers import without_allocation
from keras_pe.layers.projector import VisionProjector
from keras_pe.models.aligned import TOKENS, PELang, language_layers
from keras_pe.models.core import PECore
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.training.run.hub_decoders import planned_hub_decoder, said_of
from keras_pe.training.run.initial_weights import vision_of
from keras_pe.training.run.language_config import (
    SMALL,
    LanguageConfig,
    gguf_path,
    hub_preset,
    image_size_of,
)
from keras_pe.training.run.language_start import check_same_encoder, check_start
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.training_config import build_optimizer
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer


class LanguageParts(NamedTuple):
    """What language alignment trains, and what asks it.

    Attributes:
        trainer: holds encoder, projector and decoder.
        model: the same three as what answers.
    """

    trainer: LanguageAlignmentTrainer
    model: VisionLanguageModel


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
        if config.core_words:
            start_words(config, decoder)
        projector = build_projector(config, encoder.hidden_dim, decoder.hidden_dim)
    else:
        given = VisionLanguageModel.from_preset(
            config.start, decoder=foreign, dtype=config.precision
        )
        projector, decoder = given.projector, given.decoder
        words = build_tokenizer(config).vocabulary_size if foreign is None else None
        check_start(config, given, encoder, tokens, words)
        check_same_encoder(config, given, core)
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
    return QuestionPrompt(
        build_tokenizer(config),
        image_tokens,
        config.spell_answers,
        config.spelled_questions,
    )


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


def start_words(config: LanguageConfig, decoder: SmallDecoder) -> None:
    """Gives a decoder the vectors of the words of the encoder's text tower.

    Raises:
        SettingError: if the preset has no text tower, or one of other channels or
            words.
    """
    try:
        text = PECore.from_preset(config.encoder).text_encoder
    except (ValueError, TypeError) as error:
        raise SettingError(
            f"core_words=true: encoder={config.encoder} has no text tower to take them "
            f"from ({error}). Give a dual encoder, or core_words=false."
        ) from error
    vectors = text.token_embedding.embeddings
    own = decoder.token_embedding.embeddings
    if tuple(vectors.shape) != tuple(own.shape):
        raise SettingError(
            f"core_words=true: the text tower of encoder={config.encoder} has "
            f"{vectors.shape[0]} words of {vectors.shape[1]} channels, the decoder "
            f"{own.shape[0]} of {own.shape[1]}. Give --set decoder_dim="
            f"{vectors.shape[1]}, or core_words=false."
        )
    own.assign(vectors)
