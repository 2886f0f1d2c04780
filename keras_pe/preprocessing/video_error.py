"""What is wrong with a video, and what is too much of one."""

from __future__ import annotations

import re

from keras_pe.preprocessing import bad_pictures, image_file
from keras_pe.preprocessing.bad_pictures import PictureError

# Two hours at 30 frames a second.
DEFAULT_MAX_FRAMES = 216_000
# The values of `VideoError.reason`, beside those of `bad_pictures.REASONS`.
NO_FRAMES = "no frames"
TOO_MANY_FRAMES = "too many frames"
DAMAGED = "damaged video"
UNKNOWN_CODEC = "unknown codec"
UNKNOWN_CONTAINER = "unknown container"

# Containers that hold their own pictures. Playlists and lists of files are left out
# on purpose: FFmpeg would open whatever paths and addresses a hostile one names.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf"


class VideoError(PictureError):
    """A video that cannot be used; `name`, `reason` and `detail` say why."""


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
                bad_pictures.TOO_LARGE,
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
            "pictures pass the folder, or a list of their paths in a list.",
        )
    return VideoError(
        name,
        DAMAGED,
        f"The decoder says: {image_file._describe(error)}. Expected a complete video "
        f"({CONTAINERS}) or a GIF, WebP or PNG: copy it again, or re-encode it as MP4.",
    )
