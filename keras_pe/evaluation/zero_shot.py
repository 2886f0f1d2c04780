"""Naming images with classes that the model was never trained on as such."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from keras import ops

from keras_pe.arrays import check_finite, check_sizes, checked_embeddings, softmax
from keras_pe.evaluation.equal_texts import (
    equal_classes,
    equal_groups,
    warn_of_equals,
)
from keras_pe.evaluation.ranks import UNIT_LENGTH
from keras_pe.models.core import PECore
from keras_pe.models.embedding import class_vectors, embed_images
from keras_pe.models.preset_parts import load_parts
from keras_pe.preprocessing.batches import ImageBatches, load_batches
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.prompts import (
    TEMPLATES,
    known_classes,
    prompt_templates,
)
from keras_pe.preprocessing.tokenizer import PETokenizer

# A short, general set; a data set of its own deserves templates of its own.
DEFAULT_TEMPLATES = TEMPLATES["general"]
EQUAL_CLASSES = (
    "They share their probability, and which of them comes first says nothing. Give "
    "them different names, or leave all but one out."
)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One class for one image.

    Attributes:
        name: the class.
        index: its place in `class_names`.
        probability: softmax over all classes of the scaled cosines.
        similarity: cosine between the image and the class.

    Example:
        >>> best = Prediction("an owl", index=0, probability=0.98, similarity=0.64)
        >>> best.name, best.probability > 0.5
        ('an owl', True)
    """

    name: str
    index: int
    probability: float
    similarity: float


