"""Lay pictures out in a labelled grid, to check them by eye."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw


def contact_sheet(
    pictures: Sequence[Image.Image],
    titles: Sequence[str],
    columns: int = 12,
    cell: int = 96,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """Return one picture with every given picture and its title below it."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * cell), background)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        x, y = number % columns * cell, number // columns * cell
        small = picture.convert("RGBA")
        small.thumbnail((cell - 8, cell - 20))
        sheet.paste(small, (x + (cell - small.width) // 2, y + 2), small)
        draw.text((x + 2, y + cell - 16), title[: cell // 6], fill=(128, 0, 0))
    return sheet
