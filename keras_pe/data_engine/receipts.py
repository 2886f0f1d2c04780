"""What a build says of itself, and what it is refused for.

Engines have written one caption 4,000 times after a language model had refined them,
captions that repeat their words to the end, and captions of other clips. Each is seen
here before anybody trains on it.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.data_engine.stage import FAILURE, KEY, Row, check_number
from keras_pe.evaluation.intervals import Score, mean_score
from keras_pe.models.embedder import Embedder

GRAM = 3  # words that are counted as one
SURE = 3  # times that a caption comes: twice may be chance


@dataclasses.dataclass(frozen=True)
class Limits:
    """Above which a build is refused. Shares are from 0 to 1; None is no limit.

    Attributes:
        failed: clips that failed for other reasons than that they were left out: by
            `Keep`, `Choose`, as duplicates, or by hand.
        same_caption: captions that are the most frequent one, if it came at least
            three times: twice may be chance.
        repeated: of runs of three words, those that came in their caption before.
        matched: least share of captions that are closer to their own clip than to
            another one, at the lower end of its interval; a guess is a half.

    Raises:
        ValueError: if one is no share.

    Example:
        >>> Limits(failed=0.2, matched=None).repeated
        0.1
    """

    failed: float | None = 0.1
    same_caption: float | None = 0.05
    repeated: float | None = 0.1
    matched: float | None = 0.5

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and check_number(name, value) > 1:
                raise ValueError(f"{name}={value!r}: expected a share from 0 to 1.")


class ReceiptError(ValueError):
    """A build that is refused.

    Args:
        problems: what was found, a sentence each.

    Example:
        >>> ReceiptError(["None of 3 clips has a caption."]).problems
        ['None of 3 clips has a caption.']
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = list(problems)

    def __reduce__(self) -> Any:
        return type(self), (self.problems,)


def receipt(
    rows: Sequence[Row], embedder: Embedder | None = None, seed: int = 0
) -> dict[str, Any]:
    """Counts what became of clips, and looks at their captions.

    Args:
        rows: all of a build, failures too.
        embedder: of the model that gave the rows' `embedding`, to compare captions with
            their clips; None leaves that out.
        seed: of the other clips that captions are compared with.

    Returns:
        JSON values: `clips`, `captioned`, `failures` (counts by stage and reason),
        `failed_share`, `different_captions`, `most_frequent` and its `same_caption`
        share, `words` (the quantiles of their number), `repeated` and, with an
        embedder, `matched` with its interval and the mean similarity to `own` and
        `other` clips.

    Raises:
        ValueError: naming a row that has neither a failure nor a caption.
        NonFiniteError: if an embedding is not finite.

    Example:
        >>> rows = [{"key": "a", "caption": "an owl"}, {"key": "b", "caption": "a cat"}]
        >>> found = receipt(rows)
        >>> found["captioned"], found["same_caption"], found["repeated"]
        (2, 0.5, 0.0)
    """
    failures = [row[FAILURE] for row in rows if FAILURE in row]
    done = [row for row in rows if FAILURE not in row]
    for row in done:
        if not isinstance(row.get("caption"), str):
            raise ValueError(
                f"{row.get(KEY)}: caption={row.get('caption')!r:.80}, expected text: "
                f"which stage gives it?"
            )
    captions = [row["caption"] for row in done]
    reasons = Counter(f"{each['stage']}: {each['reason']}" for each in failures)
    wrong = sum(not _left_out(each) for each in failures)
    found: dict[str, Any] = {
        "clips": len(rows),
        "captioned": len(done),
        "by_hand": sum(bool(row.get("by_hand")) for row in done),
        "failures": dict(sorted(reasons.items())),
        "failed_share": _share(wrong, len(rows)),
    }
    if not captions:
        return found
    caption, times = min(
        Counter(map(str.casefold, captions)).items(), key=lambda pair: (-pair[1], pair)
    )
    words = [len(text.split()) for text in captions]
    found |= {
        "different_captions": len(set(map(str.casefold, captions))),
        "most_frequent": caption,
        "same_caption": _share(times, len(captions)),
        "words": {
            f"{share:.0%}": float(np.quantile(words, share))
            for share in (0.0, 0.05, 0.5, 0.95, 1.0)
        },
        "repeated": _repeated(captions),
    }
    if embedder is not None and len(done) > 1:
        found |= _similarities(done, captions, embedder, seed)
    return found


