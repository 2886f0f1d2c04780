"""Documents of many lengths in rows of one: packed, with what tells them apart."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_sizes, is_whole

LOOK_AHEAD = 256  # documents that wait for a row that they fit
BRANCH = 2**16  # a token's number in `documents`: its document, and BRANCH x its branch


@dataclasses.dataclass(frozen=True)
class Document:
    """A sequence of tokens, some of them images' and some of them answers'.

    Attributes:
        token_ids: int32 `(tokens,)`; where an image's tokens stand, anything.
        answer: bool `(tokens,)`: true for tokens that are to be learned.
        image: bool `(tokens,)`: true for tokens that an image gives. All three may be
            lists.
        source: what it was made of, for errors.
        branches: int `(tokens,)`, where a document branches: 0 for its trunk, which
            comes first, and 1, 2, ... for the tokens of each branch, which see the
            trunk and their own, as if there were no other. None for a trunk alone.
    """

    token_ids: np.ndarray
    answer: np.ndarray
    image: np.ndarray
    source: str = "a document"
    branches: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("token_ids", "answer", "image", "branches"):  # lists will do
            given = getattr(self, name)
            if given is not None or name != "branches":
                object.__setattr__(self, name, np.asarray(given))
        shapes = {np.shape(x) for x in (self.token_ids, self.answer, self.image)}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1 or not len(self.token_ids):
            raise ValueError(
                f"{self.source}: ids, answer and image must be one a token, got "
                f"{sorted(shapes)}."
            )
        kinds = [x.dtype.kind for x in (self.answer, self.image)]
        if self.token_ids.dtype.kind not in "iu" or kinds != ["b", "b"]:
            raise ValueError(
                f"{self.source}: ids must be whole numbers, answer and image True or "
                f"False."
            )
        words = self.token_ids[~self.image]
        if len(words) and not 0 <= int(words.min()) <= int(words.max()) < 2**31:
            raise ValueError(
                f"{self.source}: ids of words are from 0 to {2**31 - 1}, got "
                f"{int(words.min())} to {int(words.max())}."
            )
        if bool(self.answer[0]) or bool((self.answer & self.image).any()):
            raise ValueError(
                f"{self.source}: neither its first token nor an image's can be an "
                f"answer: nothing stands before the one, and the other has no id."
            )
        if self.branches is not None:
            self._check_branches(self.branches)

    def _check_branches(self, branches: np.ndarray) -> None:
        whole = branches.dtype.kind in "iu" and branches.shape == self.token_ids.shape
        steps = np.diff(branches.astype("int64")) if whole else None
        if steps is None or branches[0] != 0 or not np.isin(steps, (0, 1)).all():
            raise ValueError(
                f"{self.source}: branches must be a number a token, 0 for the first "
                f"ones, then 1, 2, ..., each once and in this order, got {branches}."
            )
        own = np.flatnonzero(steps) + 1  # where each branch begins
        if bool(self.answer[own].any()) or len(own) * BRANCH >= 2**31:
            raise ValueError(
                f"{self.source}: a branch begins with a token that is no answer, and "
                f"there are fewer than {2**31 // BRANCH}."
            )

    @property
    def positions(self) -> np.ndarray:
        """The position of each token, int32 `(tokens,)`: each branch follows the trunk.

        Example:
            >>> ids, no = np.zeros(5, int), np.zeros(5, bool)
            >>> Document(ids, no, no, branches=np.array([0, 0, 1, 1, 2])).positions
            array([0, 1, 2, 3, 2], dtype=int32)
        """
        places = np.arange(len(self), dtype="int32")
        if self.branches is None:
            return places
        trunk = int((self.branches == 0).sum())
        _, begin = np.unique(self.branches, return_index=True)
        begin[1:] -= trunk
        return (places - begin[self.branches]).astype("int32")

    def __len__(self) -> int:
        return len(self.token_ids)


def pack_documents(
    documents: Iterable[Document],
    length: int,
    look_ahead: int = LOOK_AHEAD,
    image_tokens: int | None = None,
    slots: int | None = None,
    mixed: bool = False,
) -> Iterator[list[Document]]:
    """Yields rows of documents that fit together, each document once.

    A row begins with the document that has waited longest; of the others the largest
    that fits comes next, so that a row is nearly full: more than 95 % where some
    documents are short.

    Args:
        documents: in any order.
        length: most tokens of a row.
        look_ahead: how many documents wait at a time.
        image_tokens: most tokens of images of a row; None for any number.
        slots: most tokens of answers of a row; None for any number.
        mixed: whether the next one is not the largest but the one whose length is
            nearest to the share of the room that an image has. Where images are few a
            row, long documents else fill rows of few images, and short ones reach the
            limit in rows that are half empty.

    Yields:
        the documents of a row.

    Raises:
        ValueError: if a document alone is more than a row holds.

    Example:
        >>> def of(n): return Document(np.zeros(n, int), *np.zeros((2, n), bool))
        >>> [list(map(len, r)) for r in pack_documents(map(of, [3, 6, 5, 2, 2]), 8)]
        [[3, 5], [6, 2], [2]]
    """
    check_sizes(length=length, look_ahead=look_ahead)
    for name, limit in (("image_tokens", image_tokens), ("slots", slots)):
        if limit is not None and (not is_whole(limit) or limit < 0):
            raise ValueError(
                f"{name} must be a whole number of at least 0, or None for any, got "
                f"{limit!r}."
            )
    most = np.array(
        [length, *(length if most is None else most for most in (image_tokens, slots))]
    )
    source = iter(documents)
    waiting: list[Document] = []
    needs = np.zeros((0, 3), int)
    while True:
        fresh = list(itertools.islice(source, look_ahead - len(waiting)))
        waiting += fresh
        new = [_checked_needs(document, most) for document in fresh]
        needs = np.concatenate([needs, np.array(new, int).reshape(-1, 3)])
        if not waiting:
            return
        row = [0]  # the oldest, so that none waits for ever
        room = most - needs[0]
        free = np.arange(len(waiting)) > 0
        while (fits := np.flatnonzero(free & (needs <= room).all(axis=1))).size:
            chosen = fits[_next(needs[fits], room, mixed)]
            row.append(int(chosen))
            room = room - needs[chosen]
            free[chosen] = False
        yield [waiting[place] for place in row]
        left = np.flatnonzero(free)
        waiting, needs = [waiting[place] for place in left], needs[left]


def _next(needs: np.ndarray, room: np.ndarray, mixed: bool) -> int:
    """Returns which of the documents that fit comes next."""
    lengths, shown = needs[:, 0], needs[:, 1]
    if not mixed or not shown.any():
        return int(np.argmax(lengths))
    images = max(room[1] // shown.max(), 1)
    return int(np.argmin(np.abs(lengths - room[0] / images)))


def _checked_needs(document: Document, most: np.ndarray) -> np.ndarray:
    """Returns a document's tokens, those of images and those of answers.

    Raises:
        ValueError: if one of them is more than a row holds.
    """
    shown, answered = int(document.image.sum()), int(document.answer.sum())
    needs = np.array([len(document), shown, answered])
    if (needs > most).any():
        kinds = ("tokens", "tokens of images", "tokens of answers")
        kind = int(np.argmax(needs > most))
        raise ValueError(
            f"{document.source} has {needs[kind]} {kinds[kind]}, more than a row of "
            f"{most[kind]}. Give longer rows, or shorten it."
        )
    return needs


def packed_row(row: Sequence[Document], length: int, slots: int) -> dict[str, Any]:
    """Returns the arrays of a row; what is left of it is padding.

    Args:
        row: documents, `length` tokens at most.
        length: tokens of a row.
        slots: most tokens of answers of a row.

    Returns:
        `token_ids`, `positions`, `documents`, `image_slots`, each `(length,)`, and
        `answer_places`, `answer_ids`, `answer_weights`, each `(slots,)`. Positions
        count from 0 in each document; documents from 1, 0 for padding, and where one
        branches `BRANCH` times the branch is added; image slots are
        1, 2, ... in their order in the row, 0 for what is none. An answer's place is
        that of the token before it, whose output tells it.

    Raises:
        ValueError: if the row is too long, or has more tokens of answers than slots.
    """
    tokens = sum(map(len, row))
    answers = sum(int(document.answer.sum()) for document in row)
    if tokens > length or answers > slots:
        raise ValueError(
            f"A row holds {length} tokens and {slots} of answers, got {tokens} and "
            f"{answers}, of {', '.join(document.source for document in row)}."
        )
    if len(row) >= BRANCH:
        raise ValueError(f"A row holds fewer than {BRANCH} documents, got {len(row)}.")
    ids = np.zeros(length, "int32")
    positions, numbers, images = np.zeros((3, length), "int32")
    places, targets = np.zeros((2, slots), "int32")
    weights = np.zeros(slots, "float32")
    start = slot = 0
    for number, document in enumerate(row, 1):
        here = slice(start, start + len(document))
        ids[here] = np.where(document.image, 0, document.token_ids)
        numbers[here] = number
        if document.branches is not None:
            numbers[here] += BRANCH * document.branches.astype("int32")
        positions[here] = document.positions
        images[here] = document.image
        found = np.flatnonzero(document.answer)
        taken = slice(slot, slot + len(found))
        places[taken], targets[taken] = start + found - 1, document.token_ids[found]
        weights[taken] = 1.0
        start, slot = start + len(document), slot + len(found)
    return {
        "token_ids": ids,
        "positions": positions,
        "documents": numbers,
        "image_slots": np.where(images, np.cumsum(images), 0).astype("int32"),
        "answer_places": places,
        "answer_ids": targets,
        "answer_weights": weights,
    }
