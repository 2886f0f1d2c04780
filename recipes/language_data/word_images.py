"""Draw a line of text in one of many styles, large enough to be read."""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from recipes.language_data.fonts import MEASURED, Face

# Text is drawn so much larger, turned, and then made smaller: at any angle its edges
# are as smooth as upright ones.
FINER = 4
TRIES = 8
# Thin strokes cover no pixel wholly: how much the darkest tenth of them has to.
LEAST_COVER = 0.6


@dataclasses.dataclass(frozen=True)
class WordStyle:
    """What pictures of text differ in besides their font.

    Attributes:
        size: side of the picture, pixels.
        least_x_height: height of an x below which no text is drawn, pixels. A patch of
            eight pixels has to tell letters apart: 9 can be read, 5 can not.
        margin: left free all around, pixels.
        least_width: share of the picture's free width that a text takes at least: 1 for
            as large as will fit. Texts that lie alike are learned from fewer pictures.
        most_angle: to which text is turned either way, degrees.
        most_slant: to which it leans either way, as a share of its height.
        most_stretch: times wider or narrower than its font draws it.
        most_bend: how far points of a grid over the text are moved either way, as a
            share of its height. Stretched and bent, letters of a font look like those
            of fonts that nobody has yet seen.
        thinned: share of texts whose strokes are made thinner.
        least_contrast: between text and background, of a luminance from 0 to 1.
        most_noise: standard deviation of what is added to each pixel, of 255.
        blurred: share of pictures that are slightly out of focus.
        plain: share of backgrounds of one colour.
    """

    size: int = 64
    least_x_height: float = 9.0
    margin: int = 2
    least_width: float = 0.0
    most_angle: float = 8.0
    most_slant: float = 0.2
    most_stretch: float = 1.0
    most_bend: float = 0.0
    thinned: float = 0.0
    least_contrast: float = 0.35
    most_noise: float = 12.0
    blurred: float = 0.15
    plain: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 16 or not 0 < self.least_x_height < self.size:
            raise ValueError(
                f"size={self.size}, least_x_height={self.least_x_height}: expected a "
                "side of 16 pixels or more, and letters that are smaller."
            )
        for name in ("least_width", "most_bend", "thinned", "blurred", "plain"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be 0 to 1, got {getattr(self, name)}.")
        if not 1.0 <= self.most_stretch <= 4.0:
            raise ValueError(f"most_stretch must be 1 to 4, got {self.most_stretch}.")


def draw_words(
    text: str, face: Face, style: WordStyle, rng: np.random.Generator
) -> Image.Image | None:
    """Returns a picture of a text, or None where it does not fit legibly.

    Args:
        text: one line.
        face: the font, which has a glyph for every sign.
        style: how much pictures differ.
        rng: where all choices come from.

    Raises:
        ValueError: if the font lacks a glyph.
    """
    if not face.draws(text):
        raise ValueError(f"{face.path} has no glyph for all of {text!r}.")
    left, top, right, bottom = face.at(MEASURED).getbbox(text)
    room = style.size - 2 * style.margin
    # Sizes at which an x is as high as it has to be, and the line as wide as it may.
    least = style.least_x_height / face.x_height
    most = room * MEASURED / max(right - left, bottom - top)
    if most < least:
        return None
    for _ in range(TRIES):
        smallest = max(least, style.least_width * most)
        points = math.exp(rng.uniform(math.log(smallest), math.log(most)))
        ink = _turned_line(text, face, points, style, rng)
        if max(ink.size) <= room and _cover(ink) >= LEAST_COVER:
            return _on_background(ink, style, rng)
        most = max(least, 0.9 * most)  # turned, it took up more
    return None


def _turned_line(
    text: str, face: Face, points: float, style: WordStyle, rng: np.random.Generator
) -> Image.Image:
    """Returns how much each pixel is covered, cropped to the text."""
    font = face.at(max(1, round(points * FINER)))
    bold = int(rng.integers(1, 3)) if rng.random() < 0.2 else 0
    left, top, right, bottom = font.getbbox(text, stroke_width=bold)
    width, height = math.ceil(right - left), math.ceil(bottom - top)
    edge = height  # so that nothing is cut off where it leans and turns
    line = Image.new("L", (width + 2 * edge, height + 2 * edge))
    ImageDraw.Draw(line).text(
        (edge - left, edge - top), text, 255, font, stroke_width=bold
    )
    line = _reshaped(line, edge, style, rng)
    if rng.random() < 0.3:
        lean = float(rng.uniform(-style.most_slant, style.most_slant))
        line = line.transform(
            line.size,
            Image.Transform.AFFINE,
            (1, lean, -lean * line.height / 2, 0, 1, 0),
            Image.Resampling.BICUBIC,
        )
    if rng.random() < 0.5:
        angle = float(rng.uniform(-style.most_angle, style.most_angle))
        line = line.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    line = line.crop(line.getbbox())
    small = (max(1, round(side / FINER)) for side in line.size)
    return line.resize((next(small), next(small)), Image.Resampling.BOX)


def _reshaped(
    line: Image.Image, edge: int, style: WordStyle, rng: np.random.Generator
) -> Image.Image:
    """Thins, stretches and bends a line of text that has `edge` free pixels around."""
    # A style without them draws nothing: its pictures stay those of earlier seeds.
    if style.thinned and rng.random() < style.thinned:
        line = line.filter(ImageFilter.MinFilter(3))
    if style.most_stretch > 1:
        most = math.log(style.most_stretch)
        wide = round(line.width * math.exp(rng.uniform(-most, most)))
        line = line.resize((max(1, wide), line.height), Image.Resampling.BICUBIC)
    if style.most_bend:
        line = _bent(line, style.most_bend * (line.height - 2 * edge), rng)
    return line


def _bent(line: Image.Image, most: float, rng: np.random.Generator) -> Image.Image:
    """Moves the inner points of a grid over a picture by up to `most` pixels."""
    down = 4
    across = max(2, round(down * line.width / line.height))
    xs = np.linspace(0, line.width, across + 1)
    ys = np.linspace(0, line.height, down + 1)
    points = np.stack(np.meshgrid(xs, ys), -1)  # (down + 1, across + 1, 2)
    points[1:-1, 1:-1] += rng.uniform(-most, most, points[1:-1, 1:-1].shape)
    mesh = []
    for row in range(down):
        for column in range(across):
            box = (xs[column], ys[row], xs[column + 1], ys[row + 1])
            corners = [(row, column), (row + 1, column)]
            corners += [(row + 1, column + 1), (row, column + 1)]
            quad = tuple(float(x) for at in corners for x in points[at])
            mesh.append((tuple(round(x) for x in box), quad))
    how = Image.Resampling.BILINEAR
    return line.transform(line.size, Image.Transform.MESH, mesh, how)


def _cover(ink: Image.Image) -> float:
    """Returns how much strokes cover of their pixels, of the darkest tenth of these."""
    values = np.asarray(ink) / 255
    inked = values[values > 0.1]
    return float(np.quantile(inked, 0.9)) if inked.size else 0.0


def _on_background(
    ink: Image.Image, style: WordStyle, rng: np.random.Generator
) -> Image.Image:
    """Lays a text at any place on a background from which it stands out."""
    size = style.size
    ground = _background(size, style.plain, rng)  # float, (size, size, 3)
    left, top = (
        int(rng.integers(style.margin, size - style.margin - side + 1))
        for side in ink.size
    )
    cover = np.zeros((size, size, 1))
    window = slice(top, top + ink.height), slice(left, left + ink.width)
    cover[window] = np.asarray(ink)[..., None] / 255
    around = ground[window].reshape(-1, 3)
    pixels = ground + cover * (_ink_colour(around, style, rng) - ground)
    pixels += rng.normal(0, rng.uniform(0, style.most_noise), pixels.shape)
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype("uint8"))
    if rng.random() < style.blurred:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.7))))
    return image


