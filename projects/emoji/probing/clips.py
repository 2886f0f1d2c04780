"""Write clips of two animated emoji that move and pass each other, with exact masks.

Run ``python -m projects.emoji.probing.clips --data data/emoji
--output data/probing`` after ``projects.emoji.data.prepare``. It fetches the
package ``@lobehub/fluent-emoji-anim-1`` (165 MB) with npm. The artwork is the test
vendor's: the clips are for testing alone, with methods that
are not trained on them and have nothing left to choose.
"""

import argparse
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from projects.emoji.data.concepts import normalise_hexcode
from projects.emoji.data.extra import read_concepts
from projects.emoji.data.packages import (
    PackageError,
    load_packages,
    obtain,
    read_members,
)
from projects.emoji.data.shards import load_arrays
from projects.emoji.data.table import Concept
from projects.emoji.pairs import crop
from projects.emoji.probing.backgrounds import draw_background
from projects.emoji.probing.canvas import Canvas, Layer, premultiplied, resized
from projects.emoji.probing.scene_classes import LEFT_OUT
from projects.emoji.probing.segmentation_set import Bytes, read_archive, write_archive

PACKAGES = Path(__file__).with_name("packages.json")
VENDOR, FILE = "fluent-emoji-anim", "clips.npz"
OBJECTS = 2
STEP = 2  # of 24 images a second, so that 24 frames are two seconds
LEAST_IMAGES = 40  # fewer are no animation of two seconds
SIDE = (0.34, 0.48)  # of an object, as a share of the canvas
BREATHING = 0.1  # how much an object grows and shrinks
LEAST_PATH = 0.6  # of the canvas that an object moves in a clip
# Of the object behind: whole at first, partly hidden later, never gone.
WHOLE, HIDDEN, LEAST_VISIBLE = 0.999, 0.7, 0.25
LEAST_CONTRAST = 0.5
TRIES = 2000


@dataclass(frozen=True)
class ClipObject:
    """What one number of a clip's masks stands for."""

    label: str
    concept: int
    hexcode: str
    heldout: bool


@dataclass(frozen=True)
class ClipSet:
    """Clips with the masks of their objects.

    Attributes:
        frames: uint8 `(count, frames, size, size, 3)`.
        masks: uint8 `(count, frames, size, size)`: 0 is background, 1 the object
            behind, 2 the object in front. A pixel belongs to what covers at least
            half of it; none is ignored.
        visible: float32 `(count, frames, 2)`: which share of each object is seen.
        objects: for each clip, what 1 and 2 stand for.
        backgrounds: for each clip, the kind of its background, which stands still.
        about: seed, source and so on, as written.
    """

    frames: Bytes
    masks: Bytes
    visible: npt.NDArray[np.float32]
    objects: tuple[tuple[ClipObject, ...], ...]
    backgrounds: tuple[str, ...]
    about: dict[str, Any]

    def __len__(self) -> int:
        """Returns how many clips there are."""
        return len(self.frames)


@dataclass(frozen=True)
class Animation:
    """An animated drawing: its images, cropped alike, alpha premultiplied."""

    images: tuple[Image.Image, ...]
    concept: Concept


def load_clips(directory: Path | str) -> ClipSet:
    """Reads the clips from what was given as ``--output``."""
    return read_clips(Path(directory) / FILE)


def is_clip_file(path: Path) -> bool:
    """Tells whether a file of the probing data holds clips."""
    with np.load(path, allow_pickle=False) as archive:
        return "frames" in archive.files


def read_clips(path: Path) -> ClipSet:
    """Reads clips from one file."""
    arrays, text = read_archive(path, ("frames", "masks", "visible"))
    return ClipSet(
        frames=arrays["frames"],
        masks=arrays["masks"],
        visible=arrays["visible"],
        objects=tuple(
            tuple(ClipObject(**one) for one in row) for row in text["objects"]
        ),
        backgrounds=tuple(text["backgrounds"]),
        about=text["about"],
    )


