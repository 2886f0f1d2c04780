"""Batches of images with captions, each a pure function of (seed, number).

Row `row` of batch `i` draws from `default_rng([seed, i, row])` and from nothing else,
whichever process, thread or host makes it. A bad sample is replaced by one drawn from
`default_rng([seed, i, row, attempt])`, so the batch stays a pure function, has its full
size, and says in `"skipped"` what was left out.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import grain
import numpy as np
from PIL import Image

from keras_pe.data.captions import default_caption
from keras_pe.data.order import Order
from keras_pe.data.sample_errors import NO_IMAGE, SampleError, SkippedSample
from keras_pe.data.shard_files import IMAGE_EXTENSIONS, Sample
from keras_pe.data.workers import report
from keras_pe.preprocessing import image_decoding
from keras_pe.preprocessing.image_errors import ImageError

MAX_ATTEMPTS = 10
ENDLESS = 1 << 62  # batches, where `num_batches` is None

Batch = dict[str, Any]
Captions = Callable[[Sample, np.random.Generator], str]
Extras = Callable[[int, np.random.Generator], Mapping[str, np.ndarray]]
Tokenizer = Callable[[list[str]], np.ndarray | Mapping[str, np.ndarray]]


class Source(Protocol):
    """Samples by number: `TarShards`, `ArrayRecordShards`, or any object like them."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Sample: ...


class Transform(Protocol):
    """What makes an array of an image; equal arrays for equal generators.

    With an attribute `decodes = True` it is handed images of which only the header is
    read, and raises `ImageError` for damaged ones; otherwise decoded, upright ones.
    """

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray: ...


class ClipTransform(Protocol):
    """A transform that reads a clip of the sample: it says `reads_clip = True`.

    Its array is (frames, height, width, 3).
    """

    reads_clip: bool

    def __call__(self, sample: Sample, rng: np.random.Generator) -> np.ndarray: ...


class SampleTransform(Protocol):
    """A transform that reads what lies beside the image: it says `reads_sample = True`.

    Its arrays have names, `images` among them.
    """

    reads_sample: bool

    def __call__(
        self, image: Image.Image, rng: np.random.Generator, sample: Sample
    ) -> Mapping[str, np.ndarray]: ...


