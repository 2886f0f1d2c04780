"""Images of every kind, as 8-bit PIL images that can be resized."""

from typing import Any

import numpy as np
from PIL import Image

from keras_pe.preprocessing.image_errors import BAD_TYPE, BAD_VALUES, ImageError

# === Grey of other than eight bits: white is the largest value of its depth ===
# Pillow hands it out in the modes `I` and `I;16`, which do not say how many bits were
# meant, so the file's own header is asked. Guessing from the pixels would make every
# dark image too bright.

# Tags of TIFF, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO = 0
_SIGNED = 2
# Of modes that do not say their range, and of 32-bit files, which are measurements
# more often than images: the first that holds all values.
_USUAL_RANGES = {"I": (255, 65535), "F": (1, 255)}
# How Pillow reads grey PNGs of few bits, and what one step of theirs is in 0-255.
_STEP_OF_RAW_MODE = {"L;2": 85, "L;4": 17}


def is_wide(image: Image.Image) -> bool:
    """Returns whether an image's values have more than eight bits."""
    return image.mode == "F" or image.mode.startswith("I")


def eight_bits(image: Image.Image) -> Image.Image:
    """Scales a one-channel image of any depth to mode L, or LA with a colour key.

    Args:
        image: decoded, of mode I, I;16 (any byte order) or F, best as the file
            gave it, since copies forget where they come from.

    Returns:
        An image of mode L or LA with the same `info` (EXIF among it).

    Raises:
        ValueError: if there are values outside its range.

    Example:
        >>> wide = Image.fromarray(np.array([[0, 65535]], "uint16"))
        >>> list(eight_bits(wide).tobytes())
        [0, 255]
    """
    values = np.asarray(image)
    ceilings = _ceilings(image)
    low, high = float(values.min()), float(values.max())
    ceiling = next((c for c in ceilings if low >= 0 and high <= c), None)
    if ceiling is None:  # not-a-number fails every comparison and ends here too
        raise ValueError(
            f"Mode {image.mode!r} with values from {low:g} to {high:g}; expected "
            f"0 to {ceilings[-1]}. Scale it to 8 bits and pass the result."
        )
    grey = round_to_bytes(values, ceiling)
    if _tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        grey = 255 - grey  # which Pillow does for up to eight bits only
    info = {**image.info}
    key = info.pop("transparency", None)
    if isinstance(key, int):
        alpha = np.where(values == key, 0, 255).astype("uint8")
        scaled = Image.fromarray(np.stack([grey, alpha], axis=-1), "LA")
    else:
        scaled = Image.fromarray(grey)
    scaled.info = info
    return scaled


def signed_bytes(image: Image.Image) -> bool:
    """Returns whether a decoded mode L holds signed bytes, 127 at most."""
    return (
        image.mode == "L"
        and _tag(image, _SAMPLE_FORMAT) == _SIGNED
        and _tag(image, _BITS_PER_SAMPLE) == 8
    )


def colour_key(image: Image.Image) -> Any:
    """Returns a PNG's transparent colour on the scale of its decoded pixels.

    Pillow scales pixels to eight bits but leaves the key as the file has it.

    Args:
        image: opened, but not decoded: afterwards the file's depth is forgotten.

    Returns:
        What belongs in `info["transparency"]`; None if there is none.
    """
    key = image.info.get("transparency")
    if getattr(image, "format", None) != "PNG" or key is None:
        return key
    raw_modes = {tile[3] for tile in getattr(image, "tile", ()) or ()}
    if isinstance(key, int):
        steps = {_STEP_OF_RAW_MODE.get(str(mode), 1) for mode in raw_modes} or {1}
        return key * steps.pop()
    if isinstance(key, tuple) and raw_modes == {"RGB;16B"}:
        return tuple(value >> 8 for value in key)
    return key


def round_to_bytes(values: Any, ceiling: float) -> np.ndarray:
    """Scales values of 0 to `ceiling` to uint8, rounded to the nearest."""
    scaled = values.astype("float32")
    scaled *= 255.0 / ceiling  # in place: an image may have 89 million pixels
    return np.rint(scaled, out=scaled).astype("uint8")


def _ceilings(image: Image.Image) -> tuple[float, ...]:
    """Returns the largest value that there can be, or the usual ones."""
    usual = _USUAL_RANGES.get(image.mode, (65535,))
    if image.mode == "F":
        return usual
    kind = getattr(image, "format", None)
    if kind in ("PPM", "PNG"):  # Pillow scales a PGM of any largest value to 16 bits
        return (65535,)
    bits = _tag(image, _BITS_PER_SAMPLE)
    if kind == "TIFF" and isinstance(bits, int) and 8 < bits <= 16:
        signed = _tag(image, _SAMPLE_FORMAT) == _SIGNED
        return (2 ** (bits - signed) - 1,)
    return usual


