"""The experiment's tables: scores, gains over before, what each part is worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from projects.emoji.video.scores import as_arrays, gain

BEFORE = "before"
Hits = dict[str, np.ndarray]  # of each clip or drawing, by task
Found = dict[str, list[Hits]]  # of each seed, by condition

# Columns of a table each: what they are of, and their short names.
TABLES = {
    "Animated emoji by their names": {
        "text to clip, mean": "clip by name, eight frames",
        "text to clip, first frame": "first frame",
        "text to clip, shuffled": "shuffled",
        "text to clip, backwards": "backwards",
        "clip to text, mean": "name by clip, eight frames",
        "clip to text, first frame": "first frame",
    },
    "What moves how": {
        "motion, mean": "motion, of eleven",
        "motion, first frame": "first frame",
        "kind of motion, mean": "kind, of six",
        "kind of motion, first frame": "first frame",
        "forwards or backwards, mean": "which way, of two",
        "forwards or backwards, first frame": "first frame",
    },
    "Drawings that do not move": {
        "drawings, known vendors": "known vendors",
        "drawings, held-out concepts": "held-out concepts, among themselves",
        "drawings, vendor of the clips": "vendor of the clips, drawn flat",
    },
}
# What is compared beside the model before: ours, the other, and what that says.
COMPARISONS = (
    ("title", "title, first frame", "eight frames for one"),
    ("title", "title of another clip", "its own title for another's"),
    ("title, tags", "title", "tags beside the title"),
    ("title, video caption", "title", "the captioner's caption beside the title"),
    ("title, video and frame captions", "title", "captions of frames, too"),
    ("summary of all", "title", "a summary for the title"),
    (
        "summary of all",
        "title, video and frame captions",
        "and for all of them in a row",
    ),
    ("captioner alone", "title", "captions without the title"),
    ("motions", "motions, first frame", "eight frames for one, motions"),
)


def hits_of(found: dict[str, dict[int, dict[str, Any]]]) -> Found:
    """Returns the hits of each condition, a dictionary a seed.

    Args:
        found: what the experiment wrote, by condition and seed.

    Raises:
        ValueError: if two of them were scored on other clips or drawings.
    """
    hits = {
        name: [as_arrays(seeds[seed]["hits"]) for seed in sorted(seeds)]
        for name, seeds in found.items()
    }
    sizes = {
        tuple(sorted((task, len(right)) for task, right in one.items()))
        for each in hits.values()
        for one in each
    }
    if len(sizes) > 1:
        raise ValueError(
            "Runs were scored on different clips, drawings or tasks, so that their "
            "gains are not paired: delete the JSON files of the older ones."
        )
    return hits


def summary(hits: Found) -> dict[str, Any]:
    """Returns scores, gains and comparisons, as JSON can hold them."""
    (before,) = hits[BEFORE]
    conditions: dict[str, Any] = {}
    for name, seeds in hits.items():
        conditions[name] = {"seeds": len(seeds), "tasks": {}}
        for task in before:
            each = [one[task] for one in seeds]
            said: dict[str, Any] = {"of each": [float(np.mean(x)) for x in each]}
            said["score"] = float(np.mean(each))
            if name != BEFORE:
                said["gain"] = gain(each, [before[task]])
            conditions[name]["tasks"][task] = said
    comparisons = {
        said: {
            task: gain([x[task] for x in hits[ours]], [x[task] for x in hits[other]])
            for task in before
        }
        for ours, other, said in COMPARISONS
        if ours in hits and other in hits
    }
    tests = {task: len(right) for task, right in before.items()}
    return {"tests": tests, "conditions": conditions, "comparisons": comparisons}


def as_markdown(content: dict[str, Any]) -> str:
    """Returns a summary as Markdown: per cent, and points with their intervals."""
    parts = []
    for title, columns in TABLES.items():
        tests = sorted({content["tests"][task] for task in columns})
        said = " and ".join(str(number) for number in tests)
        rows = [["trained on", "seeds", *columns.values()]]
        for name, one in content["conditions"].items():
            cells = [_cell(one["tasks"][task]) for task in columns]
            rows.append([name, str(one["seeds"]), *cells])
        parts.append(f"**{title}** ({said} of the test)\n\n{_table(rows)}")
        rows = [["what is compared", *columns.values()]]
        for name, tasks in content["comparisons"].items():
            rows.append([name, *(_points(tasks[task]) for task in columns)])
        if len(rows) > 1:
            parts.append(_table(rows))
    return "\n\n".join(parts) + "\n"


def _cell(said: dict[str, Any]) -> str:
    score = f"{100 * said['score']:.1f}"
    return f"{score}, {_points(said['gain'])}" if "gain" in said else score


def _points(said: Sequence[float]) -> str:
    """Returns a gain in points; bold where its interval leaves out zero."""
    mean, low, high = (100 * value for value in said)
    text = f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines)
