"""Image-caption batches of emoji artwork, each a pure function of (seed, index)."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from projects.emoji.data.captions import sample_caption
from projects.emoji.data.shards import load_arrays

# Flags are a seventh of all concepts and look alike in every set; seeing them in each
# round would spend a seventh of the training on them.
FLAG_SHARE = 0.25
SYMBOL_SHARE = 0.6
# Clip art and icons that are no emoji have numbers from here on, one a title.
FIRST_EXTRA_CONCEPT = 100_000
EXTRA_SHARE = 0.1
# A mirrored image keeps its caption unless the caption tells left from right.
DIRECTED_WORDS = ("left", "right", "clockwise", "arrow", "hand", "back", "forward")
# From captions to `token_ids`, or to several such arrays by name.
Tokenize = Callable[[list[str]], np.ndarray | Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How an image is varied.

    Attributes:
        min_side: least share of the canvas that a drawing's longer side fills.
        max_side: most; above 1 the edges are cut.
        aspect: largest stretch, as a ratio.
        jitter: largest relative change of brightness, contrast and saturation.
        white_share: share of images on white.
        plain_share: share on one colour; the rest is on two-colour gradients.
    """

    min_side: float
    max_side: float
    aspect: float
    jitter: float = 0.32
    white_share: float = 0.6
    plain_share: float = 0.25


# Short runs learn more from mild changes; long ones stop learning anything else than
# their drawings by heart without strong ones.
AUGMENTATIONS = {
    "mild": Augmentation(0.85, 1.0, 1.1, white_share=0.95, plain_share=0.03),
    "strong": Augmentation(0.65, 1.1, 1.33),
}


