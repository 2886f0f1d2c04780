"""Questions about images with their answers: where they are in a sample, and shards.

A sample is an image (`0001.png`, `.jpg`, `.webp`, ...), or none where the text stands
alone, and `0001.json`:

    {"questions": [{"question": "What is this?", "answer": "a cat", "kind": "name"}]}

With `"conversation": true` beside them they are turns, each of which may speak of those
before; else each can be asked alone.
"""

import dataclasses
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_pe.arrays import check_sizes
from keras_pe.data.sample_errors import SampleError
from keras_pe.data.shard_files import Sample
from keras_pe.data.shard_sets import new_shards, shard_name
from keras_pe.files import FilePath

NO_QUESTIONS = "no questions"
DAMAGED_QUESTIONS = "damaged questions"

CONVERSATION = "conversation"  # field that says that questions are turns

SHARD_SIZE = 2048  # samples


@dataclasses.dataclass(frozen=True)
class Question:
    """A question about an image, and its answer.

    Args:
        question: what is asked.
        answer: what is to be said.
        kind: what it asks for ("name", "count", ...), to train and score by; may be
            empty.

    Raises:
        TypeError: if one of them is no text.
        ValueError: if question or answer is blank, or holds half a character.

    Example:
        >>> Question("What is this?", "a cat", "name").answer
        'a cat'
    """

    question: str
    answer: str
    kind: str = ""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not isinstance(value, str):
                raise TypeError(f"{name}={value!r}: expected a text.")
            if name != "kind" and not value.strip():
                raise ValueError(
                    f"{name}={value!r}: expected a text that is not blank."
                )
            # JSON may spell one half of a pair, which no file and no tokenizer takes.
            if any("\ud800" <= sign <= "\udfff" for sign in value):
                raise ValueError(f"{name}={value!r}: holds half of a surrogate pair.")


def questions_of(sample: Sample) -> tuple[Question, ...]:
    """Returns the questions of a sample, at least one.

    Args:
        sample: bytes by the ending of their file. Only `json` is read; what else that
            says of the sample or of a question is passed over.

    Raises:
        SampleError: if it has none, or they are damaged.

    Example:
        >>> member = b'{"questions": [{"question": "How many?", "answer": "3"}]}'
        >>> questions_of({"json": member})
        (Question(question='How many?', answer='3', kind=''),)
    """
    return read_questions(sample)[0]


def read_questions(sample: Sample) -> tuple[tuple[Question, ...], bool]:
    """Returns the questions of a sample, and whether they are turns of a conversation.

    Raises:
        SampleError: as `questions_of` does.
    """
    if "json" not in sample:
        files = sorted(name for name in sample if not name.startswith("__"))
        raise SampleError(
            NO_QUESTIONS, f"Its files are {files}; expected one that ends in .json."
        )
    try:
        record = json.loads(bytes(sample["json"]))
    except (ValueError, RecursionError) as error:
        raise SampleError(
            DAMAGED_QUESTIONS, f"{error}: expected valid JSON in UTF-8."
        ) from None
    if not isinstance(record, dict) or not record.get("questions"):
        held = sorted(record)[:12] if isinstance(record, dict) else type(record)
        raise SampleError(
            NO_QUESTIONS,
            f"Its .json has {held}; expected a field 'questions' with a list of "
            "{'question': ..., 'answer': ..., 'kind': ...}.",
        )
    given, turns = record["questions"], record.get(CONVERSATION, False)
    if not isinstance(given, list):
        raise SampleError(DAMAGED_QUESTIONS, f"'questions' is {given!r}, not a list.")
    if not isinstance(turns, bool):
        raise SampleError(
            DAMAGED_QUESTIONS, f"'{CONVERSATION}' is {turns!r}: expected true or false."
        )
    return tuple(_question(place, one) for place, one in enumerate(given)), turns


def _question(place: int, given: Any) -> Question:
    try:
        if not isinstance(given, dict):
            raise TypeError(f"{given!r:.80} is no object.")
        kind = given.get("kind")
        return Question(
            given["question"], given["answer"], "" if kind is None else kind
        )
    except (TypeError, ValueError, KeyError) as error:
        missing = isinstance(error, KeyError)
        raise SampleError(
            DAMAGED_QUESTIONS,
            f"Its question {place}: {f'no {error}.' if missing else error} Expected "
            "texts 'question' and 'answer', and 'kind' or none.",
        ) from None


