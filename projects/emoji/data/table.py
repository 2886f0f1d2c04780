"""Build the sorted table of concepts from emojibase and emojilib."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from projects.emoji.data.concepts import family_of, hexcode_of, normalise_hexcode
from projects.emoji.data.splits import heldout_families

FLAGS, SYMBOLS, COMPONENTS = "flags", "symbols", "component"
_WORDS = re.compile(r"[^\W\d_][\w'\u2019.& -]*|\d+[a-z]*[\w' -]*[a-z]")


@dataclass
class Concept:
    """One base emoji: what it is called and where it is drawn."""

    id: int
    hexcode: str
    label: str
    tags: list[str]
    keywords: list[str]
    group: str
    subgroup: str
    family: str
    heldout: bool
    is_flag: bool
    is_symbol: bool
    vendors: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)


def clean_keywords(words: list[str]) -> list[str]:
    """Turns underscores to spaces and drops emoticons and repeats."""
    spaced = (word.replace("_", " ").strip() for word in words)
    return list(dict.fromkeys(w for w in spaced if _WORDS.fullmatch(w)))


def build_table(
    entries: list[Mapping[str, Any]],
    messages: Mapping[str, Any],
    emojilib: Mapping[str, list[str]],
) -> list[Concept]:
    """Makes the table: base emoji only, sorted by hexcode, ids from zero.

    Skin-tone variants are nested in the entries and are left out, and so is
    the group of components (skin swatches and loose hair). A family is held
    out only when none of its members is a flag or a symbol.
    """
    groups = {g["order"]: g for g in messages["groups"]}
    subgroups = {g["order"]: g for g in messages["subgroups"]}
    keywords = {hexcode_of(text): words for text, words in emojilib.items()}
    concepts = []
    for entry in entries:
        # Regional indicators carry no group; they are letters in a box.
        ungrouped = "group" not in entry
        group = SYMBOLS if ungrouped else groups[entry["group"]]["key"]
        if group == COMPONENTS:
            continue
        hexcode = normalise_hexcode(entry["hexcode"])
        concepts.append(
            Concept(
                id=-1,
                hexcode=hexcode,
                label=entry["label"],
                tags=list(entry.get("tags", [])),
                keywords=clean_keywords(keywords.get(hexcode, [])),
                group=group,
                subgroup="alphanum"
                if ungrouped
                else subgroups[entry["subgroup"]]["key"],
                family=family_of(hexcode),
                heldout=False,
                is_flag=group == FLAGS,
                is_symbol=group == SYMBOLS,
            )
        )
    concepts.sort(key=lambda concept: concept.hexcode)
    excluded = {c.family for c in concepts if c.is_flag or c.is_symbol}
    chosen = heldout_families({c.family for c in concepts} - excluded)
    for number, concept in enumerate(concepts):
        concept.id = number
        concept.heldout = concept.family in chosen
    return concepts


def table_from_members(
    emojibase: Mapping[str, bytes], emojilib: Mapping[str, bytes]
) -> list[Concept]:
    """Builds the table from the raw package members."""
    return build_table(
        json.loads(emojibase["package/en/data.json"]),
        json.loads(emojibase["package/en/messages.json"]),
        json.loads(emojilib["package/dist/emoji-en-US.json"]),
    )
