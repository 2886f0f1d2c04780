"""Batches of an alignment: images, what masks say of their patches, what is hidden."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from keras import ops

from keras_pe.arrays import check_finite
from keras_pe.models.token_encoder import TokenEncoder
from keras_pe.models.vision_arguments import check_images
from keras_pe.models.vision_forward import VisionForward
from keras_pe.training.teachers.shapes import background_share, renumbered, shape_rows
from keras_pe.training.trainers.patch_masking import masked_patches

MOST_SHAPES = 32  # of an image; the smallest of more count as background
MASK_BLOCK = 2  # side of what is hidden at once, in patches (Perception Encoder, B.3.1)

# An array of images, or something that gives batches of them each time it is asked.
ImageData = np.ndarray | Iterable[Any] | Callable[[], Iterable[Any]]
Prepare = Callable[[np.ndarray], Any]


class AlignmentBatches:
    """Gives as many batches for `SpatialAlignmentTrainer` as a training has steps.

    Arrays are gone through in an order drawn anew each time; what gives batches is read
    as it comes, from its beginning whenever it ends, and cut into batches of one size.

    Args:
        images: `(samples, height, width, 3)`; or batches of images, or of (images,
            masks), as something that can be iterated over again, or as a function.
        masks: whole numbers `(samples, height, width)` for images in an array, 0 for
            what is no shape; None for none, or where batches have them.
        student: the encoder that is trained.
        prepare: from images as they are given to what the encoder reads; None brings
            uint8 to [-1, 1] for PE's encoders.
        steps: batches.
        batch_size: images in a batch.
        mask_ratio: share of patches that the student does not see.
        flip: whether half of the images are mirrored, masks with them.
        background: whether batches say how much of each patch is no shape.
        seed: of all that is drawn.

    Raises:
        ValueError: if images and masks do not fit; as it is iterated over, if a batch
            is no such thing.
    """

    def __init__(
        self,
        images: ImageData,
        masks: np.ndarray | None,
        student: TokenEncoder,
        prepare: Prepare | None = None,
        *,
        steps: int,
        batch_size: int,
        mask_ratio: float,
        flip: bool,
        background: bool,
        seed: int,
    ) -> None:
        self.images, self.masks = _checked_data(images, masks)
        self.student, self.prepare = student, prepare
        self.steps, self.batch_size = steps, batch_size
        self.mask_ratio, self.flip = mask_ratio, flip
        self.background, self.seed = background, seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        rows = self._rows(np.random.default_rng([self.seed, 0]))
        with_masks = None
        for step in range(self.steps):
            rng = np.random.default_rng([self.seed, 1, step])
            chosen = [
                self._mirrored(row, self.flip and rng.random() < 0.5)
                for row in itertools.islice(rows, self.batch_size)
            ]
            batch = self._batch(chosen)
            if with_masks not in (None, "mask_rows" in batch):
                raise ValueError(
                    f"Batch {step} has {'no masks' if with_masks else 'masks'}, other "
                    f"than those before it. Give masks with all batches, or none."
                )
            with_masks = "mask_rows" in batch
            grid = self.student.grid(batch["images"].shape)
            hidden = np.zeros((self.batch_size, grid[0] * grid[1]), bool)
            if self.mask_ratio:
                hidden = masked_patches(
                    self.batch_size, grid, self.mask_ratio, rng, MASK_BLOCK
                )
            yield {**batch, "masked_patches": hidden}

    def first(self) -> dict[str, np.ndarray]:
        """Returns the first batch of the data as they are, with nothing hidden."""
        return self._batch(list(itertools.islice(self._rows(None), self.batch_size)))

    # === Rows: an image, and its masks or None ===
    def _rows(self, rng: Any) -> Iterator[tuple[np.ndarray, Any]]:
        """Yields images for ever; in their own order without `rng`."""
        while True:
            count = 0
            for row in self._pass(rng):
                count += 1
                yield row
            if not count:
                raise ValueError("There are no images in the data.")

    def _pass(self, rng: Any) -> Iterator[tuple[np.ndarray, Any]]:
        if isinstance(self.images, np.ndarray):
            count = len(self.images)
            for place in range(count) if rng is None else rng.permutation(count):
                yield (
                    self.images[place],
                    None if self.masks is None else self.masks[place],
                )
            return
        for batch in self.images() if callable(self.images) else self.images:
            images, masks = _parts(batch)
            images = _checked_images(images)
            masks = _checked_masks(masks, images)
            for place, image in enumerate(images):
                yield image, None if masks is None else masks[place]

    @staticmethod
    def _mirrored(row: tuple[np.ndarray, Any], mirror: bool) -> tuple[np.ndarray, Any]:
        image, shapes = row
        if not mirror:
            return row
        return image[:, ::-1], None if shapes is None else shapes[:, ::-1]

    # === Batches ===
    def _batch(self, rows: list[tuple[np.ndarray, Any]]) -> dict[str, np.ndarray]:
        sizes = {image.shape for image, _ in rows}
        masked = {shapes is not None for _, shapes in rows}
        if len(sizes) > 1 or len(masked) > 1:
            raise ValueError(
                f"All images must have one size, and all masks or none, got "
                f"{sorted(sizes)}{' and some masks' * (len(masked) > 1)}."
            )
        images = self._read(np.stack([image for image, _ in rows]))
        batch, grid = {"images": images}, self.student.grid(images.shape)
        if masked == {True}:
            (given,) = sizes
            if images.shape[1:3] != given[:2]:  # a crop would tear them apart
                raise ValueError(
                    f"prepare made images of {images.shape[1:3]} from {given[:2]}, and "
                    f"their masks are as they were. Resize both beforehand."
                )
            maps = [renumbered(shapes, MOST_SHAPES) for _, shapes in rows]
            batch["mask_rows"] = np.stack(
                [shape_rows(shapes, grid, MOST_SHAPES) for shapes in maps]
            )
            if self.background:
                batch["background"] = np.stack(
                    [background_share(shapes, grid) for shapes in maps]
                )
        return batch

    def _read(self, images: np.ndarray) -> np.ndarray:
        """Returns images as the encoder reads them, or says why it can't."""
        of_pe = isinstance(self.student, VisionForward)
        if self.prepare is not None:
            images = host_array_of(self.prepare(images))
        elif images.dtype == np.uint8 and of_pe:
            images = images.astype("float32") / 127.5 - 1.0
        if images.dtype.kind != "f":
            raise ValueError(
                f"The encoder reads floats, got images of {images.dtype}. Give them as "
                f"it reads them, or a function as `prepare` that makes them of these."
            )
        images = images.astype("float32", copy=False)
        if of_pe:
            check_images(images)
        else:
            check_finite(images, "images", "image", hint="Look at how they are made.")
        return images


