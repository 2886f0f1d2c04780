"""What the Hugging Face Hub reads of a card: YAML, made of what the card itself says.

Run:      python -m projects.emoji.card_head keras_pe/presets/*.md
Expect:   the same cards, whose YAML has the figures of their tables.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from keras_pe.files import write_atomically
from keras_pe.presets.model_card import FEATURES, TASKS, front_matter
from keras_pe.presets.serialized import ANSWERING

KINDS = {
    "pe_captioner": ANSWERING,
    "pe_core": "PECore",
    "pe_lang": "PELang",
    "pe_spatial": "PESpatial",
}
HEAD = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
# Names alone: they come from npm and Debian, and none of them is on the Hub.
DATASETS = (
    "openmoji",
    "twemoji",
    "noto-emoji",
    "emojione",
    "fxemoji",
    "openclipart",
    "streamline-emojis",
    "streamline-ultimate-color",
    "flat-color-icons",
)
# Of the core's card: how a row is called, and the set that it is of.
SETS = {
    "unseen vendor, all": "fluent-emoji-flat",
    "the same vendor's emoji in 3-D, all": "fluent-emoji-3d",
    "photographs, all": "tuxpaint-stamps",
}
# How the Hub calls a metric, by how a card does.
METRICS = {
    "exact": "exact_match",
    "box": "accuracy",
    "anls": "anls",
    "cider": "cider",
    "J&F": "j_and_f",
    "mIoU": "mean_iou",
    "PCK": "pck",
}


def headed(card: str) -> str:
    """Returns a card with the YAML that its own tables give.

    Args:
        card: Markdown, with a head of before or without one.

    Raises:
        ValueError: if it does not begin with a preset's name, or has no results.

    Example:
        >>> row = "| photographs, all | 164 | 127 | 15.9 [11.0, 21.3] | 47.0 | 0.79 |"
        >>> "value: 15.9" in headed(f"# pe_core_x\\n{row}\\n")
        True
    """
    body = HEAD.sub("", card)
    title = re.match(r"# ((pe_[a-z]+)_\w+)\n", body)
    if title is None or title[2] not in KINDS:
        raise ValueError(f"A card begins with a preset's name, got {body[:40]!r}.")
    name, kind = title[1], KINDS[title[2]]
    found = results(body, kind)
    if not found:
        raise ValueError(f"The card of {name} has no table of results.")
    return front_matter(kind, "apache-2.0", DATASETS, name, found) + body


def results(body: str, kind: str) -> list[Any]:
    """Returns the rows of a card's table of results, `huggingface_hub.EvalResult`."""
    found = []
    asked = re.compile(rf" \(({'|'.join(METRICS)})\)$")
    for line in body.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if kind == "PECore" and cells[0].strip() in SETS:
            of_set = SETS[cells[0]]
            about = f"{cells[0]}: {cells[1]} images, {cells[2]} classes"
            found.append(_result(kind, of_set, about, "accuracy", "top-1, %", cells[3]))
        elif kind == "PESpatial" and len(cells) == 6 and ", " in cells[0]:
            task, metric = cells[0].split(", ", 1)
            if metric in METRICS:  # depth is no evidence, says the card
                found.append(_scored(kind, task, metric, cells[3]))
        elif kind == "PELang" and asked.search(cells[0]):
            task, metric = cells[0][:-1].rsplit(" (", 1)
            found.append(_scored(kind, task, metric, cells[4]))
        elif (
            kind == "VisionLanguageModel" and len(cells) == 5 and asked.search(cells[1])
        ):
            task, metric = cells[1][:-1].rsplit(" (", 1)
            found.append(_scored(kind, f"{task}, {cells[0]}", metric, cells[3]))
    return found


def _scored(kind: str, task: str, metric: str, value: str) -> Any:
    of_set = f"emoji-artwork-{re.sub('[^a-z0-9]+', '-', task)}"
    return _result(
        kind, of_set, f"artwork: {task}", METRICS[metric], f"{metric}, %", value
    )


def _result(
    kind: str, of_set: str, about: str, metric: str, called: str, value: str
) -> Any:
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type=TASKS.get(kind, FEATURES),
        dataset_type=of_set,
        dataset_name=about,
        metric_type=metric,
        metric_name=called,
        metric_value=float(value.split()[0]),
    )


def main() -> None:
    """Gives cards their heads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cards", nargs="+", type=Path)
    for path in parser.parse_args().cards:
        write_atomically(path, headed(path.read_text("utf-8")))


if __name__ == "__main__":
    main()
