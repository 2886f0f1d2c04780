"""Draw samples of the probing data with their masks, to check them by eye.

Run ``python -m projects.emoji.probing.contact_sheet
--input data/probing/scenes_train.npz --output sheet.png``; clips work likewise.
"""

import argparse
import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from projects.emoji.probing.clips import ClipSet, is_clip_file, read_clips
from projects.emoji.probing.segmentation_set import IGNORE, Bytes, SegmentationSet, load

CELL, TEXT = 160, 12
INK = (128, 0, 0)


def palette() -> Bytes:
    """Returns a colour for each value of a mask: 0 is white, 255 black, `(256, 3)`."""
    colours = np.empty((256, 3), "uint8")
    for value in range(256):
        shade = colorsys.hsv_to_rgb(value * 0.618 % 1, 0.5 + value % 3 / 6, 0.9)
        colours[value] = [round(255 * part) for part in shade]
    colours[0], colours[IGNORE] = 255, 0
    return colours


def painted(image: Bytes, mask: Bytes) -> Image.Image:
    """Returns a mask in colours over a darkened grey image."""
    grey = image.mean(axis=-1, keepdims=True)
    mixed = 0.3 * grey + 0.7 * palette()[mask]
    return Image.fromarray(mixed.astype("uint8"))


def cell(image: Image.Image, lines: Sequence[str]) -> Image.Image:
    """Returns an image at the size of the sheet, with lines of text below."""
    sheet = Image.new("RGB", (CELL, CELL + TEXT * len(lines) + 2), "white")
    sheet.paste(image.resize((CELL - 4, CELL - 4), Image.Resampling.NEAREST), (2, 2))
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((2, CELL + TEXT * number - 2), line[:30], fill=INK)
    return sheet


def grid(cells: Sequence[Image.Image], columns: int) -> Image.Image:
    """Lays cells of equal size out in rows."""
    width, height = cells[0].size
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for number, one in enumerate(cells):
        sheet.paste(one, (number % columns * width, number // columns * height))
    return sheet


def segmentation_sheet(data: SegmentationSet, chosen: Sequence[int]) -> Image.Image:
    """Shows each image, its class mask, and its instances with boxes."""
    cells = []
    for number in chosen:
        image = data.images[number]
        objects = data.objects[number]
        boxed = painted(image, data.instances[number])
        draw = ImageDraw.Draw(boxed)
        for one in objects:
            left, top, right, bottom = one.box
            draw.rectangle((left, top, right - 1, bottom - 1), outline="red")
        named = [f"{data.class_names[one.class_id]}: {one.label}" for one in objects]
        lines = [*dict.fromkeys(named), *[""] * 4][:4]
        kind = [data.backgrounds[number], *[""] * 3]
        cells += [
            cell(Image.fromarray(image), lines),
            cell(painted(image, data.masks[number]), kind),
            cell(boxed, [""] * 4),
        ]
    return grid(cells, 9)


def clip_sheet(data: ClipSet, chosen: Sequence[int], shown: int = 8) -> Image.Image:
    """Shows some frames of each clip and, below them, their masks."""
    cells = []
    for number in chosen:
        places = np.linspace(0, data.frames.shape[1] - 1, shown).round().astype(int)
        labels = [one.label for one in data.objects[number]]
        for place in places:
            image = Image.fromarray(data.frames[number, place])
            cells.append(cell(image, [f"{place}: " + ", ".join(labels)]))
        for place in places:
            image, mask = data.frames[number, place], data.masks[number, place]
            shares = [f"{share:.2f}" for share in data.visible[number, place]]
            cells.append(cell(painted(image, mask), [" ".join(shares)]))
    return grid(cells, shown)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    data = (read_clips if is_clip_file(options.input) else load)(options.input)
    count = min(options.samples, len(data))
    chosen = sorted(rng.permutation(len(data))[:count].tolist())
    if isinstance(data, ClipSet):
        sheet = clip_sheet(data, chosen)
    else:
        sheet = segmentation_sheet(data, chosen)
    sheet.save(options.output)


if __name__ == "__main__":
    main()
