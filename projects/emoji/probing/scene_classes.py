"""The classes of the scenes: subgroups of the emoji table that name a kind of thing."""

from collections.abc import Mapping
from typing import Any

# Class -> subgroups of emojibase (Unicode's own). Subgroups that hold few drawings or
# things of many kinds ("other-object", "event") are left out.
CLASSES: dict[str, tuple[str, ...]] = {
    "mammal": ("animal-mammal",),
    "bird": ("animal-bird",),
    "reptile or amphibian": ("animal-reptile", "animal-amphibian"),
    "marine animal": ("animal-marine",),
    "bug": ("animal-bug",),
    "plant": ("plant-flower", "plant-other"),
    "fruit": ("food-fruit",),
    "vegetable": ("food-vegetable",),
    "meal": ("food-prepared", "food-asian"),
    "sweet": ("food-sweet",),
    "drink": ("drink",),
    "ground vehicle": ("transport-ground",),
    "boat": ("transport-water",),
    "aircraft": ("transport-air",),
    "building": ("place-building", "place-religious"),
    "sky and weather": ("sky-weather",),
    "clock": ("time",),
    "clothing": ("clothing",),
    "tool": ("tool",),
    "sport equipment": ("sport",),
    "musical instrument": ("musical-instrument",),
    "computer or phone": ("computer", "phone"),
    "book or paper": ("book-paper",),
    "household thing": ("household",),
    "heart": ("heart",),
    "face": (
        "face-affection", "face-concerned", "face-costume", "face-glasses",
        "face-hand", "face-hat", "face-negative", "face-neutral-skeptical",
        "face-sleepy", "face-smiling", "face-tongue", "face-unwell",
    ),
    "person": (
        "person", "person-activity", "person-fantasy", "person-gesture",
        "person-resting", "person-role", "person-sport",
    ),
    "hand": (
        "hand-fingers-closed", "hand-fingers-open", "hand-fingers-partial",
        "hand-prop", "hand-single-finger", "hands",
    ),
}  # fmt: skip
# Members of those subgroups that are no such thing; chosen by name, before any model
# was scored.
LEFT_OUT = frozenset(
    {
        "aerial tramway", "anchor", "brick", "bus stop", "closed umbrella",
        "construction", "empty nest", "feather", "fire", "folding hand fan",
        "fuel pump", "gem stone", "hair pick", "horizontal traffic light", "ice",
        "label", "lipstick", "love letter", "martial arts uniform", "microbe",
        "motorway", "mountain cableway", "nail polish", "nest with eggs", "oil drum",
        "paw prints", "police car light", "prayer beads", "railway track", "ring",
        "ring buoy", "rock", "running shirt", "seat", "spider web", "spiral shell",
        "station", "stop sign", "suspension railway", "thermometer", "umbrella",
        "umbrella on ground", "umbrella with rain drops", "vertical traffic light",
        "wedding", "wheel", "wing", "wood",
    }
)  # fmt: skip
CLASS_NAMES = ("background", *CLASSES)
_CLASS_OF = {
    subgroup: CLASS_NAMES.index(name)
    for name, subgroups in CLASSES.items()
    for subgroup in subgroups
}


def class_of(record: Mapping[str, Any]) -> int | None:
    """Returns the class of a drawing, or None when it belongs to none.

    >>> CLASS_NAMES[class_of({"subgroup": "food-fruit", "label": "lemon"})]
    'fruit'
    """
    if record["label"] in LEFT_OUT or record.get("is_flag") or record.get("is_symbol"):
        return None
    return _CLASS_OF.get(record["subgroup"])
