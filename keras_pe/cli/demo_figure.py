"""Draws what `keras-pe demo` found; needs Pillow alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_pe.evaluation.zero_shot import Prediction

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom
SCALE = 2  # drawn so many times larger, then reduced: smooth edges
WIDTH, EDGE, GAP = 1240, 40, 16
INK, FAINT, LINE = (24, 30, 40), (108, 117, 130), (226, 231, 238)
PAPER, CARD = (246, 248, 251), (255, 255, 255)
RIGHT, WRONG = (21, 128, 61), (190, 40, 48)
RIGHT_BAR, WRONG_BAR = (52, 168, 92), (150, 160, 175)
BAR_GROUND, BEST = (236, 240, 245), (232, 246, 237)
# Viridis in seven steps: even in lightness, safe for colour-blind eyes.
HEAT = np.array(
    [
        (68, 1, 84),
        (68, 58, 131),
        (49, 104, 142),
        (33, 145, 140),
        (53, 183, 121),
        (144, 215, 67),
        (253, 231, 37),
    ],
    "float32",
)


@dataclasses.dataclass(frozen=True)
class Findings:
    """What the demo found.

    Attributes:
        labels: what each image shows.
        images: the drawings, with transparency.
        among_few: the best of these labels for each image.
        among_all: the best of all names for each image.
        num_names: how many names that are.
        queries: words that were searched for.
        matches: `(queries, images)` cosines.
        maps: `(images, rows, columns)`, what each patch says for its label rather
            than for the others.
        num_parameters: of the model.
    """

    labels: list[str]
    images: list[Image.Image]
    among_few: list[list[Prediction]]
    among_all: list[list[Prediction]]
    num_names: int
    queries: list[str]
    matches: np.ndarray
    maps: np.ndarray
    num_parameters: int

    def num_right(self, answers: Sequence[Sequence[Prediction]]) -> int:
        """Returns how many first answers are right."""
        pairs = zip(answers, self.labels, strict=True)
        return sum(best[0].name == label for best, label in pairs)


class _Pen:
    """Draws in units of the reduced figure."""

    def __init__(self, width: int, height: int) -> None:
        self.canvas = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
        self.draw = ImageDraw.Draw(self.canvas)
        self.fonts: dict[int, Font] = {}

    def font(self, size: int) -> Font:
        return self.fonts.setdefault(size, ImageFont.load_default(size * SCALE))

    def text(
        self,
        place: tuple[float, float],
        text: str,
        size: int,
        colour: Colour = INK,
        anchor: str = "la",
        width: float | None = None,
    ) -> None:
        """Writes a line, cut with an ellipsis if it is wider than `width`."""
        font = self.font(size)
        if width is not None:
            whole = text
            while text and self.draw.textlength(text, font) > width * SCALE:
                whole = whole[:-1]
                text = f"{whole.rstrip()}…"
        x, y = place
        self.draw.text((x * SCALE, y * SCALE), text, colour, font, anchor=anchor)

    def box(
        self,
        box: Box,
        fill: Colour | None = CARD,
        outline: Colour | None = None,
        radius: float = 0,
        line: float = 1,
    ) -> None:
        scaled = tuple(edge * SCALE for edge in box)
        self.draw.rounded_rectangle(
            scaled, radius * SCALE, fill, outline, round(line * SCALE)
        )

    def paste(self, image: Image.Image, box: tuple[float, float, float, float]) -> None:
        left, top, right, bottom = (round(edge * SCALE) for edge in box)
        large = image.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
        mask = large if large.mode == "RGBA" else None
        self.canvas.paste(large, (left, top), mask)

    def mark(self, x: float, y: float, right: bool) -> None:
        """Draws a tick or a cross, so that colour is not all that tells."""
        tick = [(x, y + 5), (x + 4, y + 9), (x + 11, y)]
        cross = [[(x, y), (x + 9, y + 9)], [(x, y + 9), (x + 9, y)]]
        for line in [tick] if right else cross:
            points = [(a * SCALE, b * SCALE) for a, b in line]
            colour = RIGHT if right else WRONG
            self.draw.line(points, colour, round(2.2 * SCALE), joint="curve")

    def reduced(self) -> Image.Image:
        size = (self.canvas.width // SCALE, self.canvas.height // SCALE)
        return self.canvas.resize(size, Image.Resampling.LANCZOS)


def draw(findings: Findings) -> Image.Image:
    """Returns the figure: names among few and among all, places, search."""
    pen = _Pen(WIDTH, 868)
    millions = findings.num_parameters / 1e6
    pen.text((EDGE, 26), "What a small Perception Encoder sees", 28)
    pen.text(
        (EDGE, 64),
        f"{millions:.1f} million parameters, inside the package. It learned from emoji "
        f"of other vendors and has never seen the drawings of this one.",
        15,
        FAINT,
    )
    _names(pen, findings, 104)
    _places(pen, findings, 500)
    _search(pen, findings, 500)
    return pen.reduced()


def _heading(pen: _Pen, left: float, top: float, number: int, text: str) -> None:
    pen.box((left, top, left + 24, top + 24), INK, radius=12)
    pen.text((left + 12, top + 12), str(number), 14, CARD, "mm")
    pen.text((left + 34, top + 12), text, 17, INK, "lm")


def _names(pen: _Pen, findings: Findings, top: float) -> None:
    """Draws a column for each image: itself, its name of few, its names of all."""
    count = len(findings.labels)
    width = (WIDTH - 2 * EDGE - (count - 1) * GAP) / count
    few = f"Named among {count} words: {findings.num_right(findings.among_few)} right"
    _heading(pen, EDGE, top, 1, few)
    second = top + 40 + width + 46
    for place, (label, image) in enumerate(
        zip(findings.labels, findings.images, strict=True)
    ):
        left = EDGE + place * (width + GAP)
        card = (left, top + 36, left + width, top + 36 + width + 38)
        pen.box(card, CARD, LINE, 10)
        pad = 14
        pen.paste(
            image,
            (left + pad, top + 36 + pad, left + width - pad, top + 36 + width - pad),
        )
        best = findings.among_few[place][0]
        right = best.name == label
        y = top + 36 + width + 4
        pen.mark(left + 12, y + 6, right)
        colour = RIGHT if right else WRONG
        pen.text((left + 28, y + 1), best.name, 14, colour, width=width - 64)
        share = f"{best.probability:.0%}"
        pen.text((left + width - 10, y + 2), share, 13, FAINT, "ra")
    many = (
        f"Named among all {findings.num_names:,} names that it knows: "
        f"{findings.num_right(findings.among_all)} right"
    )
    _heading(pen, EDGE, second + 4, 2, many)
    for place, (label, answers) in enumerate(
        zip(findings.labels, findings.among_all, strict=True)
    ):
        left = EDGE + place * (width + GAP)
        for row, answer in enumerate(answers):
            y = second + 40 + row * 36
            right = answer.name == label
            pen.box((left, y, left + width, y + 31), CARD, radius=5)
            # Below the words, which it would make hard to read.
            bar = (left + 8, y + 24, left + width - 8, y + 27)
            pen.box(bar, BAR_GROUND, radius=1.5)
            length = max((width - 16) * answer.probability, 3)
            pen.box(
                (bar[0], bar[1], bar[0] + length, bar[3]),
                RIGHT_BAR if right else WRONG_BAR,
                radius=1.5,
            )
            marked = row == 0 or right
            if marked:
                pen.mark(left + 8, y + 7, right)
            colour = RIGHT if right else INK if row else WRONG
            indent = 24 if marked else 8
            pen.text(
                (left + indent, y + 4),
                answer.name,
                13,
                colour,
                width=width - indent - 38,
            )
            share = f"{answer.probability:.0%}"
            pen.text((left + width - 8, y + 5), share, 12, FAINT, "ra")


def _places(pen: _Pen, findings: Findings, top: float) -> None:
    """Draws where each image's own word is, brightest where it says most."""
    _heading(pen, EDGE, top, 3, "Which parts speak for the right word")
    side, step = 116.0, 124.0
    rows = zip(findings.labels, findings.images, findings.maps, strict=True)
    for place, (label, image, heat) in enumerate(rows):
        left = EDGE + place % 4 * step
        y = top + 40 + place // 4 * (step + 22)
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, (0, 0), image)
        scaled = np.clip(heat / max(float(heat.max()), 1e-6), 0.0, 1.0)
        pen.paste(_heated(canvas, scaled), (left, y, left + side, y + side))
        pen.text((left + 2, y + side + 4), label, 14)
        total = f"{heat.sum():+.2f}"
        pen.text((left + side - 2, y + side + 5), total, 13, FAINT, "ra")
    pen.text(
        (EDGE, top + 40 + 2 * (step + 22) + 2),
        "Bright: speaks for it more than for the other words. Numbers: sum of the map.",
        13,
        FAINT,
    )