def _tag(image: Image.Image, tag: int, default: Any = None) -> Any:
    """Returns the first value of a TIFF's tag, as far as it is a TIFF."""
    if getattr(image, "format", None) != "TIFF":
        return default
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value


# === All other modes ===
# The reference resizes first and converts to RGB afterwards, so modes in which
# averaging neighbours is meaningful stay as they are. The rest would come out
# wrong: palette indices and bits resize without smoothing, hue wraps around.
_RESIZED_AS_THEY_ARE = frozenset({"L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def resizable(
    image: Image.Image, name: str, background: tuple[int, int, int] | None = None
) -> Image.Image:
    """Brings a decoded image of any mode to an 8-bit mode that resizes well.

    Images of more than eight bits are scaled down to eight, never clipped: the
    largest value of the file's depth is white. Modes `I` and `F` of an image in
    memory, and 32-bit TIFFs, do not say what their values span, so the first of these
    ranges that holds all of them is taken: 0..255 then 0..65535 for `I`; 0..1 then
    0..255 for `F`.

    Args:
        image: a decoded image.
        name: what to call the image in an error.
        background: RGB colour (0-255) to lay transparent images on. `None`
            leaves the alpha channel to be dropped, as the reference does.

    Returns:
        An image of mode L, LA, RGB, RGBA, RGBX, CMYK or YCbCr.

    Raises:
        ImageError: if the mode or the values have no 8-bit meaning.

    Example:
        >>> resizable(Image.new("P", (2, 2)), "palette").mode
        'RGB'
    """
    mode = image.mode
    try:
        if is_wide(image):
            image = _eight_bits(image, name)
            mode = image.mode
        if mode in (
            "La",
            "RGBa",
        ):  # premultiplied colours, which Pillow hardly converts
            image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
            mode = image.mode
        if background is not None and has_alpha(image):
            canvas = Image.new("RGBA", image.size, (*background, 255))
            return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
        if mode in _RESIZED_AS_THEY_ARE:
            return image
        if mode == "1":
            return image.convert("L")
        if mode == "P" and "transparency" in image.info:
            # In two steps, because Pillow warns about the direct one.
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")
    except (ValueError, OSError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            name,
            BAD_TYPE,
            f"Mode {mode!r} does not convert to RGB ({error}). Convert it yourself "
            "and pass the result.",
        ) from error


def has_alpha(image: Image.Image) -> bool:
    """Returns whether an image can be transparent somewhere.

    Args:
        image: an image of any mode.

    Returns:
        True with an alpha channel, a transparent palette entry or colour key.

    Example:
        >>> has_alpha(Image.new("RGB", (1, 1)))
        False
    """
    keyed = image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info
    palette = image.palette if image.mode == "P" else None
    in_palette = palette is not None and palette.mode == "RGBA"  # as `quantize` makes
    return image.mode in _WITH_ALPHA or keyed or in_palette


def from_array(array: np.ndarray, name: str) -> Image.Image:
    """Makes a PIL image of one image in an array.

    Args:
        array: (height, width), or (height, width, channels) with 1 (grey), 3
            (RGB) or 4 (RGBA) channels; uint8, or floats in [0, 1], which are
            rounded to eight bits.
        name: what to call the image in an error.

    Returns:
        An image of mode L, RGB or RGBA.

    Raises:
        ImageError: for another shape, type or range.

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
            hint = " Of a batch of grey images pass array[..., None]."
        raise ImageError(
            name,
            BAD_TYPE,
            f"An array of shape {array.shape}; expected (height, width), or "
            f"(height, width, channels) with 1, 3 or 4 channels.{hint}",
        )
    if not array.size:
        raise ImageError(
            name, BAD_VALUES, f"Shape {array.shape} holds no pixel; expected one."
        )
    if array.dtype.kind == "f":
        check_unit(array, name)
        array = round_to_bytes(array, 1)
    if array.dtype != np.uint8:
        raise ImageError(
            name,
            BAD_TYPE,
            f"An array of dtype {array.dtype}; expected uint8 (0-255) or floats in "
            "[0, 1]. Convert whole numbers of 0-255 with array.astype('uint8'), 16-bit "
            "values with (array / 65535).astype('float32').",
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    try:
        return eight_bits(image)
    except ValueError as error:
        raise ImageError(name, BAD_VALUES, str(error)) from error


def check_unit(array: np.ndarray, name: str) -> None:
    """Raises ImageError unless all values are from 0 to 1.

    Args:
        array: floats, at least one.
        name: what to call them in an error.
    """
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # not-a-number ends here too
        raise ImageError(
            name,
            BAD_VALUES,
            f"A float array with values from {low:g} to {high:g}; expected [0, 1]. "
            "Use astype('uint8') for 0-255, (array + 1) / 2 for [-1, 1].",
        )
