"""Pictures of every kind, as 8-bit PIL images that can be resized."""

from __future__ import annotations

import numpy as np
from PIL import Image

from keras_pe.preprocessing.image_depth import eight_bits, is_wide, round_to_bytes
from keras_pe.preprocessing.image_file import BAD_TYPE, BAD_VALUES, PictureError

# The reference resizes first and converts to RGB afterwards, so modes in which
# averaging neighbours is meaningful stay as they are. The rest would come out
# wrong: palette indices and bits resize without smoothing, hue wraps around.
_RESIZED_AS_THEY_ARE = frozenset({"L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def resizable(
    picture: Image.Image, name: str, background: tuple[int, int, int] | None = None
) -> Image.Image:
    """Bring a decoded picture of any mode to an 8-bit mode that resizes well.

    Pictures of more than eight bits are scaled down to eight, never clipped: the
    largest value of the file's depth is white. Modes `I` and `F` of a picture in
    memory, and 32-bit TIFFs, do not say what their values span, so the first of these
    ranges that holds all of them is taken: 0..255 then 0..65535 for `I`; 0..1 then
    0..255 for `F`.

    Args:
        picture: a decoded picture.
        name: what to call the picture in an error.
        background: RGB colour (0-255) to lay transparent pictures on. `None`
            leaves the alpha channel to be dropped, as the reference does.

    Returns:
        A picture of mode L, LA, RGB, RGBA, RGBX, CMYK or YCbCr.

    Raises:
        PictureError: if the mode or the values have no 8-bit meaning.

    Example:
        >>> resizable(Image.new("P", (2, 2)), "palette").mode
        'RGB'
    """
    mode = picture.mode
    try:
        if is_wide(picture):
            picture = _eight_bits(picture, name)
            mode = picture.mode
        if mode in (
            "La",
            "RGBa",
        ):  # premultiplied colours, which Pillow hardly converts
            picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[mode])
            mode = picture.mode
        if background is not None and has_alpha(picture):
            canvas = Image.new("RGBA", picture.size, (*background, 255))
            return Image.alpha_composite(canvas, picture.convert("RGBA")).convert("RGB")
        if mode in _RESIZED_AS_THEY_ARE:
            return picture
        if mode == "1":
            return picture.convert("L")
        if mode == "P" and "transparency" in picture.info:
            # In two steps, because Pillow warns about the direct one.
            return picture.convert("RGBA").convert("RGB")
        return picture.convert("RGB")
    except (ValueError, OSError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(
            name,
            BAD_TYPE,
            f"Mode {mode!r} does not convert to RGB ({error}). Convert it yourself "
            "and pass the result.",
        ) from error


def has_alpha(picture: Image.Image) -> bool:
    """Say whether a picture can be transparent somewhere.

    Args:
        picture: a picture of any mode.

    Returns:
        True with an alpha channel, a transparent palette entry or colour key.

    Example:
        >>> has_alpha(Image.new("RGB", (1, 1)))
        False
    """
    keyed = picture.mode in ("1", "L", "P", "RGB") and "transparency" in picture.info
    palette = picture.palette if picture.mode == "P" else None
    in_palette = palette is not None and palette.mode == "RGBA"  # as `quantize` makes
    return picture.mode in _WITH_ALPHA or keyed or in_palette


def from_array(array: np.ndarray, name: str) -> Image.Image:
    """Make a PIL image of one picture in an array.

    Args:
        array: (height, width), or (height, width, channels) with 1 (grey), 3
            (RGB) or 4 (RGBA) channels; uint8, or floats in [0, 1], which are
            rounded to eight bits.
        name: what to call the picture in an error.

    Returns:
        A picture of mode L, RGB or RGBA.

    Raises:
        PictureError: for another shape, type or range.

    Example:
        >>> from_array(np.zeros((2, 3), "uint8"), "black").size
        (3, 2)
    """
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in (3, 4)):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = " It looks channels-first: use numpy.moveaxis(array, 0, -1)."
        elif array.ndim == 4:
            hint = " It looks like a batch: pass each batch in a call of its own."
        elif array.ndim == 3:
            hint = " Of a batch of grey pictures pass array[..., None]."
        raise PictureError(
            name,
            BAD_TYPE,
            f"An array of shape {array.shape}; expected (height, width), or "
            f"(height, width, channels) with 1, 3 or 4 channels.{hint}",
        )
    if not array.size:
        raise PictureError(
            name, BAD_VALUES, f"Shape {array.shape} holds no pixel; expected one."
        )
    if array.dtype.kind == "f":
        array = _unit_to_bytes(array, name)
    if array.dtype != np.uint8:
        raise PictureError(
            name,
            BAD_TYPE,
            f"An array of dtype {array.dtype}; expected uint8 (0-255) or floats in "
            "[0, 1]. Convert whole numbers of 0-255 with array.astype('uint8'), 16-bit "
            "values with (array / 65535).astype('float32').",
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    try:
        return eight_bits(picture)
    except ValueError as error:
        raise PictureError(name, BAD_VALUES, str(error)) from error


def _unit_to_bytes(array: np.ndarray, name: str) -> np.ndarray:
    check_unit(array, name)
    return round_to_bytes(array, 1)


def check_unit(array: np.ndarray, name: str) -> None:
    """Raise PictureError unless all values are from 0 to 1.

    Args:
        array: floats, at least one.
        name: what to call them in an error.
    """
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # not-a-number ends here too
        raise PictureError(
            name,
            BAD_VALUES,
            f"A float array with values from {low:g} to {high:g}; expected [0, 1]. "
            "Use astype('uint8') for 0-255, (array + 1) / 2 for [-1, 1].",
        )