def _heated(canvas: Image.Image, heat: np.ndarray) -> Image.Image:
    """Lays a map over an image in grey."""
    size = (canvas.width * 4, canvas.height * 4)
    smooth = Image.fromarray(heat.astype("float32")).resize(
        size, Image.Resampling.BILINEAR
    )
    steps = np.clip(np.asarray(smooth), 0.0, 1.0) * (len(HEAT) - 1)
    colours = np.stack(
        [np.interp(steps, range(len(HEAT)), HEAT[:, c]) for c in range(3)], axis=-1
    )
    grey = np.asarray(canvas.convert("L").resize(size, Image.Resampling.BICUBIC))
    mixed = 0.62 * colours + 0.38 * grey[..., None]
    return Image.fromarray(mixed.round().astype("uint8"))


def _search(pen: _Pen, findings: Findings, top: float) -> None:
    """Draws what each query finds, best first."""
    left = EDGE + 4 * 124 + 24
    _heading(pen, left, top, 4, "Searched by words that name none of them: best first")
    side, step = 62.0, 100.0
    for row, (query, scores) in enumerate(
        zip(findings.queries, findings.matches, strict=True)
    ):
        y = top + 40 + row * (side + 9)
        pen.box((left, y, WIDTH - EDGE, y + side), CARD, LINE, 10)
        pen.text((left + 18, y + side / 2), f"“{query}”", 18, INK, "lm")
        for place, index in enumerate((-scores).argsort()[:5]):
            x = left + 138 + place * step
            if place == 0:
                pen.box((x - 6, y + 3, x + 92, y + side - 3), BEST, radius=8)
            pen.paste(findings.images[index], (x, y + 7, x + 48, y + 55))
            cosine = f"{scores[index]:.2f}"
            pen.text(
                (x + 54, y + side / 2), cosine, 13, FAINT if place else RIGHT, "lm"
            )
