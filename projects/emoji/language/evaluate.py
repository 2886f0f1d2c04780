"""What does a trained captioner answer, and how much of it is more than a guess?

Run:      python -m projects.emoji.language.evaluate --emoji data/emoji \\
              --data data/language --preset runs/language/aligned-0/preset \\
              --output runs/language/answers-0
Expect:   `scores.json` and `scores.md`: each kind of question of each test set, beside
          the same model asked about other images, and zero-shot classification by the
          core encoder where names are asked; `answers.png`, the first samples of each
          set with their answers, and `answers.json`, all of them.

No test set decides anything: they are read here.
"""

import argparse
import dataclasses
import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.data.questions import Question, questions_of
from keras_pe.data.tar_shards import open_shards
from keras_pe.evaluation.intervals import Score
from keras_pe.evaluation.language import (
    AnswerScores,
    anls,
    box_accuracy,
    cider,
    exact_match,
    parse_box,
)
from keras_pe.evaluation.zero_shot import ZeroShotClassifier
from keras_pe.files import write_atomically
from keras_pe.language import VisionLanguageModel
from keras_pe.language.prompts import Prompt
from keras_pe.probing.bootstrap import bootstrap_scores, interval
from projects.emoji.data.captions import class_prompts
from projects.emoji.evaluation import plain_classes
from projects.emoji.language.answer_figure import answer_figure
from projects.emoji.preset import TEST_VENDOR

SETS = (
    "validation",
    "test_vendor",
    "test_heldout",
    "test_vendor_heldout",
    "scenes_test",
    "captions_test",
    "words_validation",
    "words_test_seen_fonts_seen_words",
    "words_test_seen_fonts_unseen_words",
    "words_test_unseen_fonts_seen_words",
    "words_test_unseen_fonts_unseen_words",
)
NAMES = "name, neither flag nor symbol"
WORDS = "reading, single words"  # of two to six letters
SHOWN = 6  # samples of a set in the figure


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question of a sample.

    Attributes:
        image: number of the sample in its set.
        about: what the shards say of it.
        question: with its answer.
    """

    image: int
    about: dict[str, Any]
    question: Question


def read_set(
    folder: Path, name: str, prompt: Prompt, most: int | None = None
) -> tuple[list[Image.Image], list[Asked]]:
    """Returns images of a set and all that is asked of them.

    Right answers are as the model's words can write them. Of a set that has more than
    `most` images these are drawn, always the same ones.
    """
    source = open_shards(str(folder / f"{name}-*.tar"))
    images, asked = [], []
    order = np.random.default_rng(0).permutation(len(source))[:most]
    for number, place in enumerate(sorted(order.tolist())):
        sample = source[place]
        images.append(Image.open(io.BytesIO(sample["png"])).convert("RGB"))
        about = json.loads(sample["json"])
        for one in questions_of(sample):
            one = dataclasses.replace(one, answer=prompt.written(one.answer))
            asked.append(Asked(number, about, one))
    return images, asked


# === Scores ===
def metrics_of(kind: str) -> dict[str, Callable[[list[str], list[str]], AnswerScores]]:
    """Returns how answers of a kind are scored."""
    if kind == "grounding":
        return {"box": lambda given, right: box_accuracy(given, _boxes(right))}
    if kind == "caption":
        return {"cider": lambda given, right: cider(given, [[text] for text in right])}
    exact = {"exact": lambda given, right: exact_match(given, [[x] for x in right])}
    if kind.startswith("reading"):
        return {**exact, "anls": lambda given, right: anls(given, [[x] for x in right])}
    return exact


def _boxes(texts: list[str]) -> list[Any]:
    return [parse_box(text) for text in texts]


def kinds_of(asked: Asked) -> list[str]:
    """Returns the kinds under which a question is scored."""
    kind, about = asked.question.kind, asked.about
    found = [kind]
    plain = not (about.get("is_flag") or about.get("is_symbol"))
    if kind == "name" and plain:
        found.append(NAMES)
    if kind == "reading" and asked.question.answer.isalpha():
        found.append(WORDS)
    return found


def scores_of(asked: Sequence[Asked], answers: Sequence[str]) -> dict[str, Score]:
    """Returns the score of each kind and metric, "name (exact)"."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(asked):
        for kind in kinds_of(one):
            rows[kind].append(row)
    found = {}
    for kind, places in rows.items():
        given = [answers[row] for row in places]
        right = [asked[row].question.answer for row in places]
        images = np.array([asked[row].image for row in places])
        for name, metric in metrics_of(kind).items():
            found[f"{kind} ({name})"] = metric(given, right).score(images)
    return found


def other_images(count: int) -> np.ndarray:
    """Returns for each image the number of another one, none its own."""
    order = np.random.default_rng(0).permutation(count)
    found = np.empty(count, int)
    found[order] = np.roll(order, 1)
    return found


