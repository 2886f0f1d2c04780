"""Images to the arrays that the vision tower reads."""

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, Self

import keras
import numpy as np
from PIL import Image

from keras_pe.arrays import check_sizes
from keras_pe.preprocessing.converter_configs import Converter, check_changes
from keras_pe.preprocessing.given_images import (
    as_sequence,
    file_content,
    image_name,
    is_file,
    to_array,
)
from keras_pe.preprocessing.image_decoding import (
    DEFAULT_FORMATS,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_SIDE,
    decode,
    open_image_file,
    upright,
)
from keras_pe.preprocessing.image_errors import (
    BAD_TYPE,
    DAMAGED,
    ImageError,
    SkipReport,
)
from keras_pe.preprocessing.image_modes import from_array, resizable
from keras_pe.preprocessing.tiles import TiledPicture, best_grid, cut
from keras_pe.presets.from_preset import load_image_converter
from keras_pe.presets.save_part import save_part

RESIZE_MODES = ("squash", "center_crop")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@keras.saving.register_keras_serializable("keras_pe")
class PEImageConverter(Converter):
    """Turns images of any kind into float32 arrays in [-1, 1].

    Takes one image or a sequence of them, mixed as you like: paths, the bytes
    of a file, files open for reading bytes, PIL images of any mode, arrays or
    tensors (height, width[, 1, 3 or 4 channels]) or a batch array (images, height,
    width, 1, 3 or 4). Arrays are uint8, or floats in [0, 1]. EXIF orientation is
    applied, the first frame of an animation is taken, files are checked before they
    are decoded. Files of any depth are scaled by the largest value of their depth:
    65535 in a PNG of 16 bits, the header's in a PGM, 4095 in a TIFF of 12 bits.
    Images of mode `I` or `F` in memory, and TIFFs of 32 bits, do not say what they
    span: the first of 0..255 and 0..65535, or 0..1 and 0..255, that holds all values.

    Source: `core/vision_encoder/transforms.py` of
    https://github.com/facebookresearch/perception_models: Pillow's antialiased
    resize, then `convert("RGB")`, which drops alpha.

    Args:
        image_size: side of the output in pixels, or (height, width).
        resize_mode: `"squash"` ignores the aspect ratio; `"center_crop"` keeps
            it and cuts what sticks out.
        interpolation: `"bilinear"` (what the models saw in training),
            `"bicubic"`, `"lanczos"` or `"nearest"`.
        mean: subtracted per RGB channel, after scaling pixels to [0, 1].
        std: divided by, per RGB channel. The defaults give [-1, 1].
        max_pixels: width times height above which an image is refused before
            it is decoded.
        max_side: width or height above which it is refused: resizing an image of
            1 x 89,000,000 pixels takes 2 GB. The default is a JPEG's longest.
        formats: Pillow's names of the file formats to accept.
        background: RGB colour (0-255) to lay transparent images on. `None`
            drops the alpha channel, as the reference does.
        on_error: `"raise"` stops at the first bad image. `"skip"` leaves bad
            images out of the result, with a warning; `last_report` says which
            (rows then no longer line up with what you passed).

    Example:
        >>> converter = PEImageConverter(image_size=224)
        >>> converter(Image.new("RGB", (640, 480), "white")).shape
        (1, 224, 224, 3)
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        resize_mode: str = "squash",
        interpolation: str = "bilinear",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        max_pixels: int = DEFAULT_MAX_PIXELS,
        formats: Collection[str] = DEFAULT_FORMATS,
        background: Sequence[int] | None = None,
        on_error: str = "raise",
        max_side: int = DEFAULT_MAX_SIDE,
    ) -> None:
        self.height, self.width = _size(image_size)
        _check_choice("resize_mode", resize_mode, RESIZE_MODES)
        _check_choice("interpolation", interpolation, tuple(INTERPOLATIONS))
        _check_choice("on_error", on_error, ("raise", "skip"))
        self.resize_mode = resize_mode
        self.interpolation = interpolation
        self.on_error = on_error
        self.mean = _three("mean", mean)
        self.std = _three("std", std)
        if min(self.std) <= 0:
            raise ValueError(f"std={std!r}: expected three numbers above zero.")
        for argument, value in (("max_pixels", max_pixels), ("max_side", max_side)):
            number = isinstance(value, int | float | np.integer)
            if not number or isinstance(value, bool) or not 1 <= value < 2**63:
                raise ValueError(f"{argument}={value!r}: expected a positive integer.")
        self.max_pixels, self.max_side = int(max_pixels), int(max_side)
        self.formats = _formats(formats)
        self.background: tuple[int, int, int] | None = None
        if background is not None:
            red, green, blue = (int(x) for x in _three("background", background))
            if not (min(red, green, blue) >= 0 and max(red, green, blue) <= 255):
                raise ValueError(
                    f"background={background!r}: expected three integers, 0 to 255."
                )
            self.background = (red, green, blue)
        self.last_report = SkipReport()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the output, in pixels."""
        return self.height, self.width

    def __call__(self, images: Any) -> np.ndarray:
        """Converts one image or many.

        Args:
            images: one image, a sequence of images, or a batch array.

        Returns:
            float32 array (images, height, width, 3).

        Raises:
            ImageError: naming the first image that cannot be used, if
                `on_error="raise"`.

        Example:
            >>> grey = np.zeros((10, 20), "uint8")
            >>> PEImageConverter(8)([grey, grey]).max()
            np.float32(-1.0)
        """
        rows = self._convert_all(
            (image, image_name(image, index))
            for index, image in enumerate(as_sequence(images))
        )
        if not rows:
            return np.zeros((0, self.height, self.width, 3), "float32")
        return np.stack(rows)

    def convert(self, image: Any, name: str | None = None) -> np.ndarray:
        """Converts exactly one image.

        Args:
            image: a path, bytes, PIL image or array (height, width[, channels]).
            name: what to call it in an error; by default its path or kind.

        Returns:
            float32 array (height, width, 3).

        Raises:
            ImageError: if it cannot be used, whatever `on_error` says.

        Example:
            >>> PEImageConverter(8).convert(np.ones((4, 4, 3))).shape
            (8, 8, 3)
        """
        name = image_name(image) if name is None else name
        (array,) = self._at_sizes(image, name, lambda opened: [self.image_size])
        return array

    def tiles(
        self, picture: Any, max_tiles: int = 16, thumbnail: bool = True
    ) -> TiledPicture:
        """Converts one image to several of this converter's size, a grid of tiles.

        It is resized to the grid whose sides are most like its own, in the converter's
        `resize_mode`, and cut. Of equally good grids the one that keeps the most of its
        pixels is taken, then the smallest.

        Args:
            picture: one image, of any kind that `convert` takes.
            max_tiles: most tiles, the thumbnail not counted.
            thumbnail: whether the whole image comes first; as the only tile, once.

        Returns:
            A `TiledPicture`: `tiles` `(tiles, height, width, 3)` and `grid`.

        Raises:
            ImageError: if it cannot be used, whatever `on_error` says.
            ValueError: if `max_tiles` is no whole number of at least 1.

        Example:
            >>> found = PEImageConverter(32).tiles(np.zeros((90, 60, 3), "uint8"))
            >>> found.grid, found.tiles.shape
            ((3, 2), (7, 32, 32, 3))
        """
        check_sizes(max_tiles=max_tiles)
        grids = []

        def sizes(opened: Image.Image) -> list[tuple[int, int]]:
            rows, columns = best_grid(opened.size[::-1], self.image_size, max_tiles)
            grids.append((rows, columns))
            whole = (rows * self.height, columns * self.width)
            small = thumbnail and rows * columns > 1
            return [whole, self.image_size] if small else [whole]

        whole, *small = self._at_sizes(picture, image_name(picture), sizes)
        (grid,) = grids
        parts = [*(array[None] for array in small), cut(whole, grid)]
        return TiledPicture(np.concatenate(parts), grid)

    def _at_sizes(
        self,
        image: Any,
        name: str,
        sizes: Callable[[Image.Image], Sequence[tuple[int, int]]],
    ) -> list[np.ndarray]:
        """Returns float32 `(height, width, 3)` of each size; opens the image once."""
        try:
            opened = self._open(image, name)
            resized = [self._resize(opened, s).convert("RGB") for s in sizes(opened)]
        except MemoryError as error:
            raise ImageError(
                name, DAMAGED, "Not enough memory to decode it: lower `max_pixels`."
            ) from error
        mean, std = (np.array(x, "float32") for x in (self.mean, self.std))
        return [
            (np.asarray(rgb, dtype="float32") / np.float32(255) - mean) / std
            for rgb in resized
        ]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, ready for JSON."""
        return {
            "image_size": [self.height, self.width],
            "resize_mode": self.resize_mode,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
            "max_pixels": self.max_pixels,
            "max_side": self.max_side,
            "formats": list(self.formats),
            "background": None if self.background is None else list(self.background),
            "on_error": self.on_error,
        }

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **changes: Any) -> Self:
        """Builds the converter of a preset; see `keras_pe.presets.hub`.

        A preset may narrow `formats`, `max_pixels` and `max_side`, never widen them,
        and does not decide `on_error`.

        Args:
            preset: name, alias, directory, `hf://owner/repo[@revision]` or
                `kaggle://...`.
            changes: arguments of this class that are to differ.

        Returns:
            The converter, for the preset's image size.

        Raises:
            CheckpointError: if there is no such preset, or it has no converter.
            TypeError: if there is no such argument.

        Example:
            >>> PEImageConverter.from_preset("PE-Core-L14-336").image_size
            (336, 336)
        """
        check_changes(cls, changes)
        converter: Self = load_image_converter(cls, preset)
        return cls(**{**converter.get_config(), **changes}) if changes else converter

    def save_to_preset(self, directory: str | os.PathLike[str]) -> None:
        """Writes this into a preset, whose rest stays, or a new one of its own.

        Raises:
            CheckpointError: if the directory holds something else.
        """
        save_part(self, directory)

    def _open(self, image: Any, name: str) -> Image.Image:
        """Gives any kind of image as an upright PIL image of a resizable mode."""
        limits = self.max_pixels, self.max_side
        if isinstance(image, Image.Image):
            opened = upright(decode(image, name, *limits), name)
        elif isinstance(image, str | os.PathLike):
            opened = open_image_file(image, name, self.formats, *limits)
        elif isinstance(image, bytes | bytearray | memoryview):
            content = bytes(image)
            opened = open_image_file(content, name, self.formats, *limits)
        elif is_file(image):
            content = file_content(image, name)
            opened = open_image_file(content, name, self.formats, *limits)
        elif hasattr(image, "__array__"):
            opened = from_array(to_array(image, name), name)
        else:
            hint = ""
            if isinstance(image, list | tuple) and _is_batch(image):
                hint = " It looks like a batch with its labels: pass the images alone."
            elif isinstance(image, list | tuple):
                hint = " Numbers go into an array: np.array(image, 'uint8')."
            raise ImageError(
                name,
                BAD_TYPE,
                f"A {type(image).__name__}; expected a path, bytes, an open file, a "
                f"PIL image or an array.{hint}",
            )
        return resizable(opened, name, self.background)

    def _resize(self, image: Image.Image, to: tuple[int, int]) -> Image.Image:
        height, width = to
        size = (width, height)
        resample = INTERPOLATIONS[self.interpolation]
        if self.resize_mode == "squash":
            return image.resize(size, resample)
        box = center_crop_box(image.size, size)
        return image.resize(size, resample, box=box)


def center_crop_box(
    source: tuple[int, int], target: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Finds the part of an image that a resize and centre crop would keep.

    The reference resizes the whole image until it covers the target, then
    crops. Resizing just the part that stays gives the same pixels, and an image
    of 1 x 30,000 does not become an intermediate of 1.5 billion pixels.

    Args:
        source: width and height of the image.
        target: width and height to fill.

    Returns:
        Left, top, right and bottom edge of the part, in source pixels.

    Example:
        >>> center_crop_box((300, 200), (100, 100))
        (50.0, 0.0, 250.0, 200.0)
    """
    width, height = source
    new_width, new_height = target
    # Rounded to whole pixels as torchvision does: sizes down, offsets to nearest.
    if width * target[1] <= height * target[0]:
        new_height = target[0] * height // width
    else:
        new_width = target[1] * width // height
    left = round((new_width - target[0]) / 2)
    top = round((new_height - target[1]) / 2)
    across, down = width / new_width, height / new_height
    return (
        left * across,
        top * down,
        min((left + target[0]) * across, width),
        min((top + target[1]) * down, height),
    )


