"""What a mask teacher said, kept on disk; and masks made before a step is run."""

import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from keras_pe.arrays import check_finite, check_sizes
from keras_pe.files import FilePath, check_directory_target, write_atomically
from keras_pe.training.teachers.digest import weights_digest
from keras_pe.training.teachers.given import check_answer, given_grid, given_images

DIGEST_BYTES = hashlib.sha256().digest_size
LARGEST = float(np.finfo(np.float16).max)

_log = logging.getLogger(__name__)


class CachedTeacher:
    """Asks a teacher once for each image, and keeps its answers in a folder.

    An answer is found again by the image's content, the grid and the teacher, so that
    one folder may serve several teachers, and several processes at the same time. It
    helps where images come again as they were: drawn augmentation makes each one new,
    and the folder then grows with every step. Nothing is ever removed from it.

    Answers are float16: 2 MB for 1,024 masks of 1,024 patches. It can't be part of a
    step that is compiled: `with_mask_rows` calls it before one.

    Args:
        teacher: `(images, grid) -> (batch, rows, columns, points)`, such as
            `SamTeacher`.
        directory: where answers are kept; made if it is missing.
        name: what stands for the teacher in the keys. None takes its class, its
            settings (numbers, texts and arrays, also in lists and dictionaries) and a
            hash of the weights of its `models`, as they are now, which a plain function
            has not.

    Raises:
        TypeError: if `teacher` is no function.
        ValueError: if a function, or a teacher with settings of another kind, comes
            without a name, or `directory` is a file.
        OSError: if `directory` can't be written to.

    Example:
        >>> def halves(images, grid):    # a SamTeacher takes seconds an image
        ...     print("asked")
        ...     return np.ones((len(images), *grid, 2), "float32")
        >>> teacher = CachedTeacher(halves, "masks", name="halves")
        >>> images = np.zeros((2, 32, 32, 3), "float32")
        >>> tuple(teacher(images, grid=(4, 4)).shape)
        asked
        (2, 4, 4, 2)
        >>> tuple(teacher(images, grid=(4, 4)).shape)    # out of the folder
        (2, 4, 4, 2)
    """

    def __init__(
        self,
        teacher: Callable[[Any, tuple[int, int]], Any],
        directory: FilePath,
        name: str | None = None,
    ) -> None:
        if not callable(teacher):
            raise TypeError(
                f"teacher must be a function (images, grid) -> masks, such as a "
                f"SamTeacher, got {teacher!r}."
            )
        check_directory_target(directory)
        self.teacher, self.directory = teacher, Path(directory)
        self.name = _name_of(teacher) if name is None else name

    @property
    def models(self) -> tuple[Any, ...]:
        """What the teacher is made of; no part of a run's checkpoint."""
        return tuple(getattr(self.teacher, "models", ()))

    def __call__(self, images: Any, grid: tuple[int, int]) -> Any:
        """Returns `(batch, rows, columns, points)`, float32 numbers that float16 holds.

        Raises:
            TypeError: inside a step that is compiled.
            NonFiniteError: if images or the teacher's answer hold NaN or infinity.
            ValueError: if images, grid or answer are none, see `given.py`, or the
                folder has answers of another teacher under this one's name.
            OSError: if an answer can't be read or written.
        """
        images, grid = given_images(images), given_grid(grid)
        try:
            pixels = np.ascontiguousarray(ops.convert_to_numpy(images))
        except Exception as error:  # each backend has its own
            raise TypeError(
                f"A cache needs images, and here are none yet: a step is being "
                f"compiled. Make the masks before it, with with_mask_rows. ({error})"
            ) from error
        paths = [self._path(image, grid) for image in pixels]
        answers = {path: _read(path, grid) for path in paths}
        if any(answer is None for answer in answers.values()):
            # The whole batch: another number of images would be compiled anew.
            made = ops.convert_to_numpy(self.teacher(images, grid))
            check_answer(made, len(pixels), grid)
            check_finite(made, "masks of the teacher", "image")
            rounded = np.clip(made, -LARGEST, LARGEST).astype("<f2")
            for path, answer in zip(paths, rounded, strict=True):
                if answers[path] is None:
                    answers[path] = answer
                    _write(path, answer)
        found: Any = [answers[path] for path in paths]
        points = sorted({answer.shape[-1] for answer in found})
        if len(points) > 1:
            raise ValueError(
                f"{self.directory} has answers of {' and of '.join(map(str, points))} "
                f"points to the name {self.name!r:.80}: another teacher gave some of "
                f"them. Give each its own name, or another folder."
            )
        return ops.convert_to_tensor(np.stack(found), "float32")

    def _path(self, image: np.ndarray, grid: tuple[int, int]) -> Path:
        about = [self.name, list(grid), image.dtype.str, list(image.shape)]
        digest = hashlib.sha256(json.dumps(about).encode())
        digest.update(image.tobytes())
        key = digest.hexdigest()
        # In 256 folders: one with a million names is slow on some file systems.
        return self.directory / key[:2] / f"{key[2:]}.npy"