# === What can be wrong ===
def _checked_data(
    images: ImageData, masks: np.ndarray | None
) -> tuple[ImageData, np.ndarray | None]:
    if hasattr(images, "shape"):
        images = _checked_images(images)
        if not len(images):
            raise ValueError("There are no images in the data.")
        masks = _checked_masks(masks, images)
        if masks is not None and not masks.any():
            raise ValueError(
                "Masks are 0 everywhere: no image has a shape to learn anything of. "
                "Give the number of each pixel's shape, from 1, or no masks."
            )
        return images, masks
    if masks is not None:
        raise ValueError(
            "Images come in batches, so their masks must too: give batches of (images, "
            "masks), and no array of masks beside them."
        )
    if isinstance(images, str | bytes) or not (
        callable(images) or hasattr(images, "__iter__")
    ):
        raise TypeError(
            f"Images are an array (samples, height, width, 3), batches, or a function "
            f"that returns batches, got {type(images).__name__}."
        )
    if not callable(images) and iter(images) is images:
        raise ValueError(
            f"The data are read more than once, got a {type(images).__name__}, which "
            f"can be read once. Give a function that returns batches."
        )
    return images, None


def _parts(batch: Any) -> tuple[Any, Any]:
    """Returns the images and the masks of a batch, None for none."""
    if not isinstance(batch, list | tuple):
        return batch, None
    if len(batch) != 2:
        raise ValueError(
            f"A batch is images, or (images, masks), got {type(batch).__name__} of "
            f"{len(batch)}. Give (samples, height, width, 3), and maps of its size."
        )
    return batch[0], batch[1]


def host_array_of(array: Any) -> np.ndarray:
    """Returns an array of any library as NumPy's, and bfloat16 as float32."""
    if not hasattr(array, "shape"):
        return np.asarray(array)
    if not isinstance(array, np.ndarray):
        array = np.asarray(ops.convert_to_numpy(array))
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _checked_images(images: Any) -> np.ndarray:
    hint = "PEImageConverter makes such arrays of paths and PIL images."
    if not hasattr(images, "shape"):
        raise ValueError(
            f"Images must be an array (samples, height, width, 3), got "
            f"{type(images).__name__}. {hint}"
        )
    array = host_array_of(images)
    if array.ndim != 4 or array.shape[3] != 3:
        raise ValueError(
            f"Images must be (samples, height, width, 3), got {array.shape}. {hint}"
        )
    return array


def _checked_masks(masks: Any, images: np.ndarray) -> np.ndarray | None:
    if masks is None:
        return None
    expected = (
        f"Masks must be whole numbers (samples, height, width) that fit the images, "
        f"{images.shape[:3]}: 0 for what is no shape, else the shape's number."
    )
    try:
        array = host_array_of(masks)
    except (TypeError, ValueError) as error:  # a list of maps of several sizes
        raise ValueError(f"{expected} No array can be made of these: {error}") from None
    if array.shape != images.shape[:3] or array.dtype.kind not in "iub":
        raise ValueError(
            f"{expected} Got {array.dtype} of {array.shape}. Resize masks with "
            f"interpolation='nearest'."
        )
    return array
