"""The rank of the best match of each query, without the whole similarity matrix."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

import numpy as np

from keras_pe.arrays import check_finite, checked_embeddings

CHUNK_SIZE = 1024
UNIT_LENGTH = "Give embeddings of unit length: products of these overflow."


class Matches:
    """Which texts belong to which images. Equal texts share their images.

    Args:
        num_images: how many images there are.
        images_of_text: for each text the place of its image, or of several.
        texts: one hashable a text; equal ones match the images of both, as in
            upstream `zeroshot_retrieval.py`. None: all texts differ.

    Raises:
        ValueError: if places or lengths do not fit, or something has no match.

    Example:
        >>> matches = Matches(2, [0, 1, 1], ["a cat", "a cat", "a dog"])
        >>> matches.of_texts(slice(0, 3)).astype(int)
        array([[1, 1],
               [1, 1],
               [0, 1]])
    """

    def __init__(
        self,
        num_images: int,
        images_of_text: Sequence[int | Sequence[int]] | np.ndarray,
        texts: Sequence[object] | None = None,
    ) -> None:
        num_texts = len(images_of_text)
        keys = range(num_texts) if texts is None else texts
        if len(keys) != num_texts:
            raise ValueError(
                f"Expected {num_texts} texts, one for each entry of images_of_text, "
                f"got {len(keys)}."
            )
        numbers: dict[object, int] = {}
        self.group_of_text = np.array(
            [numbers.setdefault(key, len(numbers)) for key in keys], "int64"
        )
        self.images_of_group: list[set[int]] = [set() for _ in numbers]
        self.groups_of_image: list[set[int]] = [set() for _ in range(num_images)]
        for text, images in enumerate(images_of_text):
            several = np.atleast_1d(np.asarray(images))
            if several.size and several.dtype.kind not in "iu":
                raise ValueError(f"Text {text} has images {images!r}: no places.")
            group = int(self.group_of_text[text])
            for image in several.tolist():
                if not 0 <= image < num_images:
                    raise ValueError(
                        f"Text {text} belongs to image {image}: expected 0 to "
                        f"{num_images - 1}."
                    )
                self.images_of_group[group].add(image)
                self.groups_of_image[image].add(group)
        for kind, found in (
            ("Text", [self.images_of_group[g] for g in self.group_of_text]),
            ("Image", self.groups_of_image),
        ):
            lonely = [place for place, other in enumerate(found) if not other]
            if lonely:
                raise ValueError(
                    f"{kind} {lonely[0]} has no match ({len(lonely)} of them): leave "
                    "it out, no rank is right for it."
                )

    def of_texts(self, rows: slice) -> np.ndarray:
        """Returns which images match some texts, bool `(rows, images)`."""
        groups = self.group_of_text[rows]
        match = np.zeros((len(groups), len(self.groups_of_image)), bool)
        for row, group in enumerate(groups):
            match[row, list(self.images_of_group[group])] = True
        return match

    def of_images(self, rows: slice) -> np.ndarray:
        """Returns which texts match some images, bool `(rows, texts)`."""
        found = self.groups_of_image[rows]
        match = np.zeros((len(found), len(self.images_of_group)), bool)
        for row, groups in enumerate(found):
            match[row, list(groups)] = True
        return match[:, self.group_of_text]


class Gallery:
    """Vectors to compare with; equal ones have equal products, to the last bit.

    BLAS adds up in another order at the edges of its blocks, so that products of equal
    vectors differ by their place: what ties would come first or last by chance. Equal
    vectors are therefore multiplied once.

    Args:
        vectors: float32 `(count, channels)`.

    Example:
        >>> Gallery(np.eye(2, dtype="float32")[[0, 1, 0]]).products(np.eye(2))
        array([[1., 0., 1.],
               [0., 1., 0.]])
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.place: np.ndarray | None = None  # of each one, among different ones
        sums = vectors.sum(axis=1)  # almost never equal where vectors are not
        if len(np.unique(sums)) == len(sums):
            return
        numbers: dict[bytes, int] = {}
        self.place = np.array(
            [
                numbers.setdefault(blake2b(row + 0.0, digest_size=16).digest(), number)
                for number, row in enumerate(vectors)
            ],
            "int64",
        )
        different, self.place = np.unique(self.place, return_inverse=True)
        self.vectors = vectors[different]

    def products(self, rows: np.ndarray) -> np.ndarray:
        """Returns the products of `(rows, channels)` with all, `(rows, count)`."""
        products = np.asarray(rows @ self.vectors.T)
        return products if self.place is None else products[:, self.place]


