"""Zero-shot classes image by image: whether a fine-tuning still names them."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.evaluation.datasets.types import Labelled
from keras_pe.models.core import PECore
from keras_pe.models.embedding import class_vectors, embed_images
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.prompts import known_classes, prompt_templates
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.presets.checksums import read_metadata
from keras_pe.presets.hub import resolve

ACCURACY = "accuracy"  # share of images that get their class, in points


@dataclasses.dataclass(frozen=True)
class ClassEmbeddings:
    """Images and classes as a model sees them.

    Attributes:
        images: float32 `(images, channels)`, of unit length.
        classes: float32 `(classes, channels)`, likewise.
        labels: int `(images,)`, the class of each image.
    """

    images: np.ndarray
    classes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


class ClassScores:
    """Zero-shot accuracy of a model whose weights change.

    Args:
        data: images and their classes.
        model: scored as it is at each call.
        tokenizer: its tokenizer.
        templates: prompts of the classes, with one `{}` each.
        batch_size: images and texts in a forward pass.

    Raises:
        ValueError: if there are no images.

    Example:
        >>> from importlib.resources import files
        >>> folder = files("keras_pe") / "cli" / "demo_images"
        >>> data = Labelled((folder / "owl.png", folder / "pizza.png"), (0, 1),
        ...     ("owl", "pizza"))
        >>> preset = "pe_core_emoji_small_patch8_64"
        >>> scores = ClassScores(data, PECore.from_preset(preset),
        ...     PETokenizer.from_preset(preset), templates_of(preset))
        >>> class_hits(scores.embeddings())
        {'accuracy': array([ True,  True])}
    """

    def __init__(
        self,
        data: Labelled,
        model: PECore,
        tokenizer: PETokenizer,
        templates: tuple[str, ...],
        batch_size: int = 32,
    ) -> None:
        if not len(data):
            raise ValueError("There are no images to score zero-shot classes on.")
        self.data, self.model = data, model
        # A copy: the run's own goes on telling of texts that are cut.
        config = {**tokenizer.get_config(), "on_truncation": "ignore"}
        self.tokenizer = PETokenizer.from_config(config)
        self.templates, self.batch_size = templates, batch_size
        self.converter = PEImageConverter(model.vision_encoder.image_size)

    def embeddings(self) -> ClassEmbeddings:
        """Returns images and classes as the model sees them now.

        Raises:
            ImageError: naming the first image that can't be read.
        """
        batches = load_batches(
            self.data.samples,
            self.converter,
            self.batch_size,
            on_error="raise",
            progress=False,
        )
        images = [
            embed_images(self.model, prepared, self.batch_size)
            for _, prepared in batches
        ]
        classes, _ = class_vectors(
            self.model,
            self.tokenizer,
            list(self.data.class_names),
            self.templates,
            self.batch_size,
        )
        return ClassEmbeddings(
            np.concatenate(images), classes, np.array(self.data.labels)
        )


def class_hits(embeddings: ClassEmbeddings) -> dict[str, np.ndarray]:
    """Returns which images get their class.

    Args:
        embeddings: images, classes and labels.

    Returns:
        By name of the score: bool `(images,)`.

    Example:
        >>> found = ClassEmbeddings(np.eye(2), np.eye(2), np.array([0, 0]))
        >>> class_hits(found)
        {'accuracy': array([ True, False])}
    """
    given = (embeddings.images @ embeddings.classes.T).argmax(axis=1)
    return {ACCURACY: given == embeddings.labels}


def templates_of(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """Returns a preset's own prompts; a short general set where it has none.

    Args:
        source: a preset, or a file of weights, which has none.

    Example:
        >>> templates_of("pe_core_emoji_small_patch8_64")[2]
        'an emoji of {}'
    """
    known: Any = None
    if not Path(source).is_file():
        directory = resolve(source, need="config").directory
        if directory is not None:
            known = known_classes(read_metadata(directory), os.fspath(source))
    return tuple(prompt_templates("general") if known is None else known[1])
