"""Concept families: one thing, whatever its gender, skin, hair or direction.

Held-out concepts are chosen by family, so that "woman running" is never in
training when "person running" is held out. A family id is a normalised
hexcode sequence, for example ``1F3C3`` for all runners.
"""

_ZWJ = "200D"
_INVISIBLE = {"FE0F", "FE0E", _ZWJ}
_SKIN_TONES = {f"1F3F{digit}" for digit in "BCDEF"}
_GENDER_SIGNS = {"2640", "2642"}
_DIRECTIONS = {"27A1", "2B05"}
_HAIR = {"1F9B0", "1F9B1", "1F9B2", "1F9B3"}

ADULT, CHILD, OLDER = "1F9D1", "1F9D2", "1F9D3"
FAMILY, HOLDING_HANDS, KISS, COUPLE = "1F46A", "1F46B", "1F48F", "1F491"
BUNNY_EARS, WRESTLERS, SANTA = "1F46F", "1F93C", "1F385"
FEEDING, ROYALTY, DANCING = "1F931", "1FAC5", "1F483"
WEDDING, PREGNANT, CLOCK = "1F470", "1FAC4", "1F550"

# Code points that stand for the same kind of person.
_SAME: dict[str, str] = {
    "1F468": ADULT,  # man
    "1F469": ADULT,  # woman
    "1F466": CHILD,  # boy
    "1F467": CHILD,  # girl
    "1F474": OLDER,  # old man
    "1F475": OLDER,  # old woman
    "1F471": ADULT,  # person: blond hair
    "1F9D4": ADULT,  # person: beard
    "1F478": ROYALTY,  # princess
    "1F934": ROYALTY,  # prince
    "1F935": WEDDING,  # person in tuxedo
    "1F936": SANTA,  # Mrs. Claus
    "1F57A": DANCING,  # man dancing
    "1F46C": HOLDING_HANDS,  # men holding hands
    "1F46D": HOLDING_HANDS,  # women holding hands
    "1F930": PREGNANT,  # pregnant woman
    "1FAC3": PREGNANT,  # pregnant man
}
_SAME |= {f"{code:X}": CLOCK for code in range(0x1F550, 0x1F568)}  # clock faces
# Mirror images, which a horizontal flip in training would turn into each other.
_SAME |= {
    "1F449": "1F448",  # backhand index pointing right, left
    "1F50E": "1F50D",  # magnifying glass tilted right, left
    "1F91C": "1F91B",  # right-facing fist, left-facing fist
    "1FAF2": "1FAF1",  # leftwards hand, rightwards hand
    "1FAF8": "1FAF7",  # rightwards pushing hand, leftwards pushing hand
    "1F316": "1F314",  # waning gibbous moon, waxing gibbous moon
    "1F317": "1F313",  # last quarter moon, first quarter moon
    "1F318": "1F312",  # waning crescent moon, waxing crescent moon
    "1F31C": "1F31B",  # last quarter moon face, first quarter moon face
}

# Two adults joined by a sign, which names the family.
_BETWEEN_ADULTS: dict[str, str] = {
    "1F48B": KISS,
    "2764": COUPLE,
    "1F91D": HOLDING_HANDS,
    "1F430": BUNNY_EARS,
    "1FAEF": WRESTLERS,
}
# One adult with a thing that has its own older code point.
_ADULT_WITH: dict[str, str] = {"1F384": SANTA, "1F37C": FEEDING}


def normalise_hexcode(hexcode: str) -> str:
    """Upper-cases a hexcode sequence and drops its variation selectors."""
    parts = hexcode.upper().replace("_", "-").split("-")
    return "-".join(part for part in parts if part not in {"FE0F", "FE0E"})


def hexcode_of(text: str) -> str:
    """Returns the normalised hexcode sequence of an emoji string."""
    return normalise_hexcode("-".join(f"{ord(char):04X}" for char in text))


def family_of(hexcode: str) -> str:
    """Returns the family id of a hexcode sequence.

    >>> family_of("1F3C3-200D-2640-FE0F") == family_of("1F3C3")
    True
    """
    parts = _visible_parts(hexcode)
    if parts.count(ADULT) >= 2:
        for sign, family in _BETWEEN_ADULTS.items():
            if sign in parts:
                return family
    if len(parts) > 1 and set(parts) <= {ADULT, CHILD}:
        return FAMILY
    if len(parts) == 2 and parts[0] == ADULT:
        if parts[1] in _HAIR:
            return ADULT
        return _ADULT_WITH.get(parts[1], "-".join(parts))
    return "-".join(parts)


def _visible_parts(hexcode: str) -> list[str]:
    """Drops joiners, skin, gender and direction; unifies kinds of person."""
    parts = [p for p in hexcode.upper().split("-") if p not in _INVISIBLE]
    if len(parts) > 1:  # alone, such a code point is an emoji of its own
        dropped = _SKIN_TONES | _GENDER_SIGNS | _DIRECTIONS
        parts = [p for p in parts if p not in dropped] or parts
    return [_SAME.get(part, part) for part in parts]
