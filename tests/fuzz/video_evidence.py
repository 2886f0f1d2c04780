"""What a format itself can know of damage: nothing, where its bits have no check.

Looks at a file without the package: all of it, with FFmpeg's own strict rules.
"""

import io
from typing import Any

from PIL import Image

STRICT = "crccheck+bitstream+buffer+explode"


def noticed(content: bytes) -> str | None:
    """Returns what FFmpeg, or Pillow, says against a file; None if nothing."""
    if is_animation(content):
        try:
            pictures(content)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None
    import av

    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as lines:
            options = {"err_detect": STRICT}
            with av.open(
                io.BytesIO(content), options=options, metadata_errors="replace"
            ) as container:
                stream = container.streams.best("video")
                stream.codec_context.thread_count = 1
                stream.codec_context.options = options
                if any(frame.is_corrupt for frame in container.decode(stream)):
                    return "a frame is marked as corrupt"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        av.logging.set_level(None)
        av.logging.set_skip_repeated(True)
    errors = [text for level, _, text in lines if level <= av.logging.ERROR]
    return errors[0].strip() if errors else None


def structure(content: bytes) -> list[Any]:
    """Returns all that a container says of its frames, without their own bytes."""
    if is_animation(content):
        return pictures(content)
    import av

    with av.open(io.BytesIO(content), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        codec = stream.codec_context
        return [
            (codec.name, codec.width, codec.height, bytes(codec.extradata or b"")),
            *(
                (packet.pts, packet.dts, packet.size, packet.is_keyframe)
                for packet in container.demux(stream)
            ),
        ]


def is_animation(content: bytes) -> bool:
    """Says whether Pillow reads it."""
    return content[:4] in (b"GIF8", b"RIFF", b"\x89PNG") and content[8:12] != b"AVI "


def pictures(content: bytes) -> list[Any]:
    """Returns the sizes of an animation's pictures, all decoded."""
    found = []
    with Image.open(io.BytesIO(content)) as picture:
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()
            found.append(picture.size)
    return found
