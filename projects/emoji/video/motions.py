"""Clips of drawings that move, grow, turn or appear, captioned by what was done.

Run:      python -m projects.emoji.video.motions --data data/emoji --output data/video
Expect:   motions/train and motions/test, animated WebPs of 96 px with a JSON each;
          some two minutes.

Real drawings of the training vendors are moved over an even background. Those of the
test are of other emoji than those of training, each under every motion. Where a drawing
begins is drawn alike for all motions, and a path is centred on it or leads away from it
at random, so that one frame says little of the motion.

Half of the motions are the others backwards: a model that averages frames cannot tell
these apart, whatever it is trained on.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe.files import write_directory
from projects.emoji.data.shards import Record, read_shards
from projects.emoji.data.splits import unit_hash
from projects.emoji.language.drawings import name_of
from projects.emoji.video.animations import (
    SIZE,
    TEST_SHARE,
    check_clips_target,
    to_webp,
)
from recipes.language_data.scene_images import cropped

FRAMES = 16
LARGE = 0.42  # side of a drawing, of the picture's
TRAVEL = 0.45  # of the picture's side
SEED = 0

# From the time, 0 to 1, to: shift right, shift down, size, turn in degrees, opacity.
Motion = Callable[[float], tuple[float, float, float, float, float]]
MOTIONS: dict[str, Motion] = {
    "stands still": lambda t: (0, 0, 1, 0, 1),
    "moves right": lambda t: (TRAVEL * (t - 0.5), 0, 1, 0, 1),
    "moves left": lambda t: (TRAVEL * (0.5 - t), 0, 1, 0, 1),
    "moves down": lambda t: (0, TRAVEL * (t - 0.5), 1, 0, 1),
    "moves up": lambda t: (0, TRAVEL * (0.5 - t), 1, 0, 1),
    "grows": lambda t: (0, 0, 0.4 + 1.2 * t, 0, 1),
    "shrinks": lambda t: (0, 0, 1.6 - 1.2 * t, 0, 1),
    "turns right": lambda t: (0, 0, 1, 360 * t, 1),
    "turns left": lambda t: (0, 0, 1, -360 * t, 1),
    "appears": lambda t: (0, 0, 1, 0, t),
    "disappears": lambda t: (0, 0, 1, 0, 1 - t),
}
# A motion and the same backwards.
BACKWARDS = (
    ("moves right", "moves left"),
    ("moves down", "moves up"),
    ("grows", "shrinks"),
    ("turns right", "turns left"),
    ("appears", "disappears"),
)


def draw_clip(
    drawing: Image.Image, motion: str, rng: np.random.Generator
) -> list[Image.Image]:
    """Returns the frames of a clip.

    Args:
        drawing: RGBA, cut to what is drawn.
        motion: one of `MOTIONS`.
        rng: where background, place and size come from.
    """
    background = tuple(int(value) for value in rng.integers(200, 256, 3))
    centre = rng.uniform(0.4, 0.6, 2)
    large = LARGE * rng.uniform(0.85, 1.15)
    shift = rng.uniform(-0.2, 0.2) if motion.startswith("moves") else 0.0
    turned = rng.uniform(-30, 30)
    frames = []
    for number in range(FRAMES):
        time = number / (FRAMES - 1)
        right, down, size, turn, opacity = MOTIONS[motion](time)
        # Where on its path it begins says nothing of where it goes.
        right += shift if "right" in motion or "left" in motion else 0
        down += shift if "up" in motion or "down" in motion else 0
        side = max(2, round(SIZE * large * size))
        scale = side / max(drawing.size)
        shape = [max(1, round(length * scale)) for length in drawing.size]
        one = drawing.resize((shape[0], shape[1]), Image.Resampling.BOX)
        one = one.rotate(-turn - turned, Image.Resampling.BILINEAR, expand=True)
        if opacity < 1:
            alpha = one.getchannel("A").point(lambda value, o=opacity: round(value * o))
            one.putalpha(alpha)
        frame = Image.new("RGB", (SIZE, SIZE), background)
        place = (
            round(SIZE * (centre[0] + right) - one.width / 2),
            round(SIZE * (centre[1] + down) - one.height / 2),
        )
        frame.paste(one, place, one)
        frames.append(frame)
    return frames


def drawings_of(paths: Sequence[Path]) -> list[tuple[Record, Image.Image]]:
    """Returns the drawings that show a thing, cut to it; one of each emoji."""
    found: dict[str, tuple[Record, Image.Image]] = {}
    for record, image in read_shards(paths):
        if record["is_flag"] or record["is_symbol"]:
            continue
        cut = cropped(image)
        if cut is not None:
            found.setdefault(record["hexcode"], (record, cut))
    return [found[code] for code in sorted(found)]


def main() -> None:
    """Writes the clips."""
    parser = argparse.ArgumentParser(
        prog="python -m projects.emoji.video.motions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="of data.prepare")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--drawings", type=int, default=160, help="of training")
    parser.add_argument("--tests", type=int, default=40, help="drawings of the test")
    options = parser.parse_args()
    check_clips_target(options.output / "motions")
    drawings = drawings_of(sorted(options.data.glob("train-*.tar")))
    sides: dict[str, list[tuple[Record, Image.Image]]] = {"train": [], "test": []}
    for record, image in drawings:
        chosen = unit_hash("emoji-video-test-v1", record["family"]) < TEST_SHARE
        sides["test" if chosen else "train"].append((record, image))
    rng = np.random.default_rng(SEED)
    options.output.mkdir(parents=True, exist_ok=True)
    with write_directory(options.output / "motions") as aside:
        for side, most in (("train", options.drawings), ("test", options.tests)):
            (aside / side).mkdir()
            order = rng.permutation(len(sides[side]))[:most]
            for number in sorted(order):
                record, image = sides[side][number]
                for motion in MOTIONS:
                    name = f"{record['hexcode'].lower()}-{motion.replace(' ', '_')}"
                    content = to_webp(draw_clip(image, motion, rng))
                    (aside / side / f"{name}.webp").write_bytes(content)
                    said = {
                        "title": f"{name_of(record)} {motion}",
                        "name": name_of(record),
                        "motion": motion,
                        "family": record["family"],
                    }
                    text = json.dumps(said, sort_keys=True)
                    (aside / side / f"{name}.json").write_text(text)
            print(side, len(order) * len(MOTIONS), "clips", flush=True)


if __name__ == "__main__":
    main()
