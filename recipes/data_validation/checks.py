"""What can be wrong with a sample, and how often it may be."""

import argparse
from dataclasses import dataclass

# A verdict is a text feature: TFDV can then hold it to a domain with a tolerance.
FAULT, SOUND = "yes", "no"


@dataclass(frozen=True)
class Check:
    """One question asked of every sample, caption, image or shard.

    Args:
        name: the feature that holds the verdict, "yes" for a fault.
        allowed: share of faults that is no anomaly, unless told otherwise.
        counted: what is counted, plural.
        fault: what those with the fault do or are; follows `counted`.
    """

    name: str
    allowed: float
    counted: str
    fault: str


# The shares are our own choice. A loader that skips bad samples lives with one in a
# thousand; more than that is a fault of the data set and not of a sample.
CHECKS = (
    Check("caption_missing", 0.001, "samples", "have no caption"),
    Check("caption_empty", 0.001, "samples with captions", "have a blank one"),
    Check("caption_length", 0.01, "samples with captions", "have one of a bad length"),
    Check("caption_repeated", 0.5, "captions", "repeat an earlier one"),
    Check("image_missing", 0.001, "samples", "have no image"),
    Check("image_unreadable", 0.001, "images", "are damaged, cut or unknown"),
    Check("image_size", 0.01, "images", "are too small or too large"),
    Check("image_aspect_ratio", 0.01, "images", "are too long or too tall"),
    Check("image_repeated", 0.01, "images", "repeat an earlier one"),
    # Loaders refuse a whole shard for it: the second one's files can't be told apart.
    Check("key_repeated", 0.0, "samples", "have the key of another in their shard"),
    Check("text_unreadable", 0.001, "samples", "have broken JSON or text"),
    Check("shard_unreadable", 0.0, "shards", "are damaged or cut"),
)
# Judged over the whole data set, after the pipeline; the others sample by sample.
GLOBAL_CHECKS = ("caption_repeated", "image_repeated", "shard_unreadable")
# Not a verdict: the tolerance of every JSON field, for values and for presence.
JSON_TOLERANCE = "json_values"
DEFAULT_ALLOWED = {check.name: check.allowed for check in CHECKS} | {
    JSON_TOLERANCE: 0.001
}


@dataclass(frozen=True)
class Thresholds:
    """What decides about one sample.

    Args:
        least_side: least length of an image's shorter side, pixels.
        most_pixels: most width times height.
        most_aspect_ratio: most longer side over shorter side.
        least_caption_words: fewest words of a caption that is not blank.
        most_caption_characters: longest caption.
        caption_fields: where captions are: member extensions or JSON fields, each a
            text or a list of texts. All that are found count.
        json_fields: JSON fields to describe; None for all with plain values.
        decode_pixels: decode every pixel instead of reading headers alone.
    """

    least_side: int = 32
    most_pixels: int = 89_478_485  # the limit of keras_pe's image converter
    most_aspect_ratio: float = 8.0
    least_caption_words: int = 1
    most_caption_characters: int = 2000
    caption_fields: tuple[str, ...] = ("txt", "caption", "captions", "text")
    json_fields: tuple[str, ...] | None = None
    decode_pixels: bool = False


def verdict(fault: bool) -> str:
    """Returns the text that a verdict feature holds."""
    return FAULT if fault else SOUND


def parse_allowance(text: str) -> tuple[str, float]:
    """Reads `caption_empty=0.01` from the command line."""
    name, separator, share = text.partition("=")
    if not separator or name not in DEFAULT_ALLOWED:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected CHECK=SHARE with one of {', '.join(DEFAULT_ALLOWED)}"
        )
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share from 0 to 1")
    return name, value


def describe_defaults() -> str:
    """Returns one line a check, for the help text."""
    lines = [
        f"  {check.name:<22}{check.allowed:<7g}{check.counted} that {check.fault}"
        for check in CHECKS
    ]
    lines.append(
        f"  {JSON_TOLERANCE:<22}{DEFAULT_ALLOWED[JSON_TOLERANCE]:<7g}"
        "samples whose JSON lacks a field or holds an unknown value"
    )
    return "\n".join(lines)
