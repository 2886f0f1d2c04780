"""Small shards with known faults, to validate.

`python -m tests.recipes.validation_shards FOLDER` writes `clean/` and `damaged/`; the
results in `tests/data/validation_results` come from these (see the README there).
"""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES, SHARDS = 120, 2
WORDS = ("red", "small", "old", "quiet", "round", "tall")
THINGS = ("boat", "house", "owl", "bridge", "cup")
SOURCES = ("camera", "scanner", "phone")

# What is done to the damaged copy: sample number -> fault, besides the drift.
NO_CAPTION = range(6)
BLANK_CAPTION = range(6, 11)
TINY = range(11, 14)
LONG = range(14, 16)  # 30:1
REPEATED = range(20, 32)  # each comes twice, under two keys
KEY_REPEATED = 50  # another image under the key of its neighbour
TRUNCATED = 40
NOT_AN_IMAGE = 41
BROKEN_JSON = 42
LONG_CAPTION = range(43, 47)


def image(rng, width, height, kind="jpeg"):
    """Returns the bytes of a noise image."""
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def clean_sample(number):
    """Returns a key and its members."""
    rng = np.random.default_rng([7, number])
    width, height = (int(side) for side in rng.integers(40, 64, 2))
    record = {"source": SOURCES[number % 3], "score": float(rng.random())}
    record["caption"] = f"a {WORDS[number % 6]} {THINGS[number % 5]} {number}"
    kind = ("jpeg", "png", "webp")[number % 3]
    return f"{number:06d}", {
        "jpg" if kind == "jpeg" else kind: image(rng, width, height, kind),
        "json": json.dumps(record).encode(),
    }


def damaged_sample(number):
    """Returns a sample with its fault; images and captions drift as well."""
    key, members = clean_sample(number)
    rng = np.random.default_rng([8, number])
    record = json.loads(members["json"])
    record["caption"] += " in the rain at night"
    record["score"] += 2.0
    members = {"jpg": image(rng, 150, 150), "json": None}
    if number in NO_CAPTION:
        del record["caption"]
    if number in BLANK_CAPTION:
        record["caption"] = "  "
    if number in LONG_CAPTION:
        record["caption"] = "word " * 500
    if number in TINY:
        members["jpg"] = image(rng, 3, 5)
    if number in LONG:
        members["jpg"] = image(rng, 1200, 40)
    if number == TRUNCATED:
        members["jpg"] = members["jpg"][:-200]
    if number == NOT_AN_IMAGE:
        members["jpg"] = b"<html>not found</html>"
    members["json"] = json.dumps(record).encode()
    if number == BROKEN_JSON:
        members["json"] = members["json"][:-3]
    return key, members


def tar_bytes(samples):
    """Packs (key, members) pairs."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for key, members in samples:
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def write_clean(folder):
    """Writes shards without a fault."""
    _write(folder, [[clean_sample(number)] for number in range(SAMPLES)])


def write_damaged(folder):
    """Writes shards with every fault; the last shard is cut."""
    samples = [[damaged_sample(number)] for number in range(SAMPLES)]
    for number in REPEATED:
        key, members = samples[number][0]
        samples[number].append((f"{key}-again", members))
    samples[KEY_REPEATED] = [
        (samples[KEY_REPEATED - 1][0][0], samples[KEY_REPEATED][0][1])
    ]
    last = _write(folder, samples)
    last.write_bytes(last.read_bytes()[:-30_000])


def _write(folder, samples):
    folder.mkdir(parents=True, exist_ok=True)
    per_shard = SAMPLES // SHARDS
    for shard in range(SHARDS):
        groups = samples[shard * per_shard : (shard + 1) * per_shard]
        path = folder / f"train-{shard:05d}.tar"
        path.write_bytes(tar_bytes([pair for group in groups for pair in group]))
    return path


if __name__ == "__main__":
    write_clean(Path(sys.argv[1]) / "clean")
    write_damaged(Path(sys.argv[1]) / "damaged")
