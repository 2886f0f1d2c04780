"""Grey pictures of other than eight bits: white is the largest value of their depth.

Pillow hands such pictures out in the modes `I` and `I;16`, which do not say how many
bits were meant, so the file's own header is asked. Guessing from the pixels would
make every dark picture too bright.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

# Tags of TIFF, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO = 0
_SIGNED = 2
# Of modes that do not say their range, and of 32-bit files, which are measurements
# more often than pictures: the first that holds all values.
_USUAL_RANGES = {"I": (255, 65535), "F": (1, 255)}
# How Pillow reads grey PNGs of few bits, and what one step of theirs is in 0-255.
_STEP_OF_RAW_MODE = {"L;2": 85, "L;4": 17}


def is_wide(picture: Image.Image) -> bool:
    """Say whether a picture's values have more than eight bits."""
    return picture.mode == "F" or picture.mode.startswith("I")


def eight_bits(picture: Image.Image) -> Image.Image:
    """Scale a one-channel picture of any depth to mode L, or LA with a colour key.

    Args:
        picture: decoded, of mode I, I;16 (any byte order) or F, best as the file
            gave it, since copies forget where they come from.

    Returns:
        A picture of mode L or LA with the same `info` (EXIF among it).

    Raises:
        ValueError: if there are values outside its range.

    Example:
        >>> wide = Image.fromarray(np.array([[0, 65535]], "uint16"))
        >>> list(eight_bits(wide).tobytes())
        [0, 255]
    """
    values = np.asarray(picture)
    ceilings = _ceilings(picture)
    low, high = float(values.min()), float(values.max())
    ceiling = next((c for c in ceilings if low >= 0 and high <= c), None)
    if ceiling is None:  # not-a-number fails every comparison and ends here too
        raise ValueError(
            f"Mode {picture.mode!r} with values from {low:g} to {high:g}; expected "
            f"0 to {ceilings[-1]}. Scale it to 8 bits and pass the result."
        )
    grey = round_to_bytes(values, ceiling)
    if _tag(picture, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        grey = 255 - grey  # which Pillow does for up to eight bits only
    info = {**picture.info}
    key = info.pop("transparency", None)
    if isinstance(key, int):
        alpha = np.where(values == key, 0, 255).astype("uint8")
        scaled = Image.fromarray(np.stack([grey, alpha], axis=-1), "LA")
    else:
        scaled = Image.fromarray(grey)
    scaled.info = info
    return scaled


def signed_bytes(picture: Image.Image) -> bool:
    """Say whether a decoded mode L holds signed bytes, 127 at most."""
    return (
        picture.mode == "L"
        and _tag(picture, _SAMPLE_FORMAT) == _SIGNED
        and _tag(picture, _BITS_PER_SAMPLE) == 8
    )


def colour_key(picture: Image.Image) -> Any:
    """Return a PNG's transparent colour on the scale of its decoded pixels.

    Pillow scales pixels to eight bits but leaves the key as the file has it.

    Args:
        picture: opened, but not decoded: afterwards the file's depth is forgotten.

    Returns:
        What belongs in `info["transparency"]`; None if there is none.
    """
    key = picture.info.get("transparency")
    if getattr(picture, "format", None) != "PNG" or key is None:
        return key
    raw_modes = {tile[3] for tile in getattr(picture, "tile", ()) or ()}
    if isinstance(key, int):
        steps = {_STEP_OF_RAW_MODE.get(str(mode), 1) for mode in raw_modes} or {1}
        return key * steps.pop()
    if isinstance(key, tuple) and raw_modes == {"RGB;16B"}:
        return tuple(value >> 8 for value in key)
    return key


def round_to_bytes(values: Any, ceiling: float) -> np.ndarray:
    """Scale values of 0 to `ceiling` to uint8, rounded to the nearest."""
    scaled = values.astype("float32")
    scaled *= 255.0 / ceiling  # in place: a picture may have 89 million pixels
    return np.rint(scaled, out=scaled).astype("uint8")


def _ceilings(picture: Image.Image) -> tuple[float, ...]:
    """Returns the largest value that there can be, or the usual ones."""
    usual = _USUAL_RANGES.get(picture.mode, (65535,))
    if picture.mode == "F":
        return usual
    kind = getattr(picture, "format", None)
    if kind in ("PPM", "PNG"):  # Pillow scales a PGM of any largest value to 16 bits
        return (65535,)
    bits = _tag(picture, _BITS_PER_SAMPLE)
    if kind == "TIFF" and isinstance(bits, int) and 8 < bits <= 16:
        signed = _tag(picture, _SAMPLE_FORMAT) == _SIGNED
        return (2 ** (bits - signed) - 1,)
    return usual


def _tag(picture: Image.Image, tag: int, default: Any = None) -> Any:
    """Returns the first value of a TIFF's tag, as far as it is a TIFF."""
    if getattr(picture, "format", None) != "TIFF":
        return default
    value = getattr(picture, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value
