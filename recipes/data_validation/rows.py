"""One tar shard to one row of plain values a sample."""

import hashlib
import json
import lzma
import math
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from recipes.data_validation.checks import Thresholds, verdict
from recipes.data_validation.image_header import read_header

# Values of a row: a number, a text, or a list of them (one a caption).
Row = dict[str, int | float | str | list[int] | list[str]]

INTEGER_FEATURES = (
    "num_captions",
    "caption_characters",
    "caption_words",
    "image_width",
    "image_height",
    "image_bytes",
)
FLOAT_FEATURES = ("image_aspect_ratio",)
TEXT_FEATURES = ("image_format", "image_mode", "decode_status")
JSON_NUMBER, JSON_TEXT = "json_number_", "json_text_"
# Drift of numbers is measured on these: see `range_of`.
RANGE_OF = "range_of_"
RANGES_PER_OCTAVE = 4
LEAST_MAGNITUDE, MOST_MAGNITUDE = 1e-3, 1e9

IMAGE_EXTENSIONS = frozenset(
    [
        *("jpg", "jpeg", "webp", "png", "gif", "bmp", "tif", "tiff", "ppm"),
        *("jpe", "jfif", "mpo", "apng", "dib", "pgm", "pbm", "pnm", "pfm"),
    ]
)
# A larger member is left unread: a header may claim any size.
MOST_MEMBER_BYTES = 256 * 2**20
JSON_TEXT_CHARACTERS = 256
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


@dataclass
class Sample:
    """Consecutive members of a shard with the same key; None is a member too large.

    Args:
        key: path up to the first dot of the file name.
        members: extension to content.
        key_repeated: an earlier sample of the shard has the same key.
    """

    key: str
    members: dict[str, bytes | None] = field(default_factory=dict)
    key_repeated: bool = False


@dataclass(frozen=True)
class Described:
    """A sample's row, and what whole-data checks need of it.

    Args:
        key: the sample's name inside its shard.
        row: feature name to value.
        image_digest: digest of the image's file, None without one.
        captions: the captions that are not blank.
    """

    key: str
    row: Row
    image_digest: bytes | None
    captions: tuple[str, ...]


class ShardDamageError(Exception):
    """A shard that can't be read to its end."""


def read_samples(stream: IO[bytes]) -> Iterator[Sample]:
    """Groups the members of a tar archive by key, as WebDataset does.

    The key is a member's path up to the first dot of its file name, the extension what
    follows. A repeated extension starts a new sample. Nothing is written to disk.

    Args:
        stream: the archive, plain or compressed with gzip, bzip2 or xz.

    Raises:
        ShardDamageError: after the samples before the damage have been given.
    """
    sample: Sample | None = None
    keys: set[str] = set()
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as opened:
            archive: Any = opened  # `members` is not in its type
            for member in archive:
                archive.members = []  # else every header of the shard is kept
                folder, slash, name = member.name.rpartition("/")
                stem, dot, extension = name.partition(".")
                if not member.isfile() or not stem or not dot:
                    continue
                key, extension = folder + slash + stem, extension.lower()
                if sample and (sample.key != key or extension in sample.members):
                    yield sample
                    sample = None
                sample = sample or Sample(key, key_repeated=key in keys)
                keys.add(key)
                sample.members[extension] = _read_member(archive, member)
            _check_rest(archive)
    except _DAMAGE as error:
        # A sample cut in half is not yielded: the training loader won't see it either.
        raise ShardDamageError(f"{type(error).__name__}: {error}") from error
    except OSError as error:
        # gzip reports damage as a plain OSError; a failing disk or network has a number
        # and must reach the runner, which tries again.
        if error.errno is not None:
            raise
        raise ShardDamageError(f"{type(error).__name__}: {error}") from error
    if sample:
        yield sample


def describe(sample: Sample, thresholds: Thresholds) -> Described:
    """Turns one sample into a row.

    Args:
        sample: the members of one key.
        thresholds: what decides about it.

    Example:
        >>> sample = Sample("owl", {"txt": b"an owl", "ppm": b"P5 2 1 255 " + bytes(2)})
        >>> row = describe(sample, Thresholds(least_side=2)).row
        >>> row["caption_words"], row["image_width"], row["image_size"]
        ([2], 2, 'yes')
    """
    row: Row = {}
    record, broken = _read_json(sample)
    found, broken_text = _captions(sample, record, thresholds.caption_fields)
    row["key_repeated"] = verdict(sample.key_repeated)
    row["text_unreadable"] = verdict(broken or broken_text)
    row.update(_describe_captions(found, thresholds))
    digest = _describe_image(sample, thresholds, row)
    row.update(_describe_json(record, thresholds))
    row.update(_ranges(row))
    filled = tuple(caption for caption in found if caption.strip())
    return Described(sample.key, row, digest, filled)


def digest_of_caption(caption: str) -> bytes:
    """Returns 16 bytes that are equal for captions equal but for case and spaces."""
    text = " ".join(caption.casefold().split())
    return hashlib.blake2b(_to_bytes(text), digest_size=16).digest()


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    if member.size > MOST_MEMBER_BYTES:
        return None
    stream = archive.extractfile(member)
    data = stream.read() if stream else b""
    if len(data) != member.size:
        raise tarfile.ReadError(f"{member.name!r} stops too early")
    return data


def _check_rest(archive: tarfile.TarFile) -> None:
    """Refuses a missing end mark and anything behind the end; tarfile takes both."""
    rest: Any = archive.fileobj
    if rest.tell() == archive.offset:
        raise tarfile.ReadError(f"no end mark at byte {archive.offset:,}: cut short")
    while chunk := rest.read(1 << 20):
        if chunk.strip(b"\0"):
            raise tarfile.ReadError(
                f"not an archive member at byte {archive.offset:,}; "
                "what follows is never read"
            )