class EmojiBatches:
    """Batches of distinct concepts: one image, one caption each.

    Every concept comes equally often, however many vendors drew it; a round is one
    pass over all concepts. Batch i depends on the seed and on i alone.

    Args:
        drawings: the images.
        tokenizer: the model's tokenizer; one that returns a dictionary, as for a
            student and its teacher, gives the batch several arrays of token ids.
        batch_size: pairs in a batch; all of different concepts.
        image_size: side of the images, pixels.
        seed: seed of everything random.
        augmentation: None for images as drawn, on white.
        masks: draws what else a batch holds: from (rows, generator) to arrays by name.
        fixed_length: whether all batches have as many tokens as the context. Else
            columns that are padding in every row are left out: faster where nothing
            is compiled for a shape.
    """

    def __init__(
        self,
        drawings: "Drawings",
        tokenizer: Tokenize,
        batch_size: int,
        image_size: int,
        seed: int,
        augmentation: Augmentation | None = None,
        masks: Callable[[int, np.random.Generator], dict[str, np.ndarray]]
        | None = None,
        fixed_length: bool = True,
    ) -> None:
        concepts = len(drawings.by_concept)
        if batch_size > concepts:
            raise ValueError(
                f"A batch holds distinct concepts: batch_size={batch_size} is more "
                f"than the {concepts} concepts of the data."
            )
        self.drawings = drawings
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.image_size = image_size
        self.seed = seed
        self.augmentation = augmentation
        self.masks = masks
        self.fixed_length = fixed_length

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        """Returns batch `number`: `images`, token ids and what `masks` adds."""
        picks = self._picks(number)
        rng = np.random.default_rng([self.seed, 1, number])
        images = np.empty(
            (self.batch_size, self.image_size, self.image_size, 3), "float32"
        )
        captions = []
        for row, pick in enumerate(picks):
            record = self.drawings.records[pick]
            images[row] = self._image(pick, record, rng)
            captions.append(sample_caption(record, rng))
        token_ids = self.tokenizer(captions)
        if isinstance(token_ids, np.ndarray):
            token_ids = {"token_ids": token_ids}
        batch = {"images": images * (2.0 / 255.0) - 1.0}
        for name, ids in token_ids.items():
            batch[name] = ids if self.fixed_length else shorten(ids)
        if self.masks is not None:
            rng = np.random.default_rng([self.seed, 2, number])
            batch.update(self.masks(self.batch_size, rng))
        return batch

    def _picks(self, number: int) -> list[int]:
        """Returns which drawing each row of a batch shows."""
        groups = self.drawings.by_concept
        per_round = max(int(self.drawings.weights.sum()) // self.batch_size, 1)
        round_number, place = divmod(number, per_round)
        rng = np.random.default_rng([self.seed, 0, round_number])
        # Weighted order without replacement: exponential races (Efraimidis 2006).
        order = np.argsort(rng.exponential(size=len(groups)) / self.drawings.weights)
        chosen = rng.permutation(order[: per_round * self.batch_size])
        chosen = chosen[place * self.batch_size : (place + 1) * self.batch_size]
        picks = rng.random(len(order))
        return [groups[c][int(picks[c] * len(groups[c]))] for c in chosen]

    def _image(
        self, pick: int, record: dict[str, Any], rng: np.random.Generator
    ) -> np.ndarray:
        drawing = self.drawings.cropped[pick]
        if self.augmentation is None:
            return render(drawing, self.image_size, np.full(3, 255.0, "float32"))
        return varied(drawing, record, self.image_size, self.augmentation, rng)


class Drawings:
    """All drawings of some splits in memory, grouped by concept."""

    def __init__(
        self,
        directory: Path,
        splits: Sequence[str],
        leave_out: Sequence[str] = (),
        extra_weight: float = EXTRA_SHARE,
    ) -> None:
        self.records: list[dict[str, Any]] = []
        self.cropped: list[Image.Image] = []
        groups: dict[int, list[int]] = defaultdict(list)
        for split in splits:
            arrays, records = load_arrays(directory, split)
            for array, record in zip(arrays, records, strict=True):
                if record["vendor"] in leave_out:
                    continue
                groups[record["concept"]].append(len(self.records))
                self.records.append(record)
                self.cropped.append(crop(array))
        self.by_concept = list(groups.values())
        firsts = [self.records[group[0]] for group in self.by_concept]
        self.weights = np.array(
            [
                extra_weight
                if first["concept"] >= FIRST_EXTRA_CONCEPT
                else FLAG_SHARE
                if first["is_flag"]
                else SYMBOL_SHARE
                if first["is_symbol"]
                else 1.0
                for first in firsts
            ]
        )


def shorten(token_ids: np.ndarray, multiple: int = 4) -> np.ndarray:
    """Drops columns that are padding in every row, down to a multiple of 4.

    The text tower is causal and pools at the end of the text, so trailing padding has
    no influence; a multiple keeps the number of compiled shapes small.
    """
    used = int((token_ids != 0).any(axis=0).sum())
    kept = min(-(-used // multiple) * multiple, token_ids.shape[1])
    return token_ids[:, :kept]


def crop(array: np.ndarray) -> Image.Image:  # uint8 (height, width, 4)
    """Cuts a drawing to what is not transparent; alpha premultiplied."""
    alpha = array[..., 3]
    rows = np.flatnonzero(alpha.max(axis=1) > 8)
    columns = np.flatnonzero(alpha.max(axis=0) > 8)
    if len(rows):
        array = array[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    colours = array[..., :3].astype("uint16") * array[..., 3:] // 255
    array = np.concatenate([colours.astype("uint8"), array[..., 3:]], axis=-1)
    # Mode RGBX resizes each channel by itself, right for premultiplied colours.
    return Image.fromarray(np.ascontiguousarray(array), mode="RGBX")


def render(
    drawing: Image.Image, size: int, background: np.ndarray, fill: float = 0.92
) -> np.ndarray:
    """Returns a drawing centred on a background, float32 `(size, size, 3)`, 0-255."""
    scale = fill * size / max(drawing.size)
    width, height = (max(round(side * scale), 1) for side in drawing.size)
    left, top = (size - width) // 2, (size - height) // 2
    return paste(drawing, size, (left, top, width, height), background)


def augment(
    drawing: Image.Image,
    size: int,
    how: Augmentation,
    flip: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns a varied drawing on a random background, float32, 0-255."""
    longer = size * rng.uniform(how.min_side, how.max_side)
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(how.aspect))
    scale = longer / max(drawing.size)
    width = max(round(drawing.width * scale * stretch), 2)
    height = max(round(drawing.height * scale / stretch), 2)
    left = round(rng.uniform(*sorted((0, size - width))))
    top = round(rng.uniform(*sorted((0, size - height))))
    if flip:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = background(size, how, rng)
    image = paste(drawing, size, (left, top, width, height), canvas)
    return jitter(image, how.jitter, rng)


def varied(
    drawing: Image.Image,
    record: Mapping[str, Any],
    size: int,
    how: Augmentation,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns a varied drawing, mirrored half of the time if its name allows it."""
    words = record["label"].lower().split()
    fixed = record["is_symbol"] or record["is_flag"]
    flip = rng.random() < 0.5 and not (
        fixed or any(word.startswith(DIRECTED_WORDS) for word in words)
    )
    return augment(drawing, size, how, flip, rng)


def paste(
    drawing: Image.Image,
    size: int,
    place: tuple[int, int, int, int],
    background: np.ndarray,
) -> np.ndarray:
    """Draws into (left, top, width, height) of a canvas; what is outside is cut."""
    left, top, width, height = place
    resized = np.asarray(
        drawing.resize((width, height), Image.Resampling.BILINEAR), "float32"
    )
    canvas = np.empty((size, size, 3), "float32")
    canvas[:] = background
    rows = slice(max(top, 0), min(top + height, size))
    columns = slice(max(left, 0), min(left + width, size))
    part = resized[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    opacity = part[..., 3:] / 255.0
    canvas[rows, columns] = canvas[rows, columns] * (1.0 - opacity) + part[..., :3]
    return canvas


def background(size: int, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Returns white, one colour, or a gradient, broadcastable to the canvas."""
    kind = rng.random()
    if kind < how.white_share:
        return np.full(3, 255.0, "float32")
    first, second = rng.uniform(0, 255, size=(2, 3)).astype("float32")
    if kind < how.white_share + how.plain_share:
        return first
    ramp = np.linspace(0, 1, size, dtype="float32")
    ramp = ramp[:, None, None] if rng.random() < 0.5 else ramp[None, :, None]
    return np.asarray(first * (1 - ramp) + second * ramp)


def jitter(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast and saturation by up to `amount` each."""
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, size=3)
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + (image - grey) * saturation
    middle = grey.mean()
    image = (middle + (image - middle) * contrast) * brightness
    return np.clip(image, 0.0, 255.0)
