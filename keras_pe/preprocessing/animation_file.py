"""The frames of an animated picture: GIF, WebP or PNG."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from PIL import Image

from keras_pe.preprocessing import image_file
from keras_pe.preprocessing.image_modes import eight_bits, has_alpha, is_wide
from keras_pe.preprocessing.video_error import check_pixels, damaged


class AnimationFrames:
    """Frames of a GIF, WebP or PNG. A still picture has one."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        name: str,
        max_pixels: int,
        formats: Collection[str],
        max_side: int = image_file.DEFAULT_MAX_SIDE,
    ) -> None:
        self.source, self.name, self.formats = source, name, formats
        self.limits = max_pixels, max_side
        with image_file._stream(source, name) as stream:
            picture = self._header(stream)
            try:
                # More pictures behind a photo (MPO) are other views, no frames.
                still = picture.format == "MPO"
                self.count = 1 if still else int(getattr(picture, "n_frames", 1))
                self.first = int(image_file.hides_first_frame(picture))
            except Exception as error:  # decoders raise nearly anything
                raise damaged(name, error) from error
        self.count -= self.first

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        with image_file._stream(self.source, self.name) as stream:
            picture = self._header(stream)
            for number in numbers:
                try:
                    if self.count + self.first > 1:
                        picture.seek(number + self.first)
                    # A copy: the next frame may be drawn upon this one.
                    picture.load()
                    frame = picture.copy()
                    if is_wide(picture):
                        frame = eight_bits(picture)
                    elif frame.mode == "P":
                        frame = frame.convert("RGBA" if has_alpha(frame) else "RGB")
                except Exception as error:
                    raise damaged(self.name, error) from error
                yield number, frame

    def _header(self, stream: Any) -> Image.Image:
        picture = image_file._read_header(stream, self.name, self.formats)
        check_pixels(*picture.size, self.name, *self.limits)
        return picture
