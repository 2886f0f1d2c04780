"""Who learns and who teaches: copies of the encoder that is given."""

from typing import Any, NamedTuple

import keras

from keras_pe.alignment.layered_encoder import LayeredEncoder
from keras_pe.models.aligned import PESpatial
from keras_pe.models.core import PECore
from keras_pe.models.token_encoder import TokenEncoder
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.training.trainers.base import check_precision

DROP_PATH = 0.1  # the paper's 0.4 is for 50 blocks


class Subject(NamedTuple):
    """An encoder that is aligned.

    Attributes:
        encoder: what is returned in the end.
        student: what is trained of it.
        teacher: the encoder before training, frozen.
        teacher_layer: its layer.
        swept: whose layers are compared afterwards.
        unreached: weights of the student that no image reaches, frozen in training.
    """

    encoder: keras.Model
    student: TokenEncoder
    teacher: TokenEncoder
    teacher_layer: int
    swept: keras.Model
    unreached: list[Any]


class Given(NamedTuple):
    """The encoder that was given, which stays as it is.

    Attributes:
        encoder: itself; of a dual encoder its vision encoder.
        swept: the model whose layers are compared.
        num_layers: its blocks.
        prefix_tokens: tokens before those of the patches.
    """

    encoder: Any
    swept: keras.Model
    num_layers: int
    prefix_tokens: int


def given(encoder: Any) -> Given:
    """Returns what is known of an encoder, or says why it can't be aligned.

    Raises:
        TypeError: if it is no encoder that gives its layers.
        ValueError: as `LayeredEncoder`; or if it has LoRA, is quantised, or has weights
            of low precision.
    """
    if isinstance(encoder, PECore):
        encoder = encoder.vision_encoder
    if isinstance(encoder, keras.Model):
        _check_plain(encoder)
    if isinstance(encoder, PEVisionEncoder):
        return Given(encoder, encoder, encoder.num_layers, encoder.prefix_tokens)
    if not isinstance(encoder, keras.Model):
        raise TypeError(
            f"An encoder is a keras.Model, got {type(encoder).__name__}. Give a "
            f"PEVisionEncoder, a PECore, or a functional model that gives its layers."
        )
    if not isinstance(encoder, LayeredEncoder):
        encoder = LayeredEncoder(encoder)
    return Given(encoder, encoder.reader, encoder.num_layers, encoder.prefix_tokens)


def _check_plain(encoder: keras.Model) -> None:
    """Refuses weights of which no copy can be trained."""
    for layer in encoder._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                f"{encoder.name} has LoRA, and of its matrices no copy can be trained. "
                f"Merge them with merge_lora(), or align before enable_lora()."
            )
        if getattr(layer, "quantization_mode", None) is not None:
            raise ValueError(
                f"{encoder.name} is quantised ({layer.quantization_mode}), and such "
                f"weights can't be trained. Align it before quantize()."
            )
    check_precision(encoder.weights)


def copies(encoder: Any, layer: int) -> Subject:
    """Returns who learns and who teaches, with the encoder's weights.

    Args:
        encoder: of `Given`.
        layer: that teaches.
    """
    if isinstance(encoder, PEVisionEncoder):
        student = PESpatial.from_core(encoder, drop_path=DROP_PATH)
        teacher = encoder.truncate(layer)  # a copy, without the blocks behind it
        return Subject(student, student, teacher, -1, student, [])
    aligned, learner = encoder.copied()
    unreached = [v for v in learner.variables if v.name == "mask_token"]  # of DINOv2
    for variable in unreached:  # else weight decay would change them
        variable.trainable = False
    _, frozen = encoder.copied()
    return Subject(aligned, learner, frozen, layer, learner.reader, unreached)
