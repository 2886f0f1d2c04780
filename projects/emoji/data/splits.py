"""Deterministic splits by hash; no random state, no order dependence."""

import hashlib
from collections.abc import Iterable

HELDOUT_SHARE = 0.10
VALIDATION_SHARE = 0.05


def unit_hash(purpose: str, text: str) -> float:
    """Maps a text to [0, 1) in a way that never changes."""
    digest = hashlib.sha256(f"{purpose}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def heldout_families(
    families: Iterable[str], share: float = HELDOUT_SHARE
) -> frozenset[str]:
    """Chooses the families that are absent from every training image.

    They are those with the lowest hashes, so that their number is exactly the
    wanted share and does not depend on luck.
    """
    ranked = sorted(
        set(families), key=lambda family: unit_hash("emoji-heldout-v1", family)
    )
    return frozenset(ranked[: round(share * len(ranked))])


def split_of(role: str, heldout: bool, vendor: str, hexcode: str) -> str:
    """Returns test, heldout, val_seen or train for one image."""
    if role == "test":
        return "test"
    if heldout:
        return "heldout"
    chosen = unit_hash("emoji-val-seen-v1", f"{vendor}:{hexcode}")
    return "val_seen" if chosen < VALIDATION_SHARE else "train"