def _is_batch(item: Sequence[Any]) -> bool:
    return bool(item) and getattr(item[0], "ndim", 0) == 4


def _check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{argument}={value!r}: expected one of {choices}.")


def _size(image_size: int | Sequence[int]) -> tuple[int, int]:
    sides = image_size if isinstance(image_size, list | tuple) else [image_size] * 2
    whole = all(isinstance(x, int | np.integer) and x > 0 for x in sides)
    if len(sides) != 2 or not whole or isinstance(image_size, bool):
        raise ValueError(
            f"image_size={image_size!r}: expected a positive integer or "
            "(height, width)."
        )
    height, width = sides
    return int(height), int(width)  # type: ignore[arg-type]


def _three(argument: str, values: Sequence[float]) -> tuple[float, float, float]:
    numbers = tuple(float(value) for value in values) if np.ndim(values) == 1 else ()
    if len(numbers) != 3:
        raise ValueError(f"{argument}={values!r}: expected three numbers, for R, G, B.")
    return numbers


def _formats(formats: Collection[str]) -> tuple[str, ...]:
    names = () if isinstance(formats, str) else tuple(x.upper() for x in formats)
    if not set(names) <= set(DEFAULT_FORMATS):
        Image.init()  # Pillow loads its rarer decoders only when asked to
    unknown = [x for x in names if x not in DEFAULT_FORMATS and x not in Image.OPEN]
    if unknown or not names:
        raise ValueError(
            f"formats={formats!r}: expected a list of formats that Pillow opens, "
            f"such as {DEFAULT_FORMATS}; unknown here: {unknown}."
        )
    return names
