"""A dual encoder and all that prepares its inputs, from one preset.

Keras is imported where it is used: the command line answers --help without it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from keras_pe.models.core import PECore
    from keras_pe.preprocessing.image import PEImageConverter
    from keras_pe.preprocessing.tokenizer import PETokenizer


class PresetParts(NamedTuple):
    """A dual encoder and what prepares its inputs.

    Attributes:
        model: the dual encoder.
        tokenizer: of its texts.
        image_converter: of its images.
        metadata: what the preset says of itself.
        directory: of a preset in our own format, else None.
    """

    model: "PECore"
    tokenizer: "PETokenizer"
    image_converter: "PEImageConverter"
    metadata: dict[str, Any]
    directory: Path | None

    @property
    def class_matrix(self) -> "np.ndarray | None":
        """The vectors of the preset's own classes, if they were saved with it."""
        from keras_pe.preprocessing.prompts import known_classes
        from keras_pe.presets.class_vectors import read_class_vectors

        known = known_classes(self.metadata)
        if self.directory is None or known is None:
            return None
        return read_class_vectors(self.directory, self.metadata, *known)


def load_parts(
    preset: str | os.PathLike[str], dtype: Any = None, image_size: int | None = None
) -> PresetParts:
    """Loads a dual encoder with its tokenizer, converter and metadata.

    Args:
        preset: as of `PECore.from_preset`.
        dtype: as there.
        image_size: as there.

    Raises:
        CheckpointError: as `PECore.from_preset`; if the preset has no tokenizer or
            image converter.
        ValueError: if the preset's tokenizer is not that of its model.

    Example:
        >>> load_parts("pe_core_emoji_small_patch8_64").image_converter.image_size
        (64, 64)
    """
    from keras_pe.models.core import PECore
    from keras_pe.preprocessing.given_texts import check_tokenizer
    from keras_pe.preprocessing.image import PEImageConverter
    from keras_pe.preprocessing.tokenizer import PETokenizer
    from keras_pe.presets.checksums import read_metadata
    from keras_pe.presets.hub import resolve

    model = PECore.from_preset(preset, dtype=dtype, image_size=image_size)
    tokenizer = PETokenizer.from_preset(preset)
    check_tokenizer(tokenizer, model)
    size = {} if image_size is None else {"image_size": image_size}
    directory = resolve(preset, need="config").directory  # None for other formats
    return PresetParts(
        model,
        tokenizer,
        PEImageConverter.from_preset(preset, **size),
        {} if directory is None else read_metadata(directory),
        directory,
    )