def write_clips(path: Path, data: ClipSet) -> None:
    """Writes clips to one file."""
    text = {
        "objects": [[asdict(one) for one in row] for row in data.objects],
        "backgrounds": data.backgrounds,
        "about": data.about,
    }
    arrays: dict[str, npt.NDArray[Any]]
    arrays = {"frames": data.frames, "masks": data.masks, "visible": data.visible}
    write_archive(path, arrays, text)


def animals(
    members: Mapping[str, bytes], concepts: Sequence[Concept]
) -> list[tuple[Concept, bytes]]:
    """Returns the animated animals, one a family, in the order of their hexcodes."""
    known = {concept.hexcode: concept for concept in concepts}
    found: dict[str, tuple[Concept, bytes]] = {}
    for name, data in sorted(members.items()):
        concept = known.get(normalise_hexcode(PurePosixPath(name).stem))
        if concept is None or not concept.subgroup.startswith("animal-"):
            continue
        if concept.label in LEFT_OUT:
            continue
        with Image.open(io.BytesIO(data)) as image:
            if getattr(image, "n_frames", 1) >= LEAST_IMAGES:
                found.setdefault(concept.family, (concept, data))
    return list(found.values())


def read_animation(concept: Concept, data: bytes, frames: int) -> Animation:
    """Decodes every second image of an animation; a short one starts again."""
    with Image.open(io.BytesIO(data)) as image:
        count = int(getattr(image, "n_frames", 1))
        wanted = [STEP * number % count for number in range(frames)]
        decoded = {}
        for place in range(max(wanted) + 1):
            image.seek(place)
            if place in wanted:
                decoded[place] = image.convert("RGBA")
    boxes = [one.getchannel("A").getbbox() for one in decoded.values()]
    drawn = np.array([box for box in boxes if box is not None])
    if not len(drawn):
        raise ValueError(f"the animation of {concept.label!r} is empty.")
    # One box for all: cropping each image by itself would undo its motion.
    left, top = drawn[:, :2].min(axis=0)
    right, bottom = drawn[:, 2:].max(axis=0)
    box = (int(left), int(top), int(right), int(bottom))
    images = [premultiplied(decoded[place].crop(box)) for place in wanted]
    return Animation(tuple(images), concept)


