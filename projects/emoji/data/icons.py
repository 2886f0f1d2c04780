"""Read an icon set and join its drawings to concepts."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from projects.emoji.data.concepts import normalise_hexcode
from projects.emoji.data.table import Concept


@dataclass(frozen=True)
class Icon:
    """An SVG body with its view box and mirroring."""

    body: str
    box: tuple[float, float, float, float]  # left, top, width, height
    flip_x: bool = False
    flip_y: bool = False
    quarter_turns: int = 0

    def to_svg(self) -> str:
        """Wraps the body in a square document, centred, keeping its shape."""
        left, top, width, height = self.box
        side = max(width, height)
        x, y = left + (width - side) / 2, top + (height - side) / 2
        middle_x, middle_y = left + width / 2, top + height / 2
        body = self.body
        if self.flip_x or self.flip_y or self.quarter_turns:
            scale = f"{-1 if self.flip_x else 1} {-1 if self.flip_y else 1}"
            body = (
                f'<g transform="translate({middle_x:g} {middle_y:g}) '
                f"rotate({90 * self.quarter_turns}) scale({scale}) "
                f'translate({-middle_x:g} {-middle_y:g})">{body}</g>'
            )
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{x:g} {y:g} {side:g} {side:g}">{body}</svg>'
        )


@dataclass
class IconSet:
    """The icons of one vendor, by name and by hexcode."""

    icons: Mapping[str, Mapping[str, Any]]
    aliases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)  # hexcode -> name
    width: float = 16
    height: float = 16

    @classmethod
    def from_members(cls, members: Mapping[str, bytes]) -> "IconSet":
        """Reads ``icons.json`` and ``chars.json`` of a package."""
        icons = json.loads(members["package/icons.json"])
        chars = json.loads(members["package/chars.json"])
        return cls(
            icons=icons["icons"],
            aliases=icons.get("aliases", {}),
            names={normalise_hexcode(code): name for code, name in chars.items()},
            width=icons.get("width", 16),
            height=icons.get("height", 16),
        )

    def icon(self, name: str) -> Icon:
        """Resolves a name, following aliases and their mirroring."""
        flip_x = flip_y = False
        turns = 0
        for _ in range(8):
            if name in self.icons:
                break
            alias = self.aliases[name]
            flip_x ^= bool(alias.get("hFlip"))
            flip_y ^= bool(alias.get("vFlip"))
            turns += int(alias.get("rotate", 0))
            name = alias["parent"]
        data = self.icons[name]
        box = (
            float(data.get("left", 0)),
            float(data.get("top", 0)),
            float(data.get("width", self.width)),
            float(data.get("height", self.height)),
        )
        return Icon(data["body"], box, flip_x, flip_y, turns % 4)


def slug_of(label: str) -> str:
    """Returns the icon name that a label would have.

    >>> slug_of("St. Martin & woman's hat")
    'st-martin-womans-hat'
    """
    plain = re.sub("['\u2019.]", "", label.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def join(icons: IconSet, concepts: Iterable[Concept]) -> dict[int, Icon]:
    """Maps concept ids to drawings: by hexcode, else by the label's slug.

    Hexcodes are trusted, even where a vendor draws two concepts alike. A slug
    never reuses a drawing, since a name that is only an alias may belong to a
    neighbouring meaning.
    """
    concepts = list(concepts)
    joined: dict[int, Icon] = {}
    used: set[Icon] = set()
    rounds: tuple[list[tuple[Concept, str | None]], ...] = (
        [(c, icons.names.get(c.hexcode)) for c in concepts],
        [(c, slug_of(c.label)) for c in concepts if slug_of(c.label) in icons.icons],
        [(c, slug_of(c.label)) for c in concepts],
    )
    for number, candidates in enumerate(rounds):
        for concept, name in candidates:
            known = name is not None and (name in icons.icons or name in icons.aliases)
            if concept.id in joined or name is None or not known:
                continue
            icon = icons.icon(name)
            if number == 0 or icon not in used:
                joined[concept.id] = icon
                used.add(icon)
    return joined
