"""A directory like that of `projects.emoji.data.prepare`, with shapes for artwork."""

import colorsys
import io
import json

import numpy as np
from PIL import Image, ImageDraw

from projects.emoji.data.shards import write_shards

COLOURS = ("red", "yellow", "green", "blue")
SHAPES = ("circle", "square", "bar", "cross")
VENDORS = ("round-art", "flat-art")
SIDE = 24


def drawing(colour, shape, vendor):
    """A shape of a colour on nothing; the second vendor's is lighter and smaller."""
    second = VENDORS.index(vendor)
    hue = COLOURS.index(colour) / len(COLOURS)
    rgb = colorsys.hsv_to_rgb(hue, 1.0 - 0.4 * second, 0.9)
    image = Image.new("RGBA", (SIDE, SIDE))
    brush = ImageDraw.Draw(image)
    fill = (*(round(255 * c) for c in rgb), 255)
    low, high = 2 + second, SIDE - 3 - second
    middle = (low + 6, high - 6)
    if shape == "circle":
        brush.ellipse((low, low, high, high), fill)
    elif shape == "square":
        brush.rectangle((low, low, high, high), fill)
    else:
        brush.rectangle((low, middle[0], high, middle[1]), fill)
        if shape == "cross":
            brush.rectangle((middle[0], low, middle[1], high), fill)
    return image


def write_small_emoji(directory):
    """Writes train and val_seen shards of 16 concepts, and concepts.json."""
    concepts, samples = [], {"train": [], "val_seen": []}
    for number, (colour, shape) in enumerate(np.ndindex(len(COLOURS), len(SHAPES))):
        label = f"{COLOURS[colour]} {SHAPES[shape]}"
        concept = {
            "family": label,
            "group": "symbols",
            "heldout": False,
            "hexcode": f"{number:04X}",
            "is_flag": False,
            "is_symbol": False,
            "keywords": [COLOURS[colour], "shape"],
            "label": label,
            "subgroup": "geometric",
            "tags": [SHAPES[shape]],
        }
        concepts.append({**concept, "id": number, "vendors": list(VENDORS)})
        for split, vendors in (("train", VENDORS), ("val_seen", VENDORS[:1])):
            for vendor in vendors:
                stream = io.BytesIO()
                image = drawing(COLOURS[colour], SHAPES[shape], vendor)
                image.save(stream, "WEBP", lossless=True)
                record = {
                    **concept,
                    "concept": number,
                    "key": f"{vendor}_{number}",
                    "split": split,
                    "vendor": vendor,
                }
                samples[split].append((record, stream.getvalue()))
    for split, found in samples.items():
        write_shards(directory, split, found)
    (directory / "concepts.json").write_text(json.dumps(concepts))
    return directory