def smooth_path(
    frames: int, low: float, high: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Returns points `(frames, 2)` on a cubic Bezier curve; all within low and high."""
    start, first, second, end = rng.uniform(low, high, (4, 1, 2))
    t = np.linspace(0, 1, frames)[:, None]
    return np.asarray(
        (1 - t) ** 3 * start
        + 3 * t * (1 - t) ** 2 * first
        + 3 * t**2 * (1 - t) * second
        + t**3 * end
    )


def moving(
    animation: Animation, size: int, rng: np.random.Generator
) -> list[Layer] | None:
    """Returns an animation at its place in each frame, or None when it hardly moves."""
    frames = len(animation.images)
    base = rng.uniform(*SIDE) * size
    phase = rng.uniform(0, 2 * np.pi)
    waves = np.sin(phase + np.linspace(0, 2 * np.pi, frames))
    longer = base * (1 + BREATHING * waves)
    margin = base * (1 + BREATHING) / 2 + 1
    centres = smooth_path(frames, margin, size - margin, rng)
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    if steps.sum() < LEAST_PATH * size:
        return None
    shape = np.array(animation.images[0].size)
    layers = []
    for image, side, centre in zip(animation.images, longer, centres, strict=True):
        width, height = np.maximum(np.rint(shape * side / shape.max()), 2).astype(int)
        left, top = np.rint(centre - np.array([width, height]) / 2).astype(int)
        layers.append(resized(image, int(width), int(height), int(left), int(top)))
    return layers


def compose_clip(
    animations: Sequence[Animation],
    size: int,
    textures: Sequence[Image.Image],
    rng: np.random.Generator,
) -> tuple[Bytes, Bytes, npt.NDArray[np.float32], str]:
    """Returns frames, masks, visible shares, and the kind of background of one clip."""
    for _ in range(TRIES):
        paths = [moving(animation, size, rng) for animation in animations]
        behind, front = paths
        if behind is None or front is None:
            continue
        visible = hidden_by(behind, front, size)
        if visible[0] < WHOLE or not LEAST_VISIBLE <= visible.min() <= HIDDEN:
            continue
        background, kind = draw_background(size, textures, rng)
        first = Canvas(background)
        if min(first.contrast(behind[0]), first.contrast(front[0])) < LEAST_CONTRAST:
            continue
        canvases = []
        for layers in zip(behind, front, strict=True):
            canvas = Canvas(background)
            for layer in layers:
                canvas.add(layer)
            canvases.append(canvas)
        return (
            np.stack([canvas.image_bytes() for canvas in canvases]),
            np.stack([canvas.instances for canvas in canvases]),
            np.array([canvas.visible_shares() for canvas in canvases], "float32"),
            kind,
        )
    raise RuntimeError("no motion was found in which one object passes the other.")


def hidden_by(
    behind: Sequence[Layer], front: Sequence[Layer], size: int
) -> npt.NDArray[np.float64]:
    """Returns which share of the object behind is visible in each frame."""
    shares = []
    for back, cover in zip(behind, front, strict=True):
        there = np.zeros((2, size, size), bool)
        there[0][back.window] = back.solid
        there[1][cover.window] = cover.solid
        shares.append((there[0] & ~there[1]).sum() / max(there[0].sum(), 1))
    return np.array(shares)


def make_clips(
    data: Path,
    members: Mapping[str, bytes],
    clips: int = 30,
    frames: int = 24,
    size: int = 128,
    seed: int = 0,
    quiet: bool = False,
) -> ClipSet:
    """Composes the clips; no animal is in two of them.

    Args:
        data: output of ``projects.emoji.data.prepare``.
        members: the package's files.
        clips: how many.
        frames: of each clip, 12 a second.
        size: side of the frames.
        seed: seed of everything random.
        quiet: whether to show no progress bar.
    """
    found = animals(members, read_concepts(data))
    if len(found) < OBJECTS * clips:
        raise ValueError(
            f"{clips} clips need {OBJECTS * clips} animals; there are {len(found)}."
        )
    order = np.random.default_rng([seed, 200]).permutation(len(found))
    arrays, records = load_arrays(data, "test")
    textures = [
        crop(array)
        for array, record in zip(arrays, records, strict=True)
        if record["is_flag"] or record["is_symbol"]
    ]
    rows, objects = [], []
    for number in tqdm(range(clips), desc="clips", disable=quiet):
        chosen = [found[i] for i in order[OBJECTS * number : OBJECTS * (number + 1)]]
        animations = [read_animation(c, file, frames) for c, file in chosen]
        rng = np.random.default_rng([seed, 201, number])
        rows.append(compose_clip(animations, size, textures, rng))
        objects.append(
            tuple(ClipObject(c.label, c.id, c.hexcode, c.heldout) for c, _ in chosen)
        )
    about = {
        "kind": "clips",
        "seed": seed,
        "size": size,
        "frames_per_second": 24 / STEP,
        "source": "animated Fluent emoji: the test vendor, for testing alone",
        "animals": len(found),
    }
    return ClipSet(
        frames=np.stack([row[0] for row in rows]),
        masks=np.stack([row[1] for row in rows]),
        visible=np.stack([row[2] for row in rows]),
        objects=tuple(objects),
        backgrounds=tuple(row[3] for row in rows),
        about=about,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    cache = options.cache or options.data / "cache"
    (package,) = (p for p in load_packages(PACKAGES) if p.vendor == VENDOR)
    try:
        members = read_members(obtain(package, cache), package.members)
    except PackageError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    data = make_clips(options.data, members, size=options.size, seed=options.seed)
    write_clips(options.output / FILE, data)
    least = data.visible[..., 0].min(axis=1)
    print(f"{len(data)} clips of {data.about['animals']} animals;", data.frames.shape)
    print(
        f"seen of the object behind, at least: {least.min():.2f} to {least.max():.2f}"
    )


if __name__ == "__main__":
    main()