def check_receipt(found: dict[str, Any], limits: Limits) -> None:
    """Refuses a build that is above the limits.

    Args:
        found: what `receipt` returned.
        limits: above which a build is refused.

    Raises:
        ReceiptError: with all that is wrong.

    Example:
        >>> check_receipt(receipt([]), Limits())
        Traceback (most recent call last):
        keras_pe.data_engine.receipts.ReceiptError: None of 0 clips has a caption.
    """
    problems = []
    if not found["captioned"]:
        problems.append(f"None of {found['clips']} clips has a caption.")
    for name, what in (
        ("failed", f"of the clips failed ({_most(found['failures'])})"),
        ("same_caption", f"of the captions are {found.get('most_frequent')!r}"),
        ("repeated", "of the runs of three words came in their caption before"),
    ):
        limit = getattr(limits, name)
        value = found.get({"failed": "failed_share"}.get(name, name))
        if limit is None or value is None:
            continue
        chance = name == "same_caption" and round(value * found["captioned"]) < SURE
        if value > limit and not chance:
            problems.append(f"{value:.1%} {what}, expected at most {limit:.1%}.")
    low = found.get("matched", {}).get("low")
    if limits.matched is not None and low is not None and not low > limits.matched:
        problems.append(
            f"{found['matched']['value']:.1%} of the captions are closer to their own "
            f"clip than to another one, at least {low:.1%}: expected above "
            f"{limits.matched:.1%}. Are they captions of other clips?"
        )
    if problems:
        raise ReceiptError(problems)


def _most(failures: dict[str, int]) -> str:
    """Returns the three most frequent reasons, with their counts."""
    order = sorted(failures.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in order[:3]) or "none"


def _left_out(failure: dict[str, str]) -> bool:
    """Returns whether a clip did not fail but was left out."""
    return failure["stage"] in ("keep", "choose") or failure["reason"] in (
        "duplicate",
        "refused by hand",
    )


def _repeated(captions: Sequence[str]) -> float:
    """Returns how many runs of words came in their caption before, of all.

    Example:
        >>> _repeated(["a b c a b c"])
        0.25
    """
    again = total = 0
    for caption in captions:
        words = caption.casefold().split()
        grams = [tuple(words[n : n + GRAM]) for n in range(len(words) - GRAM + 1)]
        again += len(grams) - len(set(grams))
        total += len(grams)
    return _share(again, total)


def _similarities(
    rows: Sequence[Row], captions: Sequence[str], embedder: Embedder, seed: int
) -> dict[str, Any]:
    missing = [row[KEY] for row in rows if "embedding" not in row]
    if missing:
        raise ValueError(
            f"{missing[0]} has no embedding to compare its caption with: add the stage "
            f"Embed, or give no embedder."
        )
    clips = np.array([row["embedding"] for row in rows], "float64")
    texts = np.asarray(embedder.encode(list(captions)), "float64")
    check_finite(clips, "embeddings of clips", "clip")
    clips /= np.maximum(np.linalg.norm(clips, axis=1, keepdims=True), 1e-12)
    if clips.shape != texts.shape:
        raise ValueError(
            f"Clips have {clips.shape[1]} numbers, texts {texts.shape[1]}: the "
            f"embedder is of another model than the stage Embed."
        )
    # A clip that is not its own: turned by one step in an order that is drawn.
    order = np.random.default_rng(seed).permutation(len(rows))
    other = np.empty(len(rows), int)
    other[order] = np.roll(order, 1)
    own = (clips * texts).sum(1)
    others = (clips[other] * texts).sum(1)
    hits: Score = mean_score(own > others, seed=seed)
    return {
        "matched": {"value": hits.value, "low": hits.low, "high": hits.high},
        "similarity": {"own": float(own.mean()), "other": float(others.mean())},
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
