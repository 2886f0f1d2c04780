"""Animated drawings of emoji, with their names: clips of a vendor that moves.

Run:      python -m projects.emoji.video.animations --data data/emoji \\
              --output data/video --cache data/cache
Expect:   clips/train and clips/test, an animated WebP of 96 px and its JSON each, and
          still/, files of the same vendor that do not move: some five minutes, and
          710 MB of packages in the cache. Needs npm.

The vendor is Microsoft's Fluent, in 3D, whose flat drawings are the test vendor of the
other experiments: a model that was trained on these clips has seen it.

Concepts are split, four fifths to one: no concept of the test is in training. What the
names say is what a thing is, hardly ever how it moves: `motions.py` makes clips whose
captions do.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageSequence

from keras_pe.files import write_directory
from keras_pe.replaced_folders import would_be_lost
from projects.emoji.data.packages import Package, load_packages, obtain, read_members
from projects.emoji.data.splits import unit_hash

LIST = Path(__file__).with_name("packages.json")
SIZE = 96  # pixels: the model sees 64, of crops
EVERY = 3  # frames: of 24 a second 8 stay
TEST_SHARE = 0.2
QUALITY = 90


def frames_of(content: bytes) -> list[Image.Image]:
    """Returns every third frame of an animation, on white; one of a still image."""
    found = []
    with Image.open(io.BytesIO(content)) as image:
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            if number % EVERY == 0:
                drawn = frame.convert("RGBA").resize((SIZE, SIZE), Image.Resampling.BOX)
                white = Image.new("RGBA", drawn.size, "white")
                found.append(Image.alpha_composite(white, drawn).convert("RGB"))
    return found


def to_webp(frames: list[Image.Image], milliseconds: int = 125) -> bytes:
    """Returns an animation of frames of one size."""
    file = io.BytesIO()
    frames[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        loop=0,
        quality=QUALITY,
        method=4,
    )
    return file.getvalue()


def base_concepts(data: Path) -> dict[str, dict[str, Any]]:
    """Returns the concepts by hexcode, in small letters."""
    concepts = json.loads((data / "concepts.json").read_text(encoding="utf-8"))
    return {concept["hexcode"].lower(): concept for concept in concepts}


def find_animations(
    packages: list[Package], cache: Path, concepts: dict[str, dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yields concepts with the file that shows them; each once."""
    seen = set()
    for package in packages:
        members = read_members(obtain(package, cache), package.members)
        for name in sorted(members):
            hexcode = PurePosixPath(name).stem.lower()
            # Files leave out the variation selector here and there, as tables do.
            known = next(
                (
                    code
                    for code in (hexcode, hexcode.removesuffix("-fe0f"))
                    if code in concepts
                ),
                None,
            )
            if known is not None and known not in seen:
                seen.add(known)
                yield concepts[known], members[name]


def split_of(concept: dict[str, Any]) -> str:
    """Returns "test" or "train": variants of one emoji are on one side."""
    chosen = unit_hash("emoji-video-test-v1", concept["family"])
    return "test" if chosen < TEST_SHARE else "train"


def caption_of(concept: dict[str, Any]) -> str:
    """Returns a caption: the name, and what it is tagged with."""
    words = dict.fromkeys([concept["label"], *concept["tags"]])
    return ", ".join(words)


def check_clips_target(folder: Path) -> None:
    """Refuses a folder in which something else than such clips would be lost.

    Raises:
        ValueError: naming it.
    """
    others = would_be_lost(folder, {"train", "test", "still"}, mark=None)
    if others:
        raise ValueError(
            f"{folder} holds {', '.join(others[:5])}, which writing clips there would "
            f"delete. Give another --output."
        )


def main() -> None:
    """Writes the clips."""
    parser = argparse.ArgumentParser(
        prog="python -m projects.emoji.video.animations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="of data.prepare")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    options = parser.parse_args()
    concepts = base_concepts(options.data)
    counts = {"train": 0, "test": 0, "still": 0}
    check_clips_target(options.output / "clips")
    options.output.mkdir(parents=True, exist_ok=True)
    with write_directory(options.output / "clips") as aside:
        packages = load_packages(LIST)
        for concept, content in find_animations(packages, options.cache, concepts):
            frames = frames_of(content)
            split = split_of(concept) if len(frames) > 1 else "still"
            folder = aside / split
            folder.mkdir(exist_ok=True)
            name = concept["hexcode"].lower()
            (folder / f"{name}.webp").write_bytes(to_webp(frames))
            said = {
                "title": concept["label"],
                "tags": concept["tags"],
                "family": concept["family"],
            }
            (folder / f"{name}.json").write_text(json.dumps(said, sort_keys=True))
            counts[split] += 1
            if sum(counts.values()) % 100 == 0:
                print(counts, flush=True)
    print(counts)


if __name__ == "__main__":
    main()
