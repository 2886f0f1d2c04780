"""Name a few pictures that the bundled model has never seen.

The model was trained by this project on the drawings of several emoji vendors. The
pictures come from another one, and the classes are all 1,364 of its emoji that are
neither flags nor symbols.
"""

import argparse
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from keras_pe.cli.common import BUNDLED_PRESET, load
from keras_pe.evaluation.zero_shot import Prediction, ZeroShotClassifier

HELP = "name a few pictures with the bundled model"
EPILOG = """example:
  keras-pe demo --output demo.png
"""
PICTURES = Path(__file__).parent / "demo_pictures"
TOP_K = 3
# Colours of the picture file.
INK, FAINT, BAR, RIGHT = (31, 35, 40), (110, 118, 129), (221, 228, 237), (26, 127, 55)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("keras_pe_demo.png"),
        metavar="FILE",
        help="picture file to write (default: keras_pe_demo.png)",
    )


def run(options: argparse.Namespace) -> int:
    """Classifies the demo pictures, prints a table, writes a picture."""
    from rich.console import Console
    from rich.table import Table

    paths = sorted(PICTURES.glob("*.png"))
    start = time.perf_counter()
    loaded = load(BUNDLED_PRESET)
    zero_shot = loaded.metadata["zero_shot"]
    loaded.tokenizer.on_truncation = "ignore"  # a few long names of known classes
    classifier = ZeroShotClassifier(
        loaded.model,
        loaded.tokenizer,
        zero_shot["class_names"],
        zero_shot["templates"],
        loaded.image_converter,
        batch_size=64,
    )
    found = classifier.predict(paths, top_k=TOP_K)
    seconds = time.perf_counter() - start
    table = Table(title=f"{len(paths)} pictures, {len(classifier.class_names)} classes")
    table.add_column("picture")
    for place in ("best", "second", "third"):
        table.add_column(place)
    for path, best in zip(paths, found, strict=True):
        row = [f"{p.name} ({p.probability:.0%})" for p in best]
        if best[0].name == _label(path):
            row[0] = f"[green]{row[0]}[/green]"
        table.add_row(_label(path), *row)
    Console().print(table)
    draw(paths, found).save(options.output)
    right = sum(
        best[0].name == _label(path) for path, best in zip(paths, found, strict=True)
    )
    print(
        f"{right} of {len(paths)} right. Loaded, compiled and named in "
        f"{seconds:.1f} s. Picture: {options.output}"
    )
    return 0


def _label(path: Path) -> str:
    return path.stem.replace("_", " ")


def draw(paths: list[Path], found: list[list[Prediction]]) -> Image.Image:
    """Returns a picture: each demo picture above its best classes."""
    columns, cell_width, cell_height, side = 4, 260, 270, 128
    rows = -(-len(paths) // columns)
    canvas = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    pen = ImageDraw.Draw(canvas)
    name_font, font = ImageFont.load_default(15), ImageFont.load_default(14)
    for place, (path, best) in enumerate(zip(paths, found, strict=True)):
        left = (place % columns) * cell_width + 20
        top = (place // columns) * cell_height + 16
        width = cell_width - 40
        with Image.open(path) as file:
            picture = file.convert("RGBA").resize((side, side))
        canvas.paste(picture, (left + (width - side) // 2, top), picture)
        pen.text((left, top + side + 8), _label(path), INK, name_font)
        for row, prediction in enumerate(best):
            y = top + side + 34 + row * 24
            bar = max(round(width * prediction.probability), 2)
            pen.rectangle((left, y, left + bar, y + 20), BAR)
            colour = RIGHT if prediction.name == _label(path) else INK
            name = _shorten(pen, prediction.name, width - 50, font)
            pen.text((left + 4, y + 2), name, colour, font)
            share = f"{prediction.probability:.0%}"
            pen.text((left + width, y + 2), share, FAINT, font, anchor="ra")
    return canvas


def _shorten(
    pen: ImageDraw.ImageDraw,
    text: str,
    width: int,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> str:
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