def _read_json(sample: Sample) -> tuple[dict[str, Any], bool]:
    """Returns the JSON object, empty without one, and whether it is broken."""
    if "json" not in sample.members:
        return {}, False
    try:
        record = json.loads(sample.members["json"] or b"")
    except (ValueError, RecursionError):
        return {}, True
    return (record, False) if isinstance(record, dict) else ({}, True)


def _captions(
    sample: Sample, record: dict[str, Any], fields: tuple[str, ...]
) -> tuple[list[str], bool]:
    """Returns the distinct captions in order, and whether a text is not UTF-8."""
    captions: list[str] = []
    broken = False
    # As training reads them: LAION writes TEXT.
    any_case = {key.lower(): value for key, value in reversed(record.items())}
    for name in fields:
        value: Any = record.get(name, any_case.get(name.lower()))
        if name in sample.members:
            try:
                value = (sample.members[name] or b"").decode("utf-8")
            except UnicodeDecodeError:
                broken, value = True, None
        values = value if isinstance(value, list) else [value]
        captions.extend(text for text in values if isinstance(text, str))
    # img2dataset writes the same caption to .txt and .json.
    return list(dict.fromkeys(captions)), broken


def _describe_captions(captions: list[str], thresholds: Thresholds) -> Row:
    filled = [caption for caption in captions if caption.strip()]
    row: Row = {
        "num_captions": len(filled),
        "caption_missing": verdict(not captions),
    }
    if captions:
        row["caption_empty"] = verdict(len(filled) < len(captions))
    if filled:
        row["caption_characters"] = [len(caption) for caption in filled]
        row["caption_words"] = [len(caption.split()) for caption in filled]
        row["caption_length"] = verdict(
            any(
                len(caption.split()) < thresholds.least_caption_words
                or len(caption) > thresholds.most_caption_characters
                for caption in filled
            )
        )
    return row


def _describe_image(sample: Sample, thresholds: Thresholds, row: Row) -> bytes | None:
    """Adds the first image's features to `row`; returns its digest."""
    images = [
        data
        for extension, data in sample.members.items()
        if extension.rpartition(".")[2] in IMAGE_EXTENSIONS
    ]
    row["image_missing"] = verdict(not images)
    if not images:
        row["decode_status"] = "missing"
        return None
    data = images[0]
    if data is None:
        row["decode_status"] = "too many bytes"
        row["image_size"] = verdict(True)
        return None
    row["image_bytes"] = len(data)
    header = read_header(data, thresholds.most_pixels, thresholds.decode_pixels)
    row["decode_status"] = header.status
    if header.status == "too many pixels":
        row["image_size"] = verdict(True)
        return None
    row["image_unreadable"] = verdict(header.status != "ok")
    if header.status != "ok":
        return None
    shorter, longer = sorted((header.width, header.height))
    row["image_format"], row["image_mode"] = header.format, header.mode
    row["image_width"], row["image_height"] = header.width, header.height
    row["image_aspect_ratio"] = header.width / header.height
    row["image_size"] = verdict(
        shorter < thresholds.least_side or shorter * longer > thresholds.most_pixels
    )
    row["image_aspect_ratio"] = verdict(longer > thresholds.most_aspect_ratio * shorter)
    return hashlib.blake2b(data, digest_size=16).digest()


def _describe_json(record: dict[str, Any], thresholds: Thresholds) -> Row:
    """Returns the plain values; numbers and texts of one field are two features.

    TFDV stops at a feature that is a number here and a text there.
    """
    row: Row = {}
    for name, value in record.items():
        if name in thresholds.caption_fields or (
            thresholds.json_fields is not None and name not in thresholds.json_fields
        ):
            continue
        if isinstance(value, bool):
            row[JSON_TEXT + name] = "true" if value else "false"
        elif isinstance(value, str):
            row[JSON_TEXT + name] = value[:JSON_TEXT_CHARACTERS]
        elif isinstance(value, (int, float)):
            try:
                row[JSON_NUMBER + name] = float(value)
            except OverflowError:
                row[JSON_NUMBER + name] = float("inf")
    return row


def range_of(value: float) -> str:
    """Names the quarter octave that a number lies in.

    TFDV compares numbers on histograms of equal steps from the least to the largest
    value: one outlier moves every step, and two draws of the same distribution come out
    0.3 apart and more (TFDV 1.16). Fixed ranges as texts are compared exactly.

    Example:
        >>> range_of(1), range_of(224.0), range_of(-0.5), range_of(0)
        ('1', '215', '-0.5', '0')
    """
    magnitude = min(abs(value), MOST_MAGNITUDE)
    if not magnitude >= LEAST_MAGNITUDE:
        return "nan" if math.isnan(value) else "0"
    step = math.floor(math.log2(magnitude) * RANGES_PER_OCTAVE)
    lower = math.copysign(2 ** (step / RANGES_PER_OCTAVE), value)
    return f"{float(f'{lower:.3g}'):.9g}"  # three digits, and no 1e+03


def _ranges(row: Row) -> Row:
    """Returns the range of every number in a row."""
    ranges: Row = {}
    for name, value in row.items():
        if isinstance(value, list):
            ranges[RANGE_OF + name] = [range_of(float(number)) for number in value]
        elif not isinstance(value, str):
            ranges[RANGE_OF + name] = range_of(value)
    return ranges


def _to_bytes(text: str) -> bytes:
    """Encodes any text: JSON may hold half of a surrogate pair, UTF-8 may not."""
    return text.encode("utf-8", errors="replace")