def question_member(
    questions: Sequence[Question], about: Mapping[str, Any] | None = None
) -> bytes:
    """Returns the content of a sample's `.json`, the same bytes every time.

    Args:
        questions: at least one.
        about: more to be said of the sample, such as where its image comes from.

    Raises:
        ValueError: if there is no question, `about` has questions too, or it holds
            what JSON in UTF-8 can't say.

    Example:
        >>> question_member([Question("How many?", "3")])
        b'{"questions": [{"answer": "3", "question": "How many?"}]}'
    """
    if not questions:
        raise ValueError("A sample without a question: expected one or more.")
    if about is not None and "questions" in about:
        raise ValueError("about has a field 'questions': these come by themselves.")
    rows = [
        {name: text for name, text in dataclasses.asdict(question).items() if text}
        for question in questions
    ]
    record = {**(about or {}), "questions": rows}
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, allow_nan=False)
    return text.encode()


# === Shards ===
def write_question_shards(
    directory: FilePath,
    name: str,
    samples: Iterable[Sample],
    shard_size: int = SHARD_SIZE,
) -> list[Path]:
    """Writes `NAME-00000.tar` and so on; equal samples give equal bytes.

    They take the place of those of an earlier writing as a whole, see `new_shards`.

    Args:
        directory: where; made if it is missing.
        name: what the shards' names begin with.
        samples: `__key__`, a `json` as `question_member` gives, and the image or none,
            by the ending of its file.
        shard_size: samples a shard.

    Returns:
        The paths of the shards, at least one.

    Raises:
        SampleError: if a sample has no sound questions.
        TypeError: if a sample is no dictionary, or holds what is no bytes.
        ValueError: if there is no sample, or a key comes twice or is no plain name.
        TargetBusyError: if another process writes shards of this name there.

    Example:
        >>> member = question_member([Question("How many?", "3", "count")])
        >>> sample = {"__key__": "0001", "json": member, "png": b"..."}
        >>> [path.name for path in write_question_shards("data", "train", [sample])]
        ['train-00000.tar']
    """
    check_sizes(shard_size=shard_size)
    if not isinstance(name, str) or not name:
        raise ValueError(f"name={name!r}: expected what shards' names begin with.")
    first = Path(directory) / shard_name(name, 0)  # a name may have folders in it
    folder, name = first.parent, first.name.removesuffix(shard_name("", 0))
    with new_shards(folder, name) as aside:
        names = _write_shards(aside, name, iter(samples), shard_size)
        if not names:
            raise ValueError(f"{folder / name}: there is no sample to write.")
    return [folder / each for each in names]


def _write_shards(
    folder: Path, name: str, samples: Iterator[Sample], shard_size: int
) -> list[str]:
    """Writes shards into an empty folder; returns their names."""
    keys, names = set[str](), list[str]()
    end: Any = object()
    sample = next(samples, end)
    while sample is not end:
        names.append(shard_name(name, len(names)))
        with tarfile.open(folder / names[-1], "w") as archive:
            for _ in range(shard_size):
                if sample is end:
                    break
                _add_sample(archive, sample, keys)
                sample = next(samples, end)
    return names


def _add_sample(archive: tarfile.TarFile, sample: Sample, keys: set[str]) -> None:
    """Adds the files of a sample: the image, then what is asked of it."""
    if not isinstance(sample, Mapping):
        raise TypeError(f"Sample {len(keys)} is {sample!r:.80}: expected a dictionary.")
    key = sample.get("__key__")
    # A key ends at its first dot.
    if not isinstance(key, str) or not _is_name(key, "./\\\0"):
        raise ValueError(f"__key__={key!r}: expected a name without dots and slashes.")
    if key in keys:
        raise ValueError(f"The key {key!r} comes twice: give every sample its own.")
    keys.add(key)
    endings = [ending for ending in sample if not str(ending).startswith("__")]
    for ending in endings:
        if not _is_name(ending, "/\\\0"):
            raise ValueError(f"Sample {key!r}: {ending!r} is no ending of a file.")
        if not isinstance(sample[ending], bytes | bytearray | memoryview):
            raise TypeError(
                f"Sample {key!r}: its {ending!r} is {sample[ending]!r:.80}, expected "
                f"the bytes of a file."
            )
    try:
        questions_of(sample)
    except SampleError as error:
        raise SampleError(error.reason, f"Sample {key!r}: {error.detail}") from None
    for ending in sorted(endings, key=lambda ending: (ending == "json", ending)):
        member = tarfile.TarInfo(f"{key}.{ending}")  # no owner, mode 644, time 0
        member.size = len(sample[ending])
        archive.addfile(member, io.BytesIO(sample[ending]))


def _is_name(text: Any, forbidden: str) -> bool:
    """Returns whether a text can be a part of a file's name, without some signs."""
    if not isinstance(text, str) or not text or set(text) & set(forbidden):
        return False
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
