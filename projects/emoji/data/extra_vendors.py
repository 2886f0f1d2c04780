"""Join further emoji vendors, whose packages lack hexcodes, to the concepts."""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from projects.emoji.data.icons import Icon, IconSet, join, slug_of
from projects.emoji.data.table import Concept

# Mozilla's file names hold hexcodes (https://github.com/mozilla/fxemoji, folder
# svgs/FirefoxEmoji, u<hexcode>-<name>.svg); the icon package kept the names only.
_FXEMOJI = Path(__file__).with_name("fxemoji_hexcodes.json")


def join_vendor(
    icons: IconSet, vendor: str, concepts: Sequence[Concept]
) -> list[tuple[int, int, Icon]]:
    """Returns concept id, number of the drawing (from 1) and drawing."""
    if vendor == "fxemoji":
        listed: dict[str, str] = json.loads(_FXEMOJI.read_text(encoding="utf-8"))
        names = {code: name for name, code in listed.items() if name in icons.icons}
        # Its other names are Mozilla's own; a slug would only find mistakes.
        known = [c for c in concepts if c.hexcode in names]
        joined = join(replace(icons, names=names), known)
        return [(number, 1, icon) for number, icon in sorted(joined.items())]
    drawings = []
    for number, part in numbered_parts(icons, concepts).items():
        part = replace(part, names=unicode_names(part, concepts))
        drawings += [
            (c, number, icon) for c, icon in sorted(join(part, concepts).items())
        ]
    return drawings


def numbered_parts(icons: IconSet, concepts: Sequence[Concept]) -> dict[int, IconSet]:
    """Splits off second and further drawings, named like ``boar-1`` and ``boar-2``."""
    slugs = {slug_of(concept.label) for concept in concepts}
    parts: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for name, data in icons.icons.items():
        numbered = re.fullmatch(r"(.+)-(\d)", name)
        if numbered and name not in slugs and numbered[1] not in icons.icons:
            parts[int(numbered[2])][numbered[1]] = data
        else:
            parts[1][name] = data
    return {
        number: replace(icons, icons=part, aliases=icons.aliases if number == 1 else {})
        for number, part in sorted(parts.items())
    }


def unicode_names(icons: IconSet, concepts: Sequence[Concept]) -> dict[str, str]:
    """Maps hexcodes to icons named by the character, such as ``direct-hit``.

    A name that is a label, of whichever emoji, is left to the label.
    """
    labels = {slug_of(concept.label) for concept in concepts}
    names = {}
    for concept in concepts:
        if "-" in concept.hexcode:
            continue
        name = slug_of(unicodedata.name(chr(int(concept.hexcode, 16)), ""))
        named = slug_of(concept.label) in icons.icons
        if not named and name in icons.icons and name not in labels:
            names[concept.hexcode] = name
    return names
