"""Small probing data, made once for each file of tests."""

import pytest

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.data.render import encode_webp
from projects.emoji.data.shards import to_json_bytes, write_shards
from projects.emoji.probing import clips, scenes
from tests.projects.emoji.probing.small_artwork import (
    KEPT_BACK,
    PAINTS,
    SIZE,
    THINGS,
    animation,
    concept,
    drawn,
    record_of,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What the recipes of the emoji data leave: shards of all splits."""
    directory = tmp_path_factory.mktemp("emoji")
    samples = {"train": [], "val_seen": [], "test": [], "rendition": [], "tuxpaint": []}
    number = 0
    for _, subgroup, labels in THINGS:
        for label in labels:
            number += 1
            for vendor in ("round-art", "flat-art"):
                # Some drawings are kept back for val_seen; the other vendor's are not.
                kept = vendor == "flat-art" and label in KEPT_BACK
                split = "val_seen" if kept else "train"
                record = record_of(number, label, subgroup, vendor)
                samples[split].append((record, encode_webp(drawn(label, vendor))))
            for split in ("test", "rendition", "tuxpaint"):
                record = record_of(number, label, subgroup, split, heldout=number == 1)
                samples[split].append((record, encode_webp(drawn(label, split))))
    for split in samples:
        more = record_of(90, "no entry", "warning", "signs", is_symbol=True)
        samples[split].append((more, encode_webp(drawn("no entry", "round-art"))))
        more = record_of(91, "calendar", "office", "signs")
        samples[split].append((more, encode_webp(drawn("calendar", "round-art"))))
        write_shards(directory, split, samples[split])
    return directory


@pytest.fixture(scope="module")
def few(data):
    return scenes.make_scenes(data, "train", SIZE, scenes=12, quiet=True)


@pytest.fixture(scope="module")
def film(data, tmp_path_factory):
    """Two clips of four animals; a still image and a thing are not among them."""
    rows = [concept(n, f"animal {n}", f"F{n}", subgroup="animal-bug") for n in range(6)]
    rows[5].subgroup = "tool"
    (data / "concepts.json").write_bytes(to_json_bytes([vars(row) for row in rows]))
    members = {
        f"package/assets/1f46{n}.webp": animation(colour)
        for n, colour in enumerate(PAINTS)
    }
    members["package/assets/1f464.webp"] = encode_webp(drawn("lemon", "round-art"))
    members["package/assets/1f465.webp"] = animation("red")
    members["package/assets/1f469.webp"] = b"no image, and no concept"
    made = clips.make_clips(data, members, clips=2, frames=12, size=64, quiet=True)
    with pytest.raises(ValueError, match="3 clips need 6 animals; there are 4"):
        clips.make_clips(data, members, clips=3, quiet=True)
    return made
