"""Image-text retrieval: recall at k in both directions."""

from collections.abc import Sequence

import numpy as np


def retrieval_recall(  # both (pairs, channels), unit length
    image_embeddings: np.ndarray,
    text_embeddings: np.ndarray,
    captions: Sequence[object] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    chunk_size: int = 1024,
) -> dict[str, float]:
    """Returns how often a match is among the k nearest, both ways.

    Row i of one side belongs to row i of the other. Rows with equal captions count as
    each other's matches. The similarity matrix is never held whole.

    Args:
        image_embeddings: `(pairs, channels)`, unit length.
        text_embeddings: `(pairs, channels)`, unit length.
        captions: one hashable a pair; equal ones match each other. None: all differ.
        ks: the numbers of neighbours.
        chunk_size: rows of the similarity matrix held at once.

    Returns:
        `image_to_text_recall_at_1` and so on, shares of all pairs.

    Raises:
        ValueError: if the shapes do not fit together.

    Source: Perception Encoder, table 5 (COCO and Flickr retrieval).

    Example:
        >>> retrieval_recall(np.eye(4), np.eye(4), ks=(1,))
        {'image_to_text_recall_at_1': 1.0, 'text_to_image_recall_at_1': 1.0}
    """
    if image_embeddings.shape != text_embeddings.shape or image_embeddings.ndim != 2:
        raise ValueError(
            f"Expected two arrays (pairs, channels) of one shape, got "
            f"{image_embeddings.shape} and {text_embeddings.shape}."
        )
    pairs = len(image_embeddings)
    if captions is not None and len(captions) != pairs:
        raise ValueError(f"Expected {pairs} captions, one a pair, got {len(captions)}.")
    numbers: dict[object, int] = {}
    keys = range(pairs) if captions is None else captions
    groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    found = {}
    for name, queries, targets in (
        ("image_to_text", image_embeddings, text_embeddings),
        ("text_to_image", text_embeddings, image_embeddings),
    ):
        ranks = np.empty(pairs, np.int64)
        for start in range(0, pairs, chunk_size):
            rows = slice(start, start + chunk_size)
            similarities = queries[rows] @ targets.T  # (chunk, pairs)
            match = groups[rows, None] == groups[None, :]
            best = np.where(match, similarities, -np.inf).max(axis=1, keepdims=True)
            # Non-matches that tie come first: a constant model scores nothing.
            ranks[rows] = ((similarities >= best) & ~match).sum(axis=1)
        for k in ks:
            found[f"{name}_recall_at_{k}"] = float((ranks < k).mean())
    return found