def match_ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    matches: Callable[[slice], np.ndarray],
    chunk_size: int = CHUNK_SIZE,
    dsl_scale: float | None = None,
) -> np.ndarray:
    """Ranks the best match of each query among all of the gallery.

    Args:
        queries: `(queries, channels)`, any floating dtype; computed in float32.
        gallery: `(gallery, channels)`, likewise.
        matches: gives, for rows of the queries, bool `(rows, gallery)`.
        chunk_size: rows of the similarity matrix held at once.
        dsl_scale: s of the re-weighting `scores * softmax(s * scores, axis=0)` over
            the queries, which makes a gallery entry choose among queries (dual
            softmax). It looks at all queries together, which a search engine cannot
            do. None: plain scores.

    Returns:
        int64 `(queries,)`; 0 is the first. Non-matches that tie come first, so a
        constant model finds nothing.

    Raises:
        ValueError: for a `chunk_size` below 1, a scale not above 0, or embeddings that
            are no floating-point numbers or of different lengths.
        NonFiniteError: naming the first query or gallery entry that is NaN or infinite,
            or the first query whose similarities overflow.

    Source: upstream `zeroshot_retrieval.py` (`reweight_retrieval`).

    Example:
        >>> same = Matches(3, [0, 1, 2])
        >>> match_ranks(np.eye(3), np.eye(3), same.of_texts)
        array([0, 0, 0])
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}.")
    if dsl_scale is not None and not 0 < dsl_scale < np.inf:
        raise ValueError(
            f"dsl_scale must be a number above 0, or None, got {dsl_scale}."
        )
    queries = checked_embeddings(queries, "queries", "query")
    gallery = checked_embeddings(gallery, "gallery", "entry")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} channels and gallery entries "
            f"{gallery.shape[1]}: embed both with the same model."
        )
    total = None
    if dsl_scale is not None:
        total = _log_sum_exp(queries, gallery, chunk_size, dsl_scale)  # (gallery,)
    ranks = np.empty(len(queries), np.int64)
    for rows, scores in _score_chunks(queries, gallery, chunk_size):
        if total is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                # In float32 the weights of most entries would be 0: ties that are none.
                wide = scores.astype("float64")
                scores = wide * np.exp(dsl_scale * wide - total)
            check_finite(scores, f"scores re-weighted by {dsl_scale}", "query")
        match = matches(rows)
        best = np.where(match, scores, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = ((scores >= best) & ~match).sum(axis=1)
    return ranks


def _score_chunks(
    queries: np.ndarray, gallery: np.ndarray, chunk_size: int
) -> Iterator[tuple[slice, np.ndarray]]:
    compared = Gallery(gallery)
    for start in range(0, len(queries), chunk_size):
        rows = slice(start, start + chunk_size)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = compared.products(queries[rows])  # (chunk, gallery)
        what = f"similarities of the queries from {start} on"
        yield rows, check_finite(scores, what, "query", hint=UNIT_LENGTH)


def _log_sum_exp(
    queries: np.ndarray, gallery: np.ndarray, chunk_size: int, scale: float
) -> np.ndarray:
    """Sums over the queries in one pass: the maximum so far, and the sum beside it."""
    highest = np.full(len(gallery), -np.inf)
    total = np.zeros(len(gallery))
    for _, scores in _score_chunks(queries, gallery, chunk_size):
        scaled = scale * scores.astype("float64")
        before, highest = highest, np.maximum(highest, scaled.max(axis=0))
        total = total * np.exp(before - highest)
        total += np.exp(scaled - highest).sum(axis=0)
    return np.asarray(highest + np.log(total))