def _background(size: int, plain: float, rng: np.random.Generator) -> np.ndarray:
    """Returns one colour, or a passage between two that are not far apart."""
    colour = rng.uniform(0, 255, 3)
    if rng.random() < 0.3:
        colour = np.full(3, float(rng.choice([0.0, 255.0])))
    if rng.random() < plain:
        return np.broadcast_to(colour, (size, size, 3)).copy()
    other = np.clip(colour + rng.uniform(-60, 60, 3), 0, 255)
    angle, steps = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, size)
    ramp = np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]
    if rng.random() < 0.4:
        ramp = np.sin(rng.uniform(2, 10) * ramp)  # stripes
    share = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    return colour + (other - colour) * share[..., None]


def _ink_colour(
    around: np.ndarray, style: WordStyle, rng: np.random.Generator
) -> np.ndarray:
    """Returns a colour whose luminance differs from all there is around the text."""
    there = luminance(around)
    for _ in range(40):
        colour = rng.uniform(0, 255, 3)
        if np.abs(luminance(colour) - there).min() >= style.least_contrast:
            return colour
    return np.full(3, 255.0 if there.mean() < 0.5 else 0.0)


def luminance(colours: np.ndarray) -> np.ndarray:
    """Returns how bright sRGB colours `(..., 3)` from 0 to 255 look, from 0 to 1."""
    return colours @ np.array([0.2126, 0.7152, 0.0722]) / 255
