"""Images that stand in for a question's own, so that it can only be guessed."""

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from keras import ops

from keras_pe.probing.feature_store import Samples

IMAGES = "images"  # the store's column of what tells images apart
DIGEST = 16  # bytes


def image_digests(images: Any) -> np.ndarray:
    """Returns uint8 `(images, 16)`, the same for the same image."""
    found = [
        hashlib.blake2b(image.tobytes(), digest_size=DIGEST).digest()
        for image in (
            images if isinstance(images, np.ndarray) else ops.convert_to_numpy(images)
        )
    ]
    return np.frombuffer(b"".join(found), "uint8").reshape(-1, DIGEST)


def warn_of_shared_images(parts: Mapping[str, Samples]) -> None:
    """Warns of images that stand in several parts: their answers may be remembered.

    Args:
        parts: the samples of each, in the order of their use: training first.
    """
    before: dict[bytes, str] = {}
    for what, samples in parts.items():
        if IMAGES not in samples.store:
            return
        digests = [row.tobytes() for row in samples.store.take(IMAGES, samples.rows)]
        shared = [(n, before[x]) for n, x in enumerate(digests) if x in before]
        if shared:
            first, where = shared[0]
            warnings.warn(
                f"{len(shared)} of {len(digests)} {what} images were seen before, such "
                f"as number {first}, a {where} image: what is answered of them may be "
                f"remembered, and no layer's merit. Give sets of different images; an "
                f"image with several questions stands once in its set.",
                stacklevel=2,
            )
        before |= dict.fromkeys(digests, what)


class OtherImages:
    """Finds for each sample others of another image.

    Args:
        images: `(samples,)`, which image each one has, as numbers or digests; those
            that are equal have the same.
        what: which samples, for the error.

    Raises:
        ValueError: if all have the same.

    Example:
        >>> others = OtherImages(np.array([0, 0, 1]))
        >>> others.drawn(np.array([0, 1]), np.random.default_rng(0)).tolist()
        [2, 2]
    """

    def __init__(self, images: np.ndarray, what: str = "these") -> None:
        _, self._images, counts = np.unique(
            images, return_inverse=True, return_counts=True
        )
        if len(counts) < 2:
            raise ValueError(
                f"The {len(images)} {what} samples have one image in all: to tell what "
                f"is guessed, questions are asked about another image than their own. "
                f"Give two different ones or more."
            )
        self._counts = counts
        self._by_image = np.argsort(self._images, kind="stable")
        self._ends = np.cumsum(counts)

    @classmethod
    def of(cls, samples: Samples, what: str = "these") -> Self:
        """Returns those of samples; in a store without `IMAGES` all images differ."""
        if IMAGES not in samples.store:
            return cls(np.arange(len(samples)), what)
        digests = samples.store.take(IMAGES, samples.rows)
        return cls(np.ascontiguousarray(digests).view(f"V{DIGEST}").ravel(), what)

    def drawn(self, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns for each place any sample of another image, all equally likely."""
        image = self._images[places]
        steps = rng.integers(0, len(self._images) - self._counts[image])
        found = self._by_image[(self._ends[image] + steps) % len(self._images)]
        return np.asarray(found)

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        """Returns for each sample one of another image, each of them once.

        Where more than half of the samples have one image that can't be, and some come
        more often.
        """
        order = rng.permutation(len(self._images))
        ranks = rng.permutation(len(self._counts))
        # Those of an image side by side: as many steps on, another one's begin.
        order = order[np.argsort(ranks[self._images[order]], kind="stable")]
        found = np.empty_like(order)
        found[order] = np.roll(order, -self._counts.max())
        alike = np.flatnonzero(self._images[found] == self._images)
        found[alike] = self.drawn(alike, rng)
        return found