def with_mask_rows(
    batches: Iterable[Any],
    teacher: Callable[[Any, tuple[int, int]], Any],
    patch_size: int,
) -> "MaskedBatches":
    """Returns batches with `mask_rows`, made before the step that reads them.

    For teachers that can't be compiled along, such as a `CachedTeacher`, or take too
    long to compile. The teacher sees the images of the batch, augmented as they are, so
    that masks and images have the same geometry.

    Args:
        batches: dictionaries with `images` `(batch, height, width, 3)` in [-1, 1], or
            tuples whose first element is one. Iterated over anew each time.
        teacher: `(images, grid) -> (batch, rows, columns, points)`.
        patch_size: the student's, in pixels.

    Returns:
        an iterable over the same batches, with `mask_rows`, float32 NumPy
        `(batch, patches, points)`.

    Raises:
        ValueError: if the patches have no size; as it is iterated over, if a batch has
            no images that make whole patches, or masks already, or the teacher's
            answer is none.
        NonFiniteError: as it is iterated over, if the answer holds NaN or infinity.

    Example:
        >>> def halves(images, grid):
        ...     return np.ones((len(images), *grid, 2), "float32")
        >>> batches = [{"images": np.zeros((2, 32, 32, 3), "float32")}]
        >>> for batch in with_mask_rows(batches, halves, patch_size=8):
        ...     batch["mask_rows"].shape
        (2, 16, 2)
    """
    check_sizes(patch_size=patch_size)
    return MaskedBatches(batches, teacher, patch_size)


class MaskedBatches:
    """What `with_mask_rows` returns: an iterable that starts anew each time."""

    def __init__(
        self,
        batches: Iterable[Any],
        teacher: Callable[[Any, tuple[int, int]], Any],
        patch_size: int,
    ) -> None:
        self.batches, self.teacher, self.patch_size = batches, teacher, patch_size

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            if isinstance(batch, tuple):
                yield (self._with_rows(batch[0]), *batch[1:])
            else:
                yield self._with_rows(batch)

    def _with_rows(self, batch: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(batch, dict) or "images" not in batch:
            found = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
            raise ValueError(
                f"Masks are made of the images in a dictionary of arrays, got a batch "
                f"of {found}."
            )
        if "mask_rows" in batch:
            raise ValueError(
                f"A batch has mask_rows already, got {sorted(batch)}. Leave them out, "
                f"or train on them without with_mask_rows."
            )
        images = given_images(batch["images"])
        height, width = images.shape[1:3]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"Images of {height}x{width} pixels have no whole patches of "
                f"{self.patch_size}: give sizes that it divides."
            )
        grid = (height // self.patch_size, width // self.patch_size)
        masks = ops.convert_to_numpy(self.teacher(images, grid))
        check_answer(masks, len(images), grid)
        check_finite(masks, "masks of the teacher", "image")
        rows = masks.reshape(len(masks), grid[0] * grid[1], -1)
        return {**batch, "mask_rows": rows.astype("float32", copy=False)}


# === Who answers ===
def _name_of(teacher: Any) -> str:
    """Returns what tells a teacher's answers from another's: all that decides them."""
    models = getattr(teacher, "models", None)
    if models is None:
        raise ValueError(
            "Nothing tells the answers of this teacher from those of another: it has "
            "no `models`. Give a name, and another one whenever it changes."
        )
    held = {id(model) for model in models}
    settings = {
        key: value
        for key, value in sorted(vars(teacher).items())
        if id(value) not in held and key not in ("chunk", "models")
    }
    weights = [weights_digest(model) for model in models]
    parts = [[_about(layer) for layer in m._flatten_layers()] for m in models]
    about = [type(teacher).__qualname__, settings, weights, parts]
    return json.dumps(about, default=_array_digest)


def _about(layer: Any) -> list[str]:
    """Returns what a layer does beside its weights: its kind, dtype and activation."""
    activation = getattr(layer, "activation", None)
    return [
        type(layer).__qualname__,
        layer.dtype_policy.name,
        getattr(activation, "__name__", type(activation).__name__),
    ]


def _array_digest(value: Any) -> list[Any]:
    """Returns what stands for an array in a key, for `json`.

    Raises:
        ValueError: for what is no array: its text may be the same for two that differ,
            or be another one each time.
    """
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.hasobject:
        raise ValueError(
            f"Nothing tells the answers of this teacher from those of another: it has "
            f"a setting that is a {type(value).__name__}. Give a name, and another one "
            f"whenever it changes."
        )
    content = np.ascontiguousarray(value)
    digest = hashlib.sha256(content.tobytes()).hexdigest()
    return [content.dtype.str, list(content.shape), digest]


# === One answer: a .npy, and after it the hash of its bytes ===
def _write(path: Path, answer: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, answer, allow_pickle=False)
    array = content.getvalue()
    write_atomically(path, array + hashlib.sha256(array).digest())


def _read(path: Path, grid: tuple[int, int]) -> np.ndarray | None:
    """Returns an answer; None if there is none, or none that is whole."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(
            f"An answer of a mask teacher can't be read: {error}. Remove what is "
            f"there, or give the cache another folder."
        ) from error
    array, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    try:
        if hashlib.sha256(array).digest() != digest:
            raise ValueError("its checksum is another")
        answer: np.ndarray = np.load(io.BytesIO(array), allow_pickle=False)
        wrong = answer.ndim != 3 or answer.shape[:2] != grid
        if answer.dtype != np.float16 or wrong:
            raise ValueError(f"it holds {answer.dtype} {answer.shape}")
    except (ValueError, EOFError) as error:
        _log.warning("%s is damaged and is made anew: %s.", os.fspath(path), error)
        return None
    return answer
