"""Whether what a language alignment starts from fits it."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.models.aligned import PELang
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.training.run.language_config import SMALL, LanguageConfig, image_size_of
from keras_pe.training.run.overrides import SettingError


def check_start(
    config: LanguageConfig,
    given: VisionLanguageModel,
    encoder: PELang,
    image_tokens: int,
    vocabulary_size: int | None,
) -> None:
    """Refuses to go on from parts that are not those of a configuration.

    Raises:
        SettingError: naming the first setting that differs.
    """
    projector, decoder = given.projector, given.decoder
    found = {
        "layers": given.encoder.num_layers,
        "pooling": projector.pooling,
        "merge": projector.merge,
        "projector_layers": projector.depth,
        "projector_norm": projector.norm is not None,
        "row_length": decoder.max_length,
    }
    if config.decoder == SMALL:
        found["spell_answers"] = getattr(given.prompt, "spell_answers", False)
        found["spelled_questions"] = getattr(given.prompt, "spelled_questions", ())
        found["decoder_dim"] = decoder.hidden_dim
        for name in ("decoder_layers", "decoder_heads"):
            found[name] = getattr(decoder, name.replace("decoder", "num"))
    mine = {**dataclasses.asdict(config), "layers": encoder.num_layers}
    for name, value in found.items():
        if value != mine[name]:
            raise SettingError(
                f"{name}={mine[name]}: start={config.start} has {value}. "
                f"Give --set {name}={value}, or start anew."
            )
    if vocabulary_size not in (None, given.prompt.vocabulary_size):
        raise SettingError(
            f"decoder_tokenizer={config.decoder_tokenizer}: {vocabulary_size} words, "
            f"start={config.start} has {given.prompt.vocabulary_size}. Give the "
            f"tokenizer that it was made with."
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


def check_same_encoder(
    config: LanguageConfig, given: VisionLanguageModel, core: PEVisionEncoder
) -> None:
    """Refuses a projector that was trained on another encoder's patches.

    Raises:
        SettingError: if the preset's encoder has other weights than the one that is to
            be aligned.
    """
    known = {_name_inside(variable): variable for variable in core.weights}
    for variable in given.encoder.weights:
        its, mine = variable, known.get(_name_inside(variable))
        if mine is not None and tuple(mine.shape) == tuple(its.shape):
            theirs, ours = (
                keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
                for x in (its, mine)
            )
            # A preset may be kept in half precision.
            if np.allclose(theirs, ours, rtol=2**-7, atol=1e-6):
                continue
        raise SettingError(
            f"start={config.start} was trained on another encoder than "
            f"encoder={config.encoder}: {_name_inside(variable)} differs. A start is a "
            f"warm-up, whose encoder stayed as it was. Give the encoder of that one."
        )


def _name_inside(variable: Any) -> str:
    """Returns the name of a variable inside its encoder."""
    return str(variable.path).split("/", 1)[1]
