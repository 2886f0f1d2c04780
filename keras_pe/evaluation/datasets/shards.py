"""WebDataset tar shards, as CLIP Benchmark publishes its data sets."""

import json
from collections.abc import Sequence
from typing import Any

from keras_pe.evaluation.datasets.types import Captioned, Labelled

IMAGES = ("jpg", "jpeg", "png", "webp")
VIDEOS = ("mp4", "webm", "mkv", "mov", "avi")


class ShardImage:
    """An image or video in a tar shard, read when it is used.

    Args:
        shards: the `TarShards`.
        number: of the sample.

    Example:
        >>> import io, tarfile
        >>> from PIL import Image
        >>> stream = io.BytesIO()
        >>> Image.new("RGB", (8, 8)).save(stream, "PNG")
        >>> with tarfile.open("one.tar", "w") as tar:
        ...     for name, data in (("0.png", stream.getvalue()), ("0.cls", b"0")):
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(data)
        ...         tar.addfile(member, io.BytesIO(data))
        >>> found = read_labelled_shards("one.tar", ["an owl"])
        >>> isinstance(found.samples[0], ShardImage)
        True
    """

    def __init__(self, shards: Any, number: int) -> None:
        self.shards = shards
        self.number = number

    @property
    def filename(self) -> str:
        """Key and shard, for messages."""
        return str(self.shards.describe(self.number))

    def read(self) -> bytes:
        """Returns the bytes of the file.

        Raises:
            ImageError: if the sample has none.
        """
        from keras_pe.preprocessing.image_errors import MISSING, ImageError

        sample = self.shards[self.number]
        for extension in (*IMAGES, *VIDEOS):
            if extension in sample:
                return bytes(sample[extension])
        raise ImageError(
            self.filename,
            MISSING,
            f"Its files are {sorted(x for x in sample if x[:2] != '__')}; expected one "
            f"of {IMAGES + VIDEOS}.",
        )


def read_labelled_shards(
    paths: str | Sequence[str], class_names: Sequence[str]
) -> Labelled:
    """Reads samples of `<key>.webp` (or another image or video) and `<key>.cls`.

    Args:
        paths: shards, such as `"test/{0..3}.tar"`; see `keras_pe.data.TarShards`.
        class_names: names of the classes that the numbers in `.cls` count.

    Returns:
        `Labelled`, with `ShardImage`s.

    Raises:
        FileNotFoundError: if a shard is missing.
        TarShardError: if a shard is damaged.
        ValueError: naming a sample without a good label.

    Source: https://github.com/LAION-AI/CLIP_benchmark, "webdataset_builder.py".

    Example:
        >>> import io, tarfile
        >>> from PIL import Image
        >>> stream = io.BytesIO()
        >>> Image.new("RGB", (8, 8)).save(stream, "PNG")
        >>> with tarfile.open("labelled.tar", "w") as tar:
        ...     for name, data in (("0.png", stream.getvalue()), ("0.cls", b"1")):
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(data)
        ...         tar.addfile(member, io.BytesIO(data))
        >>> found = read_labelled_shards("labelled.tar", ["a cat", "an owl"])
        >>> found.class_names[found.labels[0]]
        'an owl'
    """
    shards, targets = _open(paths, ("cls",))
    labels = []
    for number in range(len(targets)):
        text = bytes(targets[number].get("cls", b"")).strip()
        if not text.isdigit() or int(text) >= len(class_names):
            raise ValueError(
                f"{targets.describe(number)} has label {text[:20]!r}; expected a .cls "
                f"file with a number from 0 to {len(class_names) - 1}."
            )
        labels.append(int(text))
    samples = tuple(ShardImage(shards, number) for number in range(len(shards)))
    return Labelled(samples, tuple(labels), tuple(class_names))


def read_captioned_shards(paths: str | Sequence[str]) -> Captioned:
    """Reads samples of an image or video and `<key>.txt` or `<key>.json`.

    Args:
        paths: shards; see `keras_pe.data.TarShards`. A `.txt` file holds a caption a
            line, a `.json` file `"caption"` or `"captions"`.

    Returns:
        `Captioned`, with `ShardImage`s.

    Raises:
        FileNotFoundError: if a shard is missing.
        TarShardError: if a shard is damaged.
        ValueError: naming a sample without captions.

    Example:
        >>> import io, tarfile
        >>> from PIL import Image
        >>> stream = io.BytesIO()
        >>> Image.new("RGB", (8, 8)).save(stream, "PNG")
        >>> with tarfile.open("owls.tar", "w") as tar:
        ...     said = b"an owl\\na bird"
        ...     for name, data in (("0.png", stream.getvalue()), ("0.txt", said)):
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(data)
        ...         tar.addfile(member, io.BytesIO(data))
        >>> read_captioned_shards("owls.tar").texts
        (('an owl', 'a bird'),)
    """
    shards, targets = _open(paths, ("txt", "json"))
    texts = []
    for number in range(len(targets)):
        found = _captions(targets[number])
        if not found:
            raise ValueError(
                f"{targets.describe(number)} has no caption; expected a .txt file, or "
                'a .json file with "caption" or "captions".'
            )
        texts.append(found)
    samples = tuple(ShardImage(shards, number) for number in range(len(shards)))
    return Captioned(samples, tuple(texts))


def _open(paths: str | Sequence[str], targets: tuple[str, ...]) -> tuple[Any, Any]:
    """Opens shards twice: for everything, and for the small files alone."""
    from keras_pe.data.tar_shards import TarShards

    shards = TarShards(paths)
    for target in targets[:-1]:
        try:
            return shards, TarShards(paths, extensions=(target,))
        except ValueError:  # no sample has it
            continue
    return shards, TarShards(paths, extensions=targets[-1:])


def _captions(sample: dict[str, Any]) -> tuple[str, ...]:
    found: Any = []
    if "txt" in sample:
        found = bytes(sample["txt"]).decode("utf-8", "replace").splitlines()
    elif "json" in sample:
        try:
            record = json.loads(bytes(sample["json"]))
        except (ValueError, RecursionError):
            record = {}
        if isinstance(record, dict):
            found = record.get("captions", record.get("caption"))
    several = [found] if isinstance(found, str) else found
    if not isinstance(several, list):
        return ()
    texts = (text.strip() for text in several if isinstance(text, str))
    return tuple(text for text in texts if text)