class ZeroShotClassifier:
    """Classifies images by comparing them with the texts of the classes.

    Each class is the average of its prompts' embeddings, all of unit length. The
    class matrix is computed once, here. Classes that are one to the model, such as
    "owl" and "OWL ", are named in a warning.

    Args:
        model: a `PECore`.
        tokenizer: the model's `PETokenizer`.
        class_names: names of the classes.
        templates: prompts, each with one `{}` or `{c}` for the class name, as
            `read_templates` gives them; or the name of a list in
            `keras_pe.evaluation.TEMPLATES`. None takes a short general set.
        image_converter: how files and arrays become model input; None makes one for
            the model's own image size.
        batch_size: images and texts a forward pass. A last partial batch is
            padded, so there is one compilation for each size of image.
        class_matrix: `(classes, output_dim)`, vectors of the classes of unit length
            that were computed before with these names and templates; None computes
            them.

    Raises:
        ValueError: if there are no classes, a template has no `{}`, or the tokenizer
            is that of another model.
        TypeError: if the model or the tokenizer is something else.

    Source: Perception Encoder, appendix B.1.2; upstream `zeroshot_classification.py`.

    Example:
        >>> from importlib.resources import files
        >>> model = PECore.from_preset("pe_core_emoji_patch8_64")
        >>> tokenizer = PETokenizer.from_preset("pe_core_emoji_patch8_64")
        >>> classifier = ZeroShotClassifier(model, tokenizer, ["owl", "guitar"])
        >>> folder = files("keras_pe") / "cli" / "demo_images"
        >>> classifier.predict([folder / "owl.png"])[0][0].name
        'owl'
    """

    def __init__(
        self,
        model: PECore,
        tokenizer: PETokenizer,
        class_names: Sequence[str],
        templates: str | Sequence[str] | None = None,
        image_converter: PEImageConverter | None = None,
        batch_size: int = 32,
        class_matrix: np.ndarray | None = None,
    ) -> None:
        _check_kinds(model, tokenizer)
        names = checked_class_names(class_names)
        prompts = (
            DEFAULT_TEMPLATES if templates is None else prompt_templates(templates)
        )
        check_sizes(batch_size=batch_size)
        self.model = model
        self.tokenizer = tokenizer
        self.class_names = names
        self.templates = prompts
        self.image_converter = image_converter or PEImageConverter(
            image_size=model.vision_encoder.image_size
        )
        self.batch_size = batch_size
        if class_matrix is None:
            class_matrix, _ = class_vectors(
                model, tokenizer, names, prompts, batch_size
            )
        if class_matrix.shape != (len(names), model.output_dim):
            raise ValueError(
                f"class_matrix must have shape ({len(names)}, {model.output_dim}), one "
                f"vector a class, got {class_matrix.shape}."
            )
        self.class_matrix = checked_embeddings(
            class_matrix, "class_matrix", "class", names
        )
        first = equal_classes(tokenizer, names, prompts, self.class_matrix)
        warn_of_equals("class names", names, equal_groups(first), EQUAL_CLASSES)
        self.logit_scale = float(ops.convert_to_numpy(model.clamped_logit_scale()))

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        class_names: Sequence[str] | None = None,
        templates: str | Sequence[str] | None = None,
        *,
        dtype: Any = None,
        image_size: int | None = None,
        batch_size: int = 32,
    ) -> Self:
        """Loads a dual encoder, its tokenizer and converter, and embeds the classes.

        Args:
            preset: as of `PECore.from_preset`.
            class_names: names of the classes; None for those that the preset knows.
            templates: as of this class. None takes the preset's own where it has some,
                then a short general set.
            dtype: as of `PECore.from_preset`.
            image_size: as of `PECore.from_preset`.
            batch_size: as of this class.

        Raises:
            CheckpointError: as `PECore.from_preset`; if the preset is no dual encoder.
            ValueError: if the preset knows no classes and none are given.

        Example:
            >>> from importlib.resources import files
            >>> classifier = ZeroShotClassifier.from_preset(
            ...     "pe_core_emoji_small_patch8_64", ["owl", "guitar"])
            >>> folder = files("keras_pe") / "cli" / "demo_images"
            >>> classifier.predict(folder / "guitar.png")[0][0].name
            'guitar'
        """
        parts = load_parts(preset, dtype, image_size)
        known = known_classes(parts.metadata, os.fspath(preset))
        matrix = None
        if class_names is None:
            if known is None:
                raise ValueError(
                    f"{os.fspath(preset)} knows no classes of its own, and no "
                    f'class_names were given. Name some, such as ["a cat", "a dog"].'
                )
            class_names = known[0]
            if templates is None:
                matrix = parts.class_matrix
        if templates is None and known is not None:
            templates = known[1]
        return cls(
            parts.model,
            parts.tokenizer,
            class_names,
            templates,
            parts.image_converter,
            batch_size,
            class_matrix=matrix,
        )

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.class_names[:3]))
        more = ", ..." if len(self.class_names) > 3 else ""
        return (
            f"ZeroShotClassifier({self.model.name}, {len(self.class_names)} classes: "
            f"{shown}{more})"
        )

    def similarities(self, images: Any) -> np.ndarray:
        """Returns the cosines of prepared images with all classes.

        Args:
            images: `(count, height, width, 3)` in [-1, 1].

        Returns:
            float32 `(count, classes)`.
        """
        return embed_images(self.model, images, self.batch_size) @ self.class_matrix.T

    def predict(
        self, images: Any, top_k: int = 5, progress: bool = False
    ) -> list[list[Prediction]]:
        """Returns the best classes of each image, best first.

        Args:
            images: one image or several: paths, PIL images or uint8 arrays.
            top_k: classes to return for each; at most the number of classes.
            progress: whether a progress bar is shown.

        Returns:
            One list of `Prediction` an image, in the order given.

        Raises:
            ValueError: if `top_k` is no whole number above 0.
            ImageError: if an image can't be read.
        """
        check_sizes(top_k=top_k)
        batches = load_batches(
            images,
            self.image_converter,
            self.batch_size,
            on_error="raise",
            progress=progress,
        )
        return [best for _, best in self.predict_batches(batches, top_k)]

    def predict_batches(
        self, batches: ImageBatches, top_k: int = 5
    ) -> Iterator[tuple[int, list[Prediction]]]:
        """Yields (place in the list of images, its best classes) as they come.

        Args:
            batches: from `load_batches`; its `report` names what it skipped.
            top_k: classes to return for each image.

        Raises:
            NonFiniteError: if the model gives NaN or infinity for an image.
        """
        for indices, images in batches:
            names = [f"number {place} of those given" for place in indices]
            embeddings = embed_images(self.model, images, self.batch_size, names)
            best = self.predict_embeddings(embeddings, top_k)
            yield from zip(map(int, indices), best, strict=True)

    def predict_embeddings(
        self, embeddings: np.ndarray, top_k: int = 5
    ) -> list[list[Prediction]]:
        """Returns the best classes of images that are embedded already.

        Args:
            embeddings: `(count, output_dim)`, of unit length.
            top_k: classes to return for each.

        Raises:
            ValueError: if embeddings are no floating-point numbers or of another shape,
                or `top_k` is no whole number above 0.
            NonFiniteError: naming the first image that is NaN or infinite.
        """
        embeddings = checked_embeddings(embeddings, "embeddings", "image")
        if embeddings.shape[1] != self.class_matrix.shape[1]:
            raise ValueError(
                f"Expected embeddings (images, {self.class_matrix.shape[1]}), got "
                f"{embeddings.shape}. Embed the images with the classifier's model."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            similarities = embeddings @ self.class_matrix.T
        check_finite(similarities, "similarities", "image", hint=UNIT_LENGTH)
        return self._best(similarities, top_k)

    def _best(self, similarities: np.ndarray, top_k: int) -> list[list[Prediction]]:
        check_sizes(top_k=top_k)
        probabilities = softmax(self.logit_scale * similarities)
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :top_k]
        return [
            [
                Prediction(
                    self.class_names[index],
                    int(index),
                    float(probabilities[row, index]),
                    float(similarities[row, index]),
                )
                for index in best
            ]
            for row, best in enumerate(order)
        ]


def _check_kinds(model: Any, tokenizer: Any) -> None:
    """Refuses a name, or the two in the wrong order."""
    for name, given, cls in (
        ("model", model, PECore),
        ("tokenizer", tokenizer, PETokenizer),
    ):
        if not isinstance(given, cls):
            raise TypeError(
                f"{name} must be a {cls.__name__}, got {type(given).__name__}. The "
                f"order is ZeroShotClassifier(model, tokenizer, class_names), each of "
                f"the first two from its class's from_preset."
            )


def checked_class_names(class_names: Sequence[str]) -> list[str]:
    """Returns the names of classes as a list.

    Raises:
        ValueError: if there are none, or one can't stand in a prompt.

    Example:
        >>> checked_class_names(("a cat", "a dog"))
        ['a cat', 'a dog']
    """
    names = [] if isinstance(class_names, str) else list(class_names)
    if not names:
        raise ValueError(
            f"class_names must be a list of at least one name, got "
            f'{class_names!r:.80}. For example ["a cat", "a dog"].'
        )
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                f"class_names[{place}] is {name!r:.80}, expected a name that can stand "
                f'in a prompt, such as "a cat".'
            )
    return names
