"""The PE Video Dataset: tar shards of `<key>.mp4` with `<key>.json`."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_pe.arrays import is_number
from keras_pe.data.shard_files import Sample
from keras_pe.data.tar_shards import TarShards
from keras_pe.data.video_rows import VideoDataError, VideoRow, VideoRows, text_of
from keras_pe.preprocessing.image_errors import MISSING, VideoError

PVD_SPLITS = ("train", "test", "extended")
PVD_CAPTIONS = ("human_caption", "model_caption")
# What other keys hold where they are there and not null.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "video_id": ((str, int), "a text"),
    "category": ((str,), "a text"),
    "keywords": ((list, str), "a list of texts, or a text"),
    "description_from_metadata": ((str,), "a text"),
    "duration": ((int, float), "seconds"),
}


class ShardVideo:
    """A video in a tar shard, read when it is used; a converter takes it as it is.

    Args:
        shards: the `TarShards`.
        number: of the sample.
        extension: of the file.

    Example:
        >>> import io, tarfile
        >>> with tarfile.open("clips.tar", "w") as tar:
        ...     member = tarfile.TarInfo("0.mp4")
        ...     member.size = 5
        ...     tar.addfile(member, io.BytesIO(b"video"))
        >>> ShardVideo(TarShards("clips.tar"), 0).read()
        b'video'
    """

    def __init__(self, shards: TarShards, number: int, extension: str = "mp4") -> None:
        self.shards, self.number, self.extension = shards, number, extension

    @property
    def filename(self) -> str:
        """Key and shard, for messages."""
        return str(self.shards.describe(self.number))

    def read(self) -> bytes:
        """Returns the bytes of the file.

        Raises:
            VideoError: if the sample has none.
        """
        sample = self.shards[self.number]
        if self.extension not in sample:
            there = sorted(name for name in sample if not name.startswith("__"))
            raise VideoError(
                self.filename,
                MISSING,
                f"Its files are {there}; expected an .{self.extension}.",
            )
        return bytes(sample[self.extension])


class PVDVideos(VideoRows):
    """The rows of `read_pvd`: each JSON file is read when its row is asked for.

    Args:
        shards: by split, in order: everything, and the JSON files alone.
        caption_keys: which captions, in the order of trust.
    """

    def __init__(
        self,
        shards: Mapping[str, tuple[TarShards, TarShards]],
        caption_keys: Sequence[str],
    ) -> None:
        super().__init__(())
        self._shards = dict(shards)
        self.caption_keys = tuple(caption_keys)

    def __len__(self) -> int:
        return sum(len(everything) for everything, _ in self._shards.values())

    def _row(self, position: int) -> VideoRow:
        number = position
        for split, (everything, small) in self._shards.items():
            if number < len(everything):
                return _row(everything, small[number], number, split, self.caption_keys)
            number -= len(everything)
        raise IndexError(position)

    def of_split(self, split: str) -> VideoRows:
        """Returns the rows of a split; nothing is read."""
        if split not in self._shards:
            there = list(self._shards)
            raise VideoDataError(f"No video of split {split!r}: there are {there}.")
        return PVDVideos({split: self._shards[split]}, self.caption_keys)


def read_pvd(
    root: str | os.PathLike[str],
    splits: str | Sequence[str] | None = None,
    *,
    captions: str | Sequence[str] = PVD_CAPTIONS,
    max_video_bytes: int = 1 << 30,
) -> PVDVideos:
    """Reads the PE Video Dataset as it is published.

    Args:
        root: with folders of tar shards, one a split: `train/000000.tar` and so on.
        splits: "train", "test", "extended" or several; None takes those that are there.
        captions: which keys hold captions, in the order of trust. Those that are null
            or blank are passed over; a row may be left without one.
        max_video_bytes: a larger file makes its shard an error.

    Returns:
        Rows by number, in the order of splits, shards and samples. Metadata are all
        keys of the JSON file; `report()` counts rows without a caption.

    Raises:
        FileNotFoundError: if a folder is missing or holds no shard.
        VideoDataError: if there is no such split, or no key of captions.
        TarShardError: naming a shard that is damaged.
        VideoDataError: when a row is asked for: naming shard and sample of a JSON file
            that is damaged, or holds something of another type.

    Source: https://huggingface.co/datasets/facebook/PE-Video.

    Example:
        >>> import io, os, tarfile
        >>> os.makedirs("pvd/test")
        >>> said = b'{"human_caption": null, "model_caption": "A lake."}'
        >>> with tarfile.open("pvd/test/000000.tar", "w") as tar:
        ...     for name, data in (("7.mp4", b"video"), ("7.json", said)):
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(data)
        ...         tar.addfile(member, io.BytesIO(data))
        >>> row = read_pvd("pvd")[0]
        >>> row.key, row.split, row.caption
        ('7', 'test', 'A lake.')
    """
    keys, folder = _names(captions), Path(root)
    if not keys or not all(isinstance(key, str) and key.strip() for key in keys):
        raise VideoDataError(
            f"captions={captions!r}: expected names of keys, such as "
            f"{', '.join(PVD_CAPTIONS)}."
        )
    wanted: Sequence[Any] = _names(splits)
    if splits is None:
        wanted = [name for name in PVD_SPLITS if (folder / name).is_dir()]
        if not wanted:
            raise FileNotFoundError(
                f"{folder} has none of the folders {', '.join(PVD_SPLITS)}, each with "
                "tar shards."
            )
    unknown = [name for name in wanted if name not in PVD_SPLITS]
    if unknown or not wanted:
        raise VideoDataError(
            f"splits={unknown or splits!r}: expected some of {PVD_SPLITS}, or None for "
            f"those that are there."
        )
    shards = {}
    for name in wanted:
        paths = sorted((folder / name).glob("*.tar"))
        if not paths:
            raise FileNotFoundError(f"No tar shards in {folder / name}.")
        files = [os.fspath(path) for path in paths]
        everything = TarShards(files, max_member_bytes=max_video_bytes)
        try:
            small = TarShards(
                files, extensions=("json",), max_member_bytes=max_video_bytes
            )
        except ValueError as error:
            raise VideoDataError(
                f"{folder / name}: {error} Expected <key>.mp4 with <key>.json."
            ) from error
        shards[name] = (everything, small)
    return PVDVideos(shards, keys)


def _names(given: Any) -> tuple[Any, ...]:
    """Returns one name or several; nothing of what is neither."""
    if isinstance(given, str):
        return (given,)
    return tuple(given) if isinstance(given, Iterable) else ()


def _row(
    shards: TarShards, sample: Sample, number: int, split: str, keys: Sequence[str]
) -> VideoRow:
    place = shards.describe(number)
    try:
        record = json.loads(bytes(sample.get("json", b"{}")))
    except (ValueError, RecursionError) as error:
        raise VideoDataError(f"{place}: its .json is no JSON ({error}).") from error
    if not isinstance(record, dict):
        raise VideoDataError(
            f"{place}: its .json holds a {type(record).__name__}; expected an object "
            f"with {', '.join(PVD_CAPTIONS)}."
        )
    for key in (*PVD_CAPTIONS, *keys, *_TYPES):
        _check_type(record.get(key), key, place)
    texts = (text_of(record.get(key)) for key in keys)
    return VideoRow(
        str(sample["__key__"]),
        ShardVideo(shards, number),
        tuple(dict.fromkeys(text for text in texts if text is not None)),
        split,
        duration=_seconds(record.get("duration"), place),
        metadata=record,
        place=place,
    )


def _check_type(value: Any, key: str, place: str) -> None:
    kinds, said = _TYPES.get(key, ((str,), "a text"))
    wrong = not isinstance(value, kinds) or isinstance(value, bool)
    if isinstance(value, float) and value != value:
        return  # what pandas writes where there was nothing
    if isinstance(value, list):
        wrong = wrong or not all(isinstance(item, str) for item in value)
    if value is not None and wrong:
        raise VideoDataError(
            f"{place}: {key} is {value!r:.60}; expected {said}, or null."
        )


def _seconds(value: Any, place: str) -> float | None:
    if value is None or value != value:
        return None
    if not is_number(value) or value < 0:
        raise VideoDataError(
            f"{place}: duration is {value!r:.60}; expected seconds, or null."
        )
    return float(value)
