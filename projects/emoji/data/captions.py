"""Captions of emoji artwork, written from labels, tags and keywords."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# The same wording in training and in zero-shot prompts: the text tower is small.
TEMPLATES = (
    "{}",
    "a {}",
    "an emoji of {}",
    "a picture of a {}",
    "a drawing of a {}",
    "an icon of a {}",
    "{} emoji",
)
PLAIN_SHARE = 0.55  # captions that are the label in a template, without more words


def class_prompts() -> tuple[str, ...]:
    """Returns the zero-shot templates that fit these captions."""
    return TEMPLATES


def words_about(record: Mapping[str, Any]) -> list[str]:
    """Returns tags and keywords of a record, without repeats and without its label."""
    label = record["label"].lower()
    words = [w.replace("_", " ").lower() for w in record["tags"] + record["keywords"]]
    return [w for w in dict.fromkeys(words) if w != label]


def captions(record: Mapping[str, Any]) -> list[str]:
    """Returns every plain caption of a record: its label in each template."""
    return [template.format(record["label"].lower()) for template in TEMPLATES]


def sample_caption(record: Mapping[str, Any], rng: np.random.Generator) -> str:
    """Returns one caption: the label in a template, often with words about it.

    Args:
        record: label, tags and keywords, as in the shards.
        rng: where the choice comes from.
    """
    caption = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
    caption = caption.format(record["label"].lower())
    words = words_about(record)
    if not words or rng.random() < PLAIN_SHARE:
        return caption
    count = min(int(rng.integers(1, 3)), len(words))
    chosen = [words[i] for i in rng.permutation(len(words))[:count]]
    if rng.random() < 0.25:  # words alone: the label is not the only name of a thing
        return ", ".join(chosen)
    return ", ".join([caption, *chosen])
