"""What a format itself can know of damage: nothing, where its bits have no check.

Looks at a file without the package: all of it, with FFmpeg's own strict rules.
"""

import io
from collections.abc import Iterator
from typing import Any

from PIL import Image

STRICT = "crccheck+bitstream+buffer+explode"
# Zeros after an image are no damage in MPEG-1 and 2 (ISO/IEC 13818-2, 5.2.3).
FILLED, FILLED_STRICT = ("mpeg1video", "mpeg2video"), "crccheck+buffer+explode"


def noticed(content: bytes) -> str | None:
    """Returns what FFmpeg, or Pillow, says against a file; None if nothing."""
    if is_animation(content):
        try:
            images(content)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None
    import av

    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as opening:
            options = {"err_detect": STRICT}
            container = av.open(
                io.BytesIO(content), options=options, metadata_errors="replace"
            )
        with container, av.logging.Capture() as lines:
            broadcast = container.format.name == "mpegts"
            stream = container.streams.best("video")
            stream.codec_context.thread_count = 1
            if stream.codec_context.name in FILLED:
                options = {"err_detect": FILLED_STRICT}
            stream.codec_context.options = options
            for packet in packets(container, stream, broadcast):
                if packet.is_corrupt:
                    return "a packet is cut short"
                if any(frame.is_corrupt for frame in packet.decode()):
                    return "a frame is marked as corrupt"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        av.logging.set_level(None)
        av.logging.set_skip_repeated(True)
    # While it opens a broadcast, the decoder is shown frames that nobody will decode.
    lines += [line for line in opening if not (broadcast and line[1] != "mpegts")]
    # What names no part can be about the index at a file's end.
    errors = [text for level, part, text in lines if level <= av.logging.ERROR and part]
    return errors[0].strip() if errors else None


def packets(container: Any, stream: Any, broadcast: bool) -> Iterator[Any]:
    """Yields what a strict decoder must be able to decode.

    A broadcast is recorded from any moment on, and what comes before the first key
    frame of a sound one makes a strict decoder complain too; unless there is a group's
    header, which a key frame follows.
    """
    begun = not broadcast
    for packet in container.demux(stream):
        begun = begun or packet.is_keyframe or b"\0\0\1\xb8" in bytes(packet)
        if begun:
            yield packet


def structure(content: bytes) -> list[Any]:
    """Returns all that a container says of its frames, without their own bytes."""
    if is_animation(content):
        return images(content)
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


def images(content: bytes) -> list[Any]:
    """Returns the sizes of an animation's images, all decoded."""
    found = []
    with Image.open(io.BytesIO(content)) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            found.append(image.size)
    return found
