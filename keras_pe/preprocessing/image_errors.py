"""Images and videos that cannot be used: errors, reasons, the report of a call."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

# The values of `ImageError.reason`: few and fixed, so that they can be counted.
MISSING = "missing file"
UNREADABLE = "unreadable file"
EMPTY = "empty file"
NOT_AN_IMAGE = "not an image of an allowed format"
TOO_LARGE = "too many pixels"
DAMAGED = "damaged image"
BAD_VALUES = "unsupported pixel values"
BAD_TYPE = "unsupported kind of image"
REASONS = (
    MISSING,
    UNREADABLE,
    EMPTY,
    NOT_AN_IMAGE,
    TOO_LARGE,
    DAMAGED,
    BAD_VALUES,
    BAD_TYPE,
)


class ImageError(ValueError):
    """An image that cannot be used.

    Args:
        name: which image: its path, or its position in the call.
        reason: one of the strings in `REASONS`, for counting.
        detail: what was found, what was expected and what to do.

    Example:
        >>> from keras_pe.preprocessing import PEImageConverter
        >>> try:
        ...     PEImageConverter()("no_such_file.jpg")
        ... except ImageError as error:
        ...     print(error.name, "->", error.reason)
        no_such_file.jpg -> missing file
    """

    def __init__(self, name: str, reason: str, detail: str) -> None:
        super().__init__(f"{name}: {reason}. {detail}")
        self.name = name
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str]]:
        # The default would call the class with the finished message alone, and
        # an error raised in a data-loading process has to travel back.
        return type(self), (self.name, self.reason, self.detail)


def described(error: Exception) -> str:
    """Returns an error's kind and message, the message cut where it is no sentence."""
    return f"{type(error).__name__}: {str(error)[:300]}".rstrip(": .")


# === What a call left out ===
@dataclass(frozen=True)
class SkippedImage:
    """One image that was left out.

    Args:
        index: its position in the sequence of images.
        name: its path, or a name made from its position.
        reason: one of a few fixed strings, for counting.
        detail: what exactly was wrong with this one.

    Example:
        >>> left_out = SkippedImage(3, "b.jpg", "damaged", "It ends early.")
        >>> left_out.index, left_out.reason
        (3, 'damaged')
    """

    index: int
    name: str
    reason: str
    detail: str


@dataclass
class SkipReport:
    """Every image a run saw, and every one it skipped.

    Args:
        num_images: images looked at so far.
        skipped: the ones left out, in order.

    Example:
        >>> report = SkipReport(num_images=3)
        >>> report.add(1, ImageError("b.jpg", "empty file", "It has no bytes."))
        >>> print(report)
        1 of 3 images skipped: 1 empty file (b.jpg)
    """

    num_images: int = 0
    skipped: list[SkippedImage] = field(default_factory=list)

    def add(self, index: int, error: ImageError) -> None:
        """Records that the image at `index` was skipped because of `error`."""
        self.skipped.append(SkippedImage(index, error.name, error.reason, error.detail))

    @property
    def num_skipped(self) -> int:
        """How many images were skipped."""
        return len(self.skipped)

    @property
    def by_reason(self) -> dict[str, int]:
        """How many images were skipped for each reason, most frequent first."""
        return dict(Counter(item.reason for item in self.skipped).most_common())

    @property
    def names(self) -> list[str]:
        """The names of the skipped images, in order."""
        return [item.name for item in self.skipped]

    def __str__(self) -> str:
        head = f"{self.num_skipped} of {self.num_images} images skipped"
        parts = []
        for reason, count in self.by_reason.items():
            names = [item.name for item in self.skipped if item.reason == reason]
            more = ", ..." if count > 3 else ""
            parts.append(f"{count} {reason} ({', '.join(names[:3])}{more})")
        return head + (": " + "; ".join(parts) if parts else "")


# === Videos ===
# Two hours at 30 frames a second.
DEFAULT_MAX_FRAMES = 216_000
# The values of `VideoError.reason`, beside those of `REASONS`.
NO_FRAMES = "no frames"
TOO_MANY_FRAMES = "too many frames"
DAMAGED_VIDEO = "damaged video"
UNKNOWN_CODEC = "unknown codec"
UNKNOWN_CONTAINER = "unknown container"
NO_TIMES = "no time stamps"
TOO_SLOW = "over the time limit"

# Containers that hold their own frames. Playlists and lists of files are left out
# on purpose: FFmpeg would open whatever paths and addresses a hostile one names.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf"


class VideoError(ImageError):
    """A video that cannot be used; `name`, `reason` and `detail` say why.

    Example:
        >>> error = VideoError("clip.mp4", "damaged", "It ends after 3 of 8 frames.")
        >>> error.name, error.reason
        ('clip.mp4', 'damaged')
    """


def check_count(count: int, name: str, max_frames: int) -> None:
    """Raises VideoError if there are too many frames."""
    if count > max_frames:
        raise VideoError(
            name,
            TOO_MANY_FRAMES,
            f"It has {count:,} frames or more; expected at most {max_frames:,}. Cut "
            "it, or raise `max_frames` if you trust it.",
        )


def check_pixels(
    width: int, height: int, name: str, max_pixels: int, max_side: int
) -> None:
    """Raises VideoError if frames are too large."""
    for value, limit, argument, unit in (
        (width * height, max_pixels, "max_pixels", "pixels"),
        (max(width, height), max_side, "max_side", "pixels along a side"),
    ):
        if value > limit:
            raise VideoError(
                name,
                TOO_LARGE,
                f"Its frames are {width} x {height}: {value:,} {unit}; expected at "
                f"most {limit:,}. Scale it down, or raise `{argument}` if you "
                "trust it.",
            )


def damaged(name: str, error: Exception) -> VideoError:
    """Returns the error for a file that no decoder reads, or none that is allowed."""
    found = re.search(r"\[(\w+)\] Format not on whitelist", str(error))
    if found:
        return VideoError(
            name,
            UNKNOWN_CONTAINER,
            f"FFmpeg calls it {found[1]!r}; expected one of {CONTAINERS}, or a GIF, "
            "WebP or PNG. Put a video into one of them, such as MP4; of frames in "
            "images pass the folder, or a list of their paths in a list.",
        )
    return VideoError(
        name,
        DAMAGED_VIDEO,
        f"The decoder says: {described(error)}. Expected a complete video "
        f"({CONTAINERS}) or a GIF, WebP or PNG: copy it again, or re-encode it as MP4.",
    )
