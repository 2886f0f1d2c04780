"""Hand-made artwork for the tests of the probing data."""

import io
import json

import numpy as np
from PIL import Image, ImageDraw

from projects.emoji.data.table import Concept
from projects.emoji.probing.canvas import premultiplied, random_place, resized

SIZE = 48
KEPT_BACK = ("lemon", "pear", "owl", "duck", "axe")
# Class, subgroup and labels of the hand-made concepts.
THINGS = (
    ("fruit", "food-fruit", ("lemon", "pear", "melon", "grapes")),
    ("bird", "animal-bird", ("owl", "duck", "swan", "dove")),
    ("tool", "tool", ("axe", "pick", "hook", "gear")),
)
LABELS = {name: labels for name, _, labels in THINGS}
COLOURS = {"lemon": "yellow", "owl": "brown", "axe": "grey"}


def drawn(label, vendor, side=24):
    """A filled shape with a smooth edge and a transparent surround."""
    large = Image.new("RGBA", (4 * side, 4 * side))
    brush = ImageDraw.Draw(large)
    box = (8, 8 + 2 * len(label), 4 * side - 12, 4 * side - 8)
    shape = brush.ellipse if vendor == "round-art" else brush.rectangle
    shape(box, COLOURS.get(label, "#2040c0"))
    small = large.convert("RGBa").resize((side, side), Image.Resampling.BOX)
    return small.convert("RGBA")


def record_of(number, label, subgroup, vendor, **more):
    return {
        "concept": number,
        "label": label,
        "family": f"F{number}",
        "hexcode": f"{number:04X}",
        "subgroup": subgroup,
        "group": "things",
        "tags": [],
        "keywords": [],
        "is_flag": False,
        "is_symbol": False,
        "heldout": False,
        "vendor": vendor,
        "key": f"{vendor}_{number}",
    } | more


SKIN, HAIR, SHIRT = "#fcea2b", "#a57939", "#61b2e4"


def person_svg(skin=SKIN, extra=""):
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">
      <g id="color"><rect x="12" y="48" width="30" height="16" fill="{SHIRT}"/></g>
      <g id="hair-2" fill="{HAIR}"><circle cx="36" cy="28" r="17"/></g>
      <g id="skin"><g><circle cx="36" cy="32" r="13" fill="{skin}"/></g></g>
      <g id="skin-shadow"/>
      <g id="line"><path fill="none" stroke="#000" stroke-width="2" d="M12 48h30"/></g>
      {extra}</svg>"""


def concept(number, label, family, heldout=False, subgroup="person"):
    return Concept(
        id=number, hexcode=f"1F46{number}", label=label, tags=[], keywords=[],
        group="people-body", subgroup=subgroup, family=family, heldout=heldout,
        is_flag=False, is_symbol=False,
    )  # fmt: skip


CONCEPTS = [
    concept(number, f"person {number}", f"F{number}", heldout=number == 9)
    for number in range(10)
]


def openmoji_members():
    """Nine people with a darker twin each, a hand, and a stranger to the table."""
    entries, files = [], {}
    for number in range(10):
        for tone, skin in (("", SKIN), ("-1F3FF", "#6a462f")):
            hexcode = f"1F46{number}{tone}"
            base = f"1F46{number}" if tone else ""
            entries.append({"group": "people-body", "hexcode": hexcode,
                            "skintone_base_hexcode": base})  # fmt: skip
            svg = person_svg(skin) if number != 8 else (
                '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">'
                f'<g id="skin"><circle cx="36" cy="36" r="20" fill="{skin}"/></g></svg>'
            )  # fmt: skip
            files[f"package/color/svg/{hexcode}.svg"] = svg.encode()
    entries.append({"group": "people-body", "hexcode": "ABCD",
                    "skintone_base_hexcode": ""})  # fmt: skip
    entries.append({"group": "objects", "hexcode": "EF01",
                    "skintone_base_hexcode": ""})  # fmt: skip
    return {"package/data/openmoji.json": json.dumps(entries).encode(), **files}


PAINTS = ("#e02020", "#20c020", "#2020e0", "#e0c020")


def animation(colour, images=48, side=32):
    """A disc that goes to and fro in a transparent square."""
    frames = []
    for number in range(images):  # no two in a row are equal: those become one
        image = Image.new("RGBA", (side, side))
        left = 2 + abs(number % 12 - 6)
        ImageDraw.Draw(image).ellipse((left, 5, left + 20, 25), colour)
        frames.append(image)
    stream = io.BytesIO()
    frames[0].save(
        stream,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        lossless=True,
        duration=42,
    )
    return stream.getvalue()


def random_layers(count, size, seed):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        drawing = premultiplied(drawn("lemon", rng.choice(["round-art", "flat-art"])))
        place = random_place(drawing.size, rng.uniform(0.3, 0.8) * size, size, rng)
        found.append(resized(drawing, *place))
    return found
