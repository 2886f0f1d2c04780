"""The classes and prompts that a preset's metadata brings along, taken with care."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from keras_pe.evaluation.templates import TEMPLATES, check_templates

# ImageNet has 1,000 classes and 80 templates, the largest public lists some 20,000.
_MOST_NAMES, _MOST_TEMPLATES = 100_000, 1_000
_LONGEST = 1_000  # characters; a model reads a few dozen words


def known_classes(
    metadata: Mapping[str, Any], where: str = "the preset"
) -> tuple[list[str], tuple[str, ...]] | None:
    """Return the classes and templates in a preset's metadata.

    Args:
        metadata: of a preset; `{"zero_shot": {"class_names": [...], "templates":
            [...]}}` if it knows classes.
        where: the preset, for messages.

    Returns:
        Names and templates (`"general"` ones if it has none), or None if it names no
        classes.

    Raises:
        ValueError: if they are no texts for prompts, too many or too long.

    Example:
        >>> names, templates = ["a cat", "a dog"], ["a photo of {}"]
        >>> classes = {"class_names": names, "templates": templates}
        >>> known_classes({"zero_shot": classes})
        (['a cat', 'a dog'], ('a photo of {}',))
    """
    known = metadata.get("zero_shot")
    if known is None:
        return None
    if not isinstance(known, Mapping):
        raise ValueError(f"{where} has zero_shot={known!r:.80}; expected an object.")
    names = known.get("class_names")
    if not names:
        return None
    templates = known.get("templates") or [*TEMPLATES["general"]]
    for what, texts, most in (
        ("class_names", names, _MOST_NAMES),
        ("templates", templates, _MOST_TEMPLATES),
    ):
        if not isinstance(texts, list) or len(texts) > most:
            raise ValueError(
                f"{where} has {what}={texts!r:.80}; expected a list of at most "
                f"{most:,} texts."
            )
        for place, text in enumerate(texts):
            if not isinstance(text, str) or not _is_plain(text):
                raise ValueError(
                    f"{where} has {what}[{place}]={text!r:.80}; expected a text of 1 "
                    f"to {_LONGEST:,} characters, none of which is a control character."
                )
    return list(names), check_templates(templates)


def _is_plain(text: str) -> bool:
    """Says whether a text can stand in a prompt: without control characters."""
    kinds = map(unicodedata.category, text[: _LONGEST + 1])
    return bool(text.strip()) and len(text) <= _LONGEST and not {"Cc", "Cs"} & {*kinds}
