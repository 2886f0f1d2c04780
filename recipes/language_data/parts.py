"""Deal names to parts by their hash: nothing random, and no order matters."""

import hashlib
from collections.abc import Mapping


def part_of(name: str, shares: Mapping[str, float], purpose: str) -> str:
    """Returns the part that a name belongs to, the same one for ever.

    Args:
        name: what is dealt: a word, a font's family.
        shares: the parts, and which share of all names each gets; together 1.
        purpose: another purpose deals the same names differently.

    Raises:
        ValueError: if the shares do not make a whole.

    Example:
        >>> part_of("cat", {"train": 0.9, "test": 0.1}, "words")
        'train'
    """
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise ValueError(f"shares={dict(shares)}: expected shares that add up to 1.")
    digest = hashlib.sha256(f"{purpose}:{name}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for part, share in shares.items():
        place -= share
        if place < 0:
            return part
    return part  # rounding
