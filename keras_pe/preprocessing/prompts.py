"""Prompts: templates that ship with the package, your own, and those of a preset.

A preset may bring the classes that it knows and their templates in its metadata; being
somebody else's, they are taken with care.
"""

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Places for the class name: ours and CLIP Benchmark's.
PLACES = ("{}", "{c}")

# ImageNet has 1,000 classes and 80 templates, the largest public lists some 20,000.
_MOST_NAMES, _MOST_TEMPLATES = 100_000, 1_000
_LONGEST = 1_000  # characters; a model reads a few dozen words

_KINDS = ("photo", "video", "example", "demonstration")
_VERBS = ("using", "doing", "during", "performing", "practicing")
_PEOPLE = ("", "a person ", *(f"a person {verb} " for verb in _VERBS))

#: "general" is what `ZeroShotClassifier` uses; "kinetics" are the 28 of the paper's
#: video benchmarks: each kind, of the action, of a person, of a person doing it, ...
TEMPLATES: dict[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "general": (
        "{}",
        "a photo of a {}.",
        "a picture of a {}.",
        "an image of a {}.",
        "a drawing of a {}.",
    ),
    "kinetics": tuple(
        f"a {kind} of {person}{{}}." for person in _PEOPLE for kind in _KINDS
    ),
}


def read_templates(
    path: str | os.PathLike[str], dataset: str | None = None
) -> tuple[str, ...]:
    """Reads templates from a JSON file, in the layout of CLIP Benchmark.

    Args:
        path: a list of templates, or `{"data set": [templates], ...}` as upstream's
            `en_zeroshot_classification_templates.json`.
        dataset: which of several lists.

    Returns:
        The templates, with `{}` or `{c}` for the class name.

    Raises:
        ValueError: if it is no such file, or `dataset` is needed and not in it.

    Example:
        >>> lists = '{"imagenet1k": ["a bad photo of a {c}."], "fer2013": ["{c}"]}'
        >>> _ = Path("templates.json").write_text(lists)
        >>> read_templates("templates.json", "imagenet1k")
        ('a bad photo of a {c}.',)
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file: {error}.") from error
    if isinstance(content, dict):
        if dataset is None and len(content) == 1:
            (dataset,) = content
        if dataset not in content:
            raise ValueError(
                f"{path} has templates for {', '.join(map(str, content)) or 'nothing'};"
                f" expected one of these as data set, got {dataset!r}."
            )
        content = content[dataset]
    if not isinstance(content, list):
        raise ValueError(
            f"{path} holds a {type(content).__name__} for {dataset!r}; expected a list "
            'of templates, such as ["a photo of a {c}."].'
        )
    return check_templates(content)


def check_templates(templates: Sequence[Any]) -> tuple[str, ...]:
    """Returns templates as a tuple.

    Raises:
        ValueError: if there are none, or one has no single place for the class name.
    """
    if isinstance(templates, str) or len(templates) == 0:
        raise ValueError(
            f'templates={templates!r}: expected a list of at least one, such as ["{{}}"'
            f", ...], or one of {tuple(TEMPLATES)}."
        )
    for template in templates:
        places = [
            place for place in PLACES if isinstance(template, str) and place in template
        ]
        if len(places) != 1 or template.count(places[0]) != 1:
            raise ValueError(
                f"A template needs exactly one {{}} or {{c}} for the class name, got "
                f'{template!r}. For example "a photo of a {{}}.".'
            )
    return tuple(templates)


def prompt_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Returns a list of templates that ships with the package, or a checked own one.

    Raises:
        ValueError: if there is no such list, or a template has no single place.

    Example:
        >>> prompt_templates("plain"), prompt_templates(["a {c}"])
        (('{}',), ('a {c}',))
    """
    if not isinstance(templates, str):
        return check_templates(templates)
    if templates not in TEMPLATES:
        raise ValueError(
            f"templates={templates!r}: expected a list, or one of {tuple(TEMPLATES)}. "
            "Files are read by read_templates."
        )
    return TEMPLATES[templates]


def fill(template: str, class_name: str) -> str:
    """Puts a class name into a template.

    Example:
        >>> fill("a photo of a {c}.", "cat")
        'a photo of a cat.'
    """
    return template.replace("{c}", "{}").replace("{}", class_name)


# === Of a preset ===
def known_classes(
    metadata: Mapping[str, Any], where: str = "the preset"
) -> tuple[list[str], tuple[str, ...]] | None:
    """Returns the classes and templates in a preset's metadata.

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