def answer_set(
    model: VisionLanguageModel, images: list[Image.Image], asked: Sequence[Asked]
) -> tuple[list[str], list[str]]:
    """Returns the answers, and those to the same questions about other images."""
    questions = [one.question.question for one in asked]
    other = other_images(len(images))
    # One more than the longest: what has not ended there is no right answer.
    right = [one.question for one in asked]
    lengths = [len(model.prompt.answer(one.answer, one.question)) for one in right]
    found = []
    for place in (lambda n: n, lambda n: int(other[n])):
        shown = [images[place(one.image)] for one in asked]
        found.append(model.generate(shown, questions, 1 + max(lengths)))
    seeing, blind = found
    return list(seeing), list(blind)


# === The core, zero-shot ===
def zero_shot_hits(
    core: str, emoji: Path, images: list[Image.Image], asked: Sequence[Asked]
) -> np.ndarray:
    """Returns whether the core's first class of each asked image is right.

    It chooses among the names of all emoji of the vendor that are neither flags nor
    symbols, as `projects.emoji.preset` scores it.
    """
    classes = plain_classes(emoji, TEST_VENDOR)
    place = {concept["id"]: number for number, concept in enumerate(classes)}
    model, tokenizer = PECore.from_preset(core), PETokenizer.from_preset(core)
    names = [concept["label"] for concept in classes]
    classifier = ZeroShotClassifier(
        model, tokenizer, names, class_prompts(), batch_size=128
    )
    converter = PEImageConverter.from_preset(core)
    shown = converter([images[one.image] for one in asked])
    best = classifier.similarities(shown).argmax(axis=1)
    labels = [place[one.about["concept"]] for one in asked]
    return np.asarray(best == np.array(labels))


def names_beside_zero_shot(
    core: str,
    emoji: Path,
    images: list[Image.Image],
    asked: Sequence[Asked],
    answers: Sequence[str],
) -> dict[str, Any]:
    """Returns shares of right names by answers and zero-shot, and their difference."""
    rows = [row for row, one in enumerate(asked) if NAMES in kinds_of(one)]
    of_names = [asked[row] for row in rows]
    right = [[one.question.answer] for one in of_names]
    answered = exact_match([answers[row] for row in rows], right).values
    chosen = zero_shot_hits(core, emoji, images, of_names).astype("float64")
    gains = bootstrap_scores((answered - chosen)[:, None], lambda means: means[..., 0])
    low, high = interval(gains)
    return {
        "images": len(rows),
        "answers": float(answered.mean()),
        "zero-shot": float(chosen.mean()),
        "gain": float((answered - chosen).mean()),
        "low": low,
        "high": high,
    }


# === The page ===
def table(content: dict[str, Any]) -> str:
    """Returns the scores as Markdown, per cent with 95 % intervals over images."""
    lines = [
        "| set | question | answers | right | about other images |",
        "|---" * 5 + "|",
    ]
    for name, kinds in content["sets"].items():
        for kind, pair in kinds.items():
            seeing, blind = (Score(**pair[key]) for key in ("right", "blind"))
            lines.append(f"| {name} | {kind} | {seeing.count} | {seeing} | {blind} |")
    found = content["names"]
    answered, chosen, gain, low, high = (
        f"{100 * found[key]:.1f}"
        for key in ("answers", "zero-shot", "gain", "low", "high")
    )
    lines += [
        "",
        f"Names of {found['images']} emoji of the unseen vendor, concepts seen: "
        f"answers {answered}, zero-shot top-1 {chosen}, gain {gain} ({low} to {high}).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Asks a preset all test questions and writes what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emoji", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--core", default="pe_core_emoji_patch8_64")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--most-images", type=int, help="of a set; default: all")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    model = VisionLanguageModel.from_preset(options.preset)
    content: dict[str, Any] = {"preset": Path(options.preset).name, "sets": {}}
    said, shown = {}, []
    for name in options.sets:
        images, asked = read_set(options.data, name, model.prompt, options.most_images)
        answers, blind = answer_set(model, images, asked)
        seeing, guessed = scores_of(asked, answers), scores_of(asked, blind)
        content["sets"][name] = {
            kind: {
                "right": dataclasses.asdict(score),
                "blind": dataclasses.asdict(guessed[kind]),
            }
            for kind, score in seeing.items()
        }
        print(name, {kind: str(score) for kind, score in seeing.items()}, flush=True)
        said[name] = [
            [one.image, one.question.question, one.question.answer, answer]
            for one, answer in zip(asked, answers, strict=True)
        ]
        if name == "test_vendor":
            content["names"] = names_beside_zero_shot(
                options.core, options.emoji, images, asked, answers
            )
        step = max(len(asked) // SHOWN, 1)
        shown += [
            (images[one.image], one.question.question, answer, one.question.answer)
            for one, answer in list(zip(asked, answers, strict=True))[
                step // 2 :: step
            ][:SHOWN]
        ]
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(options.output / "scores.json", text + "\n")
    write_atomically(options.output / "answers.json", json.dumps(said) + "\n")
    if "names" in content:
        write_atomically(options.output / "scores.md", table(content))
    answer_figure(shown, options.output / "answers.png")


if __name__ == "__main__":
    main()
