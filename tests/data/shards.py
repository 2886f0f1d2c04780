"""Small shards and datasets for the data tests."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

from keras_pe.data import ShuffledOrder, TarShards, image_text_dataset


def image_bytes(number, size=(20, 16), file_format="PNG"):
    """An image whose pixels say which one it is."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    planes = np.stack([x * 7 + number, y * 11 + number * 3, x + y + number * 5], -1)
    stream = io.BytesIO()
    Image.fromarray((planes % 256).astype("uint8")).save(stream, file_format)
    return stream.getvalue()


def tar_bytes(members, file_format=tarfile.USTAR_FORMAT):
    """A tar archive of (name, content) pairs."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=file_format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def sample_members(number, bad=None):
    """The files of one sample; `bad` replaces the image or the caption."""
    key = f"{number:06d}"
    image, caption = image_bytes(number), f"image number {number}".encode()
    if bad == "image":
        image = image[: len(image) // 2]
    if bad == "caption":
        caption = b"  \n"
    return [(f"{key}.png", image), (f"{key}.txt", caption)]


def write_shards(folder, counts=(7, 5, 8), bad=None):
    """Writes shards with so many samples each; returns a pattern for their paths."""
    bad = bad or {}
    number = 0
    for shard, count in enumerate(counts):
        members = []
        for _ in range(count):
            members += sample_members(number, bad.get(number))
            number += 1
        (folder / f"shard-{shard:03d}.tar").write_bytes(tar_bytes(members))
    return str(folder / f"shard-{{000..{len(counts) - 1:03d}}}.tar")


class Pixels:
    """A transform that shows both the image and the generator in its result."""

    def __call__(self, image, rng):
        pixels = np.asarray(image.convert("RGB").resize((4, 4)))
        return pixels ^ rng.integers(0, 256, pixels.shape, dtype="uint8")


class Words:
    """A tokenizer: the number in the caption, and its length."""

    def __call__(self, texts):
        rows = [[int(text.split()[-1]), len(text), 0] for text in texts]
        return np.array(rows, "int32")


def small_dataset(source, batch_size=6, seed=0, **options):
    """A dataset over `source`, quick to make."""
    order = options.pop("order", None)
    options = {"transform": Pixels(), "tokenizer": Words(), "seed": seed} | options
    return image_text_dataset(
        source, order or ShuffledOrder(len(source), batch_size, seed), **options
    )


def open_shards(folder, **options):
    """Writes and opens the usual shards."""
    return TarShards(write_shards(folder, **options))


def same_batch(first, second):
    """Says whether two batches are equal to the last byte."""
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name])
        if isinstance(first[name], np.ndarray)
        else first[name] == second[name]
        for name in first
    )


def numbers(batch):
    """Which samples a batch of `small_dataset` holds."""
    return batch["token_ids"][:, 0].tolist()


class StuckSource:
    """A source that waits for ever when it comes to one sample."""

    def __init__(self, source, stuck_at, then="wait"):
        self.source = source
        self.stuck_at = stuck_at
        self.then = then

    def __len__(self):
        return len(self.source)

    def __getitem__(self, number):
        if number == self.stuck_at:
            import os
            import signal
            import threading

            if self.then == "wait":
                threading.Event().wait()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.source[number]

    def describe(self, number):
        return self.source.describe(number)

    def __repr__(self):
        return f"StuckSource({self.source!r})"


def json_bytes(value):
    return json.dumps(value).encode()
