"""What a sample holds, where its caption is, and what becomes of those that are bad."""

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

Sample = dict[str, Any]

# In the order in which a sample's image is looked for.
IMAGE_EXTENSIONS = (
    *("jpg", "jpeg", "webp", "png", "gif", "bmp", "tif", "tiff", "ppm"),
    *("jpe", "jfif", "mpo", "apng", "dib", "pgm", "pbm", "pnm", "pfm"),
)

# === Those that cannot be used ===
# The values of `SampleError.reason`; an image's are in `preprocessing.bad_images`.
NO_IMAGE = "no image"
NO_CAPTION = "no caption"
DAMAGED_CAPTION = "damaged caption"

# How many skipped samples are logged, and how many are kept by name: memory must not
# grow with the length of a run.
NUM_LOGGED = 5
NUM_NAMED = 1000

_log = logging.getLogger(__name__)


class SampleError(ValueError):
    """A sample that cannot be used; raise it from your own functions, too.

    Args:
        reason: a short, fixed string, for counting.
        detail: what was found, what was expected and what to do.

    Example:
        >>> print(SampleError(NO_CAPTION, "Its text is empty."))
        no caption. Its text is empty.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}. {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class TooManySkipped(RuntimeError):
    """More samples are bad than a run allows: a broken data set, not bad luck."""


class SkippedSample(NamedTuple):
    """One sample that another one took the place of.

    Args:
        number: its position in the source.
        key: its key.
        shard: the file it is in.
        reason: one of a few fixed strings, for counting.
        detail: what exactly was wrong.
    """

    number: int
    key: str
    shard: str
    reason: str
    detail: str


class SkippedSamples:
    """Every sample a run looked at, and every one it skipped.

    Args:
        max_bad_share: the largest allowed share of skipped samples.
        min_samples: samples to look at before the share is judged.

    Example:
        >>> skipped = SkippedSamples(max_bad_share=0.5)
        >>> skipped.add_batch(3, [SkippedSample(7, "007", "a.tar", NO_CAPTION, "")])
        >>> print(skipped)
        1 of 4 samples skipped: 1 no caption (007 in a.tar)
    """

    def __init__(self, max_bad_share: float = 0.01, min_samples: int = 100) -> None:
        if not 0 <= max_bad_share <= 1:
            raise ValueError(
                f"max_bad_share={max_bad_share!r}: expected a share from 0 (none) to 1."
            )
        self.max_bad_share = float(max_bad_share)
        self.min_samples = int(min_samples)
        self.num_samples = 0
        self.num_skipped = 0
        self.by_reason: Counter[str] = Counter()
        self._named: dict[int, SkippedSample] = {}

    @property
    def named(self) -> list[SkippedSample]:
        """The first thousand different samples that were skipped, in order."""
        return list(self._named.values())

    def add_batch(self, num_rows: int, skipped: Sequence[SkippedSample]) -> None:
        """Adds what a batch says about itself.

        Args:
            num_rows: samples in the batch, all of them good.
            skipped: those left out on the way.

        Raises:
            TooManySkipped: if the share of skipped samples passes the limit.
        """
        self.num_samples += num_rows + len(skipped)
        for sample in skipped:
            if self.num_skipped < NUM_LOGGED:
                _log.warning(
                    "skipped %s in %s: %s. %s",
                    sample.key,
                    sample.shard,
                    sample.reason,
                    sample.detail,
                )
            self.num_skipped += 1
            self.by_reason[sample.reason] += 1
            if len(self._named) < NUM_NAMED:
                self._named.setdefault(sample.number, sample)
        if (
            self.num_samples >= self.min_samples
            and self.num_skipped > self.max_bad_share * self.num_samples
        ):
            raise TooManySkipped(
                f"{self}. max_bad_share={self.max_bad_share:g} allows "
                f"{int(self.max_bad_share * self.num_samples)}. Repair or remove them, "
                "or raise max_bad_share."
            )

    def __str__(self) -> str:
        parts = []
        for reason, count in self.by_reason.most_common():
            names = [
                f"{sample.key} in {sample.shard}"
                for sample in self._named.values()
                if sample.reason == reason
            ]
            more = ", ..." if count > 3 else ""
            parts.append(f"{count} {reason} ({', '.join(names[:3])}{more})")
        head = f"{self.num_skipped} of {self.num_samples} samples skipped"
        return head + (": " + "; ".join(parts) if parts else "")


# === Captions ===
# Text files and JSON fields that hold captions, the first one with a text counts.
CAPTION_KEYS = ("txt", "caption", "captions", "text")


@dataclasses.dataclass(frozen=True)
class CaptionReader:
    """Reads the caption of a sample.

    Each key is looked for among the sample's files (`0001.txt`) and among the fields of
    its `.json` file, whatever its capitals: LAION writes `TEXT`. A value may be a text
    or a list, of which one text is drawn. What is null or blank is passed over, and the
    next key is tried.

    Args:
        keys: names of files or fields, in the order of trust. One string is one key.

    Raises:
        ValueError: if there is no key, or an empty one.

    Example:
        >>> read = CaptionReader("title")
        >>> read({"json": b'{"title": "a cat"}'}, np.random.default_rng(0))
        'a cat'
    """

    keys: Sequence[str] = CAPTION_KEYS

    def __post_init__(self) -> None:
        keys = (self.keys,) if isinstance(self.keys, str) else tuple(self.keys)
        if not keys or not all(isinstance(key, str) and key.strip() for key in keys):
            raise ValueError(
                f"keys={self.keys!r}: expected names of text files or JSON fields, "
                "such as 'txt' or 'caption'."
            )
        object.__setattr__(self, "keys", keys)

    def __call__(self, sample: dict[str, Any], rng: np.random.Generator) -> str:
        """Returns the caption of a sample.

        Args:
            sample: what a source gives: bytes by extension.
            rng: where the choice among several captions comes from. It is used only
                where there is a list.

        Returns:
            The caption, with no white space around it.

        Raises:
            SampleError: if there is none, or it is damaged.
        """
        try:
            caption = self._find(sample, rng)
        except (ValueError, RecursionError) as error:
            raise SampleError(
                DAMAGED_CAPTION, f"{error}: expected UTF-8, in .json files valid JSON."
            ) from None
        if caption is None:
            raise SampleError(NO_CAPTION, self._missing(sample))
        return caption

    def _find(self, sample: dict[str, Any], rng: np.random.Generator) -> str | None:
        record: dict[str, Any] | None = None
        for key in self.keys:
            name = key.lower()  # as extensions are
            if name in sample and name != "json":
                caption = _text_of(bytes(sample[name]).decode("utf-8-sig"), rng)
                if caption is not None:
                    return caption
            if record is None:  # not before: a sound .txt makes up for a damaged .json
                record = _record(sample)
            if key in record:
                caption = _text_of(record[key], rng)
            else:
                caption = _text_of(_any_case(record, name), rng)
            if caption is not None:
                return caption
        return None

    def _missing(self, sample: dict[str, Any]) -> str:
        files = sorted(name for name in sample if not name.startswith("__"))
        fields = sorted(map(str, _record(sample)))
        where = f", and its .json has {fields[:12]}" if fields else ""
        return (
            f"No text in {' or '.join(self.keys)}. Its files are {files}{where}: name "
            "the file or the field that has the caption (--caption-key, or "
            "captions=CaptionReader(name))."
        )


def default_caption(sample: dict[str, Any], rng: np.random.Generator) -> str:
    """Returns the caption of a sample: its text file, or what its JSON says.

    Args:
        sample: what a source gives: `txt` as UTF-8, or `json` with `"caption"`,
            `"captions"` or `"text"`: a text, or a list of which one is drawn.
        rng: where the choice comes from.

    Returns:
        The caption, with no white space around it.

    Raises:
        SampleError: if there is none, or it is empty or damaged.

    Example:
        >>> default_caption({"txt": b"a cat"}, np.random.default_rng(0))
        'a cat'
    """
    return _DEFAULT(sample, rng)


_DEFAULT = CaptionReader()


def _record(sample: dict[str, Any]) -> dict[str, Any]:
    """Reads the .json file; a bare text or list in it is a caption, too."""
    if "json" not in sample:
        return {}
    record = json.loads(bytes(sample["json"]))
    if isinstance(record, str | list):
        return {"caption": record}
    return record if isinstance(record, dict) else {}


def _any_case(record: dict[str, Any], name: str) -> Any:
    return next((value for key, value in record.items() if key.lower() == name), None)


def _text_of(value: Any, rng: np.random.Generator) -> str | None:
    """Returns a text, or one of a list of them; None if it is blank or no text."""
    if isinstance(value, list):
        texts = [text for text in value if isinstance(text, str) and text.strip()]
        value = texts[int(rng.integers(len(texts)))] if texts else None
    return value.strip() or None if isinstance(value, str) else None
