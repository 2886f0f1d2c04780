"""Count the answers of shards: what a decoder that sees nothing gets."""

import glob
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from keras_pe.data import TarShards
from keras_pe.data.questions import questions_of
from keras_pe.data.shard_files import Sample


def set_samples(folder: Path, name: str) -> Iterator[Sample]:
    """Yields the samples of the shards `NAME-00000.tar` and so on, without images.

    Raises:
        FileNotFoundError: if there are none.
    """
    stem = glob.escape(str(folder / name))
    shards = TarShards(f"{stem}-[0-9][0-9][0-9][0-9][0-9].tar", extensions=("json",))
    for number in range(len(shards)):
        yield shards[number]


def answer_counts(samples: Iterable[Sample]) -> dict[str, Counter[str]]:
    """Returns how often each answer comes, by kind of question."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        for question in questions_of(sample):
            counts[question.kind][question.answer] += 1
    return dict(counts)


def top_share(counts: Counter[str]) -> float:
    """Returns the share of the commonest answer: what is right without looking."""
    return counts.most_common(1)[0][1] / counts.total()


def answer_table(counts: dict[str, Counter[str]]) -> str:
    """Returns a table of kinds: questions, answers, and the commonest one."""
    rows = [
        f"{kind or '-':10} {those.total():7} {len(those):6} {top_share(those):8.3f}  "
        f"{those.most_common(1)[0][0][:40]}"
        for kind, those in sorted(counts.items())
    ]
    head = f"{'kind':10} {'asked':>7} {'answers':>6} {'top':>8}  commonest answer"
    return "\n".join([head, *rows])