def image_text_dataset(
    source: Source,
    order: Order,
    *,
    transform: Transform | SampleTransform | ClipTransform,
    tokenizer: Tokenizer,
    captions: Captions = default_caption,
    seed: int = 0,
    num_batches: int | None = None,
    first_batch: int = 0,
    host_index: int = 0,
    host_count: int = 1,
    max_bad_share: float = 0.01,
    extras: Extras | None = None,
) -> "ImageTextDataset":
    """Returns training batches by number, as a grain `MapDataset`.

    The same for any number of workers; the batches of all hosts, one after the other,
    are the batch of a single host. To resume, slice: `dataset[1000:]`, or pass
    `first_batch=1000`.

    Args:
        source: samples by number: an image file and a caption, see `TarShards`.
        order: which samples each batch holds, see `ShuffledOrder`.
        transform: makes an array of an image, see `TrainAugmentation`; or arrays of it
            and of what lies beside it, see `WithInstances` in `sample_masks.py`; or an
            array of frames of a clip, see `ClipFrames`.
        tokenizer: makes int32 (texts, context_length) of captions; or several such
            arrays by name, which then take the place of `token_ids`.
        captions: `captions(sample, rng)` returns the caption of a sample, or raises
            `SampleError`. By default its .txt file, or `"caption"`, `"captions"` or
            `"text"` of its .json file; `CaptionReader("title")` reads another one.
        seed: seed of everything but the order, at least 0.
        num_batches: batches in all; `None` never ends.
        first_batch: number of the first one.
        host_index: which part of every batch to make, 0 to `host_count - 1`.
        host_count: in how many parts a batch is made.
        max_bad_share: share of bad samples above which `keras_pe.data.batches` stops.
        extras: `extras(i, rng)` returns more arrays for batch i, such as masks, for all
            hosts together: each host gets its part of their rows. Draws from
            `default_rng([seed, i, order.batch_size])`.

    Returns:
        A dataset whose element i is `{"images": (batch, height, width, 3), "token_ids":
        int32 (batch, context_length), "skipped": tuple of SkippedSample}` and the
        extras, with batch = `order.batch_size / host_count`; images of clips are
        (batch, frames, height, width, 3).

    Raises:
        ValueError: if the arguments do not fit together.

    Example:
        >>> import io
        >>> from keras_pe import PETokenizer
        >>> from keras_pe.data import SequentialOrder, TrainAugmentation
        >>> # Tar shards, TarShards("shards"), are such a source too.
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 30), "white").save(file, "PNG")
        >>> source = [{"png": file.getvalue(), "txt": b"a white wall"}] * 8
        >>> dataset = image_text_dataset(source, SequentialOrder(8, batch_size=4),
        ...     transform=TrainAugmentation(32, dtype="uint8"),
        ...     tokenizer=PETokenizer(16, 600))
        >>> dataset[0]["images"].shape, dataset[0]["token_ids"].shape
        ((4, 32, 32, 3), (4, 16))
    """
    size = int(order.batch_size)
    if not 0 <= host_index < host_count or size % host_count:
        raise ValueError(
            f"batch_size={size}, host_index={host_index}, host_count={host_count}: "
            "expected a batch that divides among the hosts, and an index below "
            "host_count."
        )
    if len(source) < size:
        raise ValueError(
            f"{source!r} holds {len(source)} samples, fewer than a batch of {size}: "
            "use a smaller batch or more data."
        )
    if getattr(order, "num_samples", len(source)) != len(source):
        raise ValueError(
            f"{order!r} is not for {source!r} with its {len(source)} samples: make it "
            "with num_samples=len(source)."
        )
    if seed < 0 or first_batch < 0 or (num_batches is not None and num_batches < 1):
        raise ValueError(
            f"seed={seed}, first_batch={first_batch}, num_batches={num_batches}: "
            "expected no negative numbers, and at least one batch."
        )
    if not 0 <= max_bad_share <= 1:
        raise ValueError(f"max_bad_share={max_bad_share!r}: expected 0 to 1.")
    return ImageTextDataset(
        source,
        order,
        transform,
        tokenizer,
        captions,
        seed,
        ENDLESS if num_batches is None else num_batches,
        first_batch,
        range(host_index * size // host_count, (host_index + 1) * size // host_count),
        max_bad_share,
        extras,
    )


class ImageTextDataset(grain.MapDataset[Batch]):
    """The batches of `image_text_dataset`.

    Example:
        >>> from keras_pe.data import SequentialOrder
        >>> source = [{"png": b"", "txt": b"an owl"}] * 8
        >>> dataset = image_text_dataset(source, SequentialOrder(8, batch_size=4),
        ...     transform=lambda image, rng: np.zeros((8, 8, 3)),
        ...     tokenizer=lambda texts: np.zeros((len(texts), 4), "int32"),
        ...     num_batches=10)
        >>> isinstance(dataset, ImageTextDataset), len(dataset), len(dataset[6:])
        (True, 10, 4)
    """

    def __init__(
        self,
        source: Source,
        order: Order,
        transform: Transform | SampleTransform | ClipTransform,
        tokenizer: Tokenizer,
        captions: Captions,
        seed: int,
        num_batches: int,
        first_batch: int,
        rows: range,
        max_bad_share: float,
        extras: Extras | None,
    ) -> None:
        super().__init__()
        self.source = source
        self.order = order
        self.transform = transform
        self.tokenizer = tokenizer
        self.captions = captions
        self.seed = seed
        self.num_batches = num_batches
        self.first_batch = first_batch
        self.rows = rows
        self.max_bad_share = max_bad_share
        self.extras = extras

    def __len__(self) -> int:
        return self.num_batches

    def __str__(self) -> str:
        return f"ImageTextDataset({self.source!r}, {self.order!r}, seed={self.seed})"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        return self.batch(self.first_batch + index % len(self))

    def batch(self, number: int) -> Batch:
        """Makes one batch.

        Args:
            number: its number, counted from the beginning of training.

        Returns:
            What an element of the dataset is.
        """
        samples = np.asarray(self.order[number])
        if samples.shape != (self.order.batch_size,) or samples.dtype.kind not in "iu":
            raise ValueError(
                f"{self.order!r}[{number}] gave {samples.dtype} of shape "
                f"{samples.shape}; expected integers ({self.order.batch_size},)."
            )
        arrays: dict[str, np.ndarray] = {}
        texts: list[str] = []
        skipped: list[SkippedSample] = []
        for place, row in enumerate(self.rows):
            made, text = self._row(number, row, int(samples[row]), skipped)
            for name, array in made.items():
                if name not in arrays:
                    shape = (len(self.rows), *array.shape)
                    arrays[name] = np.empty(shape, array.dtype)
                arrays[name][place] = array
            texts.append(text)
        report(number, -1, -1, "tokenizing")
        token_ids = self.tokenizer(texts)
        if not isinstance(token_ids, Mapping):
            token_ids = {"token_ids": token_ids}
        batch: Batch = {**arrays, **token_ids}
        batch.update(self._extras(number, taken=batch))
        batch["skipped"] = tuple(skipped)
        report(number, -1, -1, "waiting")
        return batch

    def _row(
        self, number: int, row: int, sample: int, skipped: list[SkippedSample]
    ) -> tuple[Mapping[str, np.ndarray], str]:
        """Makes one row; a bad sample gives way to a random other one."""
        rng = np.random.default_rng([self.seed, number, row])
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return self._example(number, row, sample, rng)
            except _BadSample as bad:
                skipped.append(bad.record)
                rng = np.random.default_rng([self.seed, number, row, attempt])
                sample = int(rng.integers(len(self.source)))
            except Exception as error:
                error.add_note(f"In batch {number}, row {row}: sample {sample}.")
                raise
        raise SampleError(
            "no good sample",
            f"Batch {number}, row {row}: {MAX_ATTEMPTS} samples in a row were bad: "
            + "; ".join(
                f"{bad.key} in {bad.shard}: {bad.reason}, {bad.detail}"
                for bad in skipped[-3:]
            ),
        )

    def _example(
        self, number: int, row: int, sample: int, rng: np.random.Generator
    ) -> tuple[Mapping[str, np.ndarray], str]:
        report(number, row, sample, "reading")
        record: Sample = {}
        try:
            record = self.source[sample]  # a table may name a file that is not there
            report(number, row, sample, "captioning")
            text = self.captions(record, rng)
            report(number, row, sample, "transforming")
            transform: Any = self.transform
            if getattr(transform, "reads_clip", False):
                return {"images": transform(record, rng)}, text
            image = self._image(record)
            if getattr(transform, "reads_sample", False):
                return transform(image, rng, record), text
            return {"images": transform(image, rng)}, text
        except (SampleError, ImageError) as error:
            raise _BadSample(
                SkippedSample(
                    sample,
                    str(record.get("__key__") or _name_of(self.source, sample)),
                    str(record.get("__shard__", repr(self.source))),
                    error.reason,
                    error.detail,
                )
            ) from error

    def _image(self, record: Sample) -> Image.Image:
        return opened_image(record, bool(getattr(self.transform, "decodes", False)))

    def _extras(self, number: int, taken: Batch) -> dict[str, np.ndarray]:
        if self.extras is None:
            return {}
        size, hosts = self.order.batch_size, self.order.batch_size // len(self.rows)
        # One past the last row: `[seed, number]` would be the stream of row 0.
        rng = np.random.default_rng([self.seed, number, size])
        found = {}
        for name, array in self.extras(number, rng).items():
            if name in taken or name == "skipped":
                raise ValueError(f"extras gave {name!r}, which the batch has already.")
            if np.ndim(array) == 0 or len(array) % hosts:
                raise ValueError(
                    f"extras gave {name!r} of shape {np.shape(array)}: expected rows "
                    f"that divide among {hosts} hosts."
                )
            # A number of rows other than the batch's is divided alike.
            share = len(array) // hosts
            first = self.rows.start // len(self.rows) * share
            found[name] = np.ascontiguousarray(array[first : first + share])
        return found


def opened_image(record: Sample, header_only: bool = False) -> Image.Image:
    """Opens the image of a sample.

    Args:
        record: bytes by the ending of their file.
        header_only: whether decoding is left to what is done with it.

    Raises:
        SampleError: if it has none.
        ImageError: if it can't be read.
    """
    name = next((x for x in IMAGE_EXTENSIONS if x in record), None)
    if name is None:
        raise SampleError(
            NO_IMAGE,
            f"Its files are {sorted(x for x in record if x[:2] != '__')}; expected "
            f"one of {IMAGE_EXTENSIONS}.",
        )
    if header_only:
        return image_decoding.read_header(
            io.BytesIO(record[name]), name, image_decoding.DEFAULT_FORMATS
        )
    return image_decoding.open_image_file(bytes(record[name]), name)


def _name_of(source: Any, number: int) -> str:
    """Names a sample that could not be read, as far as its source can."""
    describe = getattr(source, "describe", str)
    return str(describe(number))


class _BadSample(Exception):
    """Carries the record of a bad sample out of its row."""

    def __init__(self, record: SkippedSample) -> None:
        super().__init__(record)
        self.record = record
