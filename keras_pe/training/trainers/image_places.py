"""Whether packed rows have places for their images, and can be read."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_pe.data.packing import BRANCH


@dataclasses.dataclass(frozen=True)
class ImagePlaces:
    """Looks at one batch of packed rows; can be sent to another process.

    Rows are made for images of one size. With another size an answer would be learned
    from a part of its image, or from another document's.

    Attributes:
        patch_size: pixels, of the encoder.
        pooling: side of the squares of patches that become one token.
        branches: whether the decoder reads positions, so that documents may branch.

    Example:
        >>> slots = np.array([[0, 1, 2, 3, 4, 0]], "int32")
        >>> batch = {"image_slots": slots, "documents": np.ones((1, 6), "int32"),
        ...     "images": np.zeros((1, 1, 16, 16, 3), "float32")}
        >>> ImagePlaces(8, 1)(batch)
    """

    patch_size: int
    pooling: int
    branches: bool = True

    def __call__(self, arrays: Mapping[str, Any]) -> None:
        """Raises ValueError if images have more or fewer tokens than places in rows.

        Or if documents branch that may not, numbers are negative, or weights are not
        finite. What lies on an accelerator is not
        looked at.
        """
        slots, documents = arrays.get("image_slots"), arrays.get("documents")
        shape: tuple[int, ...] = tuple(getattr(arrays.get("images"), "shape", ()))
        if len(shape) != 5 or not isinstance(slots, np.ndarray):
            return
        if not isinstance(documents, np.ndarray) or documents.shape != slots.shape:
            return
        weights = arrays.get("answer_weights")
        if isinstance(weights, np.ndarray) and not (
            np.isfinite(weights).all() and weights.min(initial=0) >= 0
        ):
            raise ValueError(
                "answer_weights must be finite and at least 0: 1 for a token that is "
                "to be learned, 0 for none."
            )
        for name, numbers in (("image_slots", slots), ("documents", documents)):
            if numbers.min(initial=0) < 0:
                raise ValueError(
                    f"{name} count from 0, got {numbers.min()}. Make rows with "
                    f"keras_pe.data.packing.packed_row."
                )
        if not self.branches and documents.max(initial=0) >= BRANCH:
            raise ValueError(
                "Documents branch (questions that do not see each other), and this "
                "decoder reads no positions. Join them by Prompt.conversation, or give "
                "a SmallDecoder."
            )
        side = self.patch_size * self.pooling
        tokens = (shape[2] // side) * (shape[3] // side)
        row, place = np.nonzero(slots)
        owner = documents[row, place].astype("int64") % BRANCH
        _, counts = np.unique(np.stack([row, owner]), axis=1, return_counts=True)
        wrong = counts[counts % tokens != 0] if tokens else counts
        if len(wrong) or (slots.max(initial=0) > shape[1] * tokens):
            found = int(wrong[0]) if len(wrong) else int(slots.max())
            raise ValueError(
                f"Images of {shape[2]}x{shape[3]} pixels have {tokens} tokens each, "
                f"and rows have {found} places for those of "
                f"{'a document' if len(wrong) else f'{shape[1]} images'}. Make the "
                f"prompt with image_tokens={tokens}, or give images of the size that "
                f"it was made for."
            )
