"""What training does to an image: random crop, colour jitter, mirror.

All of it works on 8-bit images in Pillow and, apart from the decoding, on pixels of
the final size only. A JPEG much larger than needed is decoded at a half, a quarter or
an eighth of its size, which its format gives for less than the full price.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_pe.data.geometry import Box, Geometry
from keras_pe.preprocessing.given_images import image_name
from keras_pe.preprocessing.image import INTERPOLATIONS, PEImageConverter
from keras_pe.preprocessing.image_decoding import DEFAULT_MAX_PIXELS, decode, upright
from keras_pe.preprocessing.image_modes import from_array, resizable

# Red, green and blue parts of luminance: ITU-R BT.601, as in Pillow's mode "L".
LUMINANCE = (0.299, 0.587, 0.114)
CROP_TRIES = 10
# Large images are first averaged over whole pixels, down to this many times the
# final size at least; Pillow's documentation calls 2 close to exact.
REDUCING_GAP = 2.0
_ORIENTATION = 0x0112


class RandomResizedCrop:
    """A random part of an image, resized to a fixed size.

    Up to ten tries of a random area and aspect ratio; if none fits into the image,
    the largest centred part with an allowed aspect ratio.

    Args:
        image_size: side of the result in pixels, or (height, width).
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width divided by height.
        interpolation: `"bilinear"`, `"bicubic"`, `"lanczos"` or `"nearest"`.

    Source: Szegedy et al. 2015, section 6, as in torchvision's `RandomResizedCrop`;
        the ranges are those of Perception Encoder, table 18.

    Example:
        >>> crop = RandomResizedCrop(224)
        >>> crop(Image.new("RGB", (640, 480)), np.random.default_rng(0)).size
        (224, 224)
    """

    def __init__(
        self,
        image_size: int | Sequence[int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 1.33),
        interpolation: str = "bilinear",
    ) -> None:
        sides = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(
                f"image_size={image_size!r}: expected pixels or (height, width)."
            )
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale={scale!r}: expected 0 < low <= high <= 1.")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio={ratio!r}: expected 0 < low <= high.")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation={interpolation!r}: expected one of "
                f"{tuple(INTERPOLATIONS)}."
            )
        self.height, self.width = (int(side) for side in sides)
        self.scale = scale
        self.ratio = ratio
        self.interpolation = interpolation

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Cuts and resizes.

        Args:
            image: a decoded image.
            rng: where the choice comes from.

        Returns:
            An image of the same mode and of `image_size`.
        """
        return self.resize(image, self.box(image.size, rng))

    def box(self, size: tuple[int, int], rng: np.random.Generator) -> Box:
        """Chooses the part.

        Args:
            size: width and height of the image.
            rng: where the choice comes from.

        Returns:
            Left, top, right and bottom edge, whole pixels.
        """
        width, height = size
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(CROP_TRIES):
            area = width * height * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(low, high))
            across = round(math.sqrt(area * ratio))
            down = round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                left = int(rng.integers(width - across + 1))
                top = int(rng.integers(height - down + 1))
                return left, top, left + across, top + down
        across, down = width, height
        if width < height * self.ratio[0]:
            down = max(round(width / self.ratio[0]), 1)
        elif width > height * self.ratio[1]:
            across = max(round(height * self.ratio[1]), 1)
        left, top = (width - across) // 2, (height - down) // 2
        return left, top, left + across, top + down

    def resize(
        self, image: Image.Image, box: tuple[float, float, float, float]
    ) -> Image.Image:
        """Resizes a part without cutting it out first.

        Args:
            image: a decoded image.
            box: left, top, right and bottom edge.

        Returns:
            An image of `image_size`.
        """
        return image.resize(
            (self.width, self.height),
            INTERPOLATIONS[self.interpolation],
            box=box,
            reducing_gap=REDUCING_GAP,
        )


class ColorJitter:
    """Random changes of brightness and saturation, in random order.

    Args:
        brightness: colours are multiplied by a factor in [1 - b, 1 + b].
        saturation: distances from grey are, by a factor in [1 - s, 1 + s].

    Source: torchvision's `ColorJitter`; Perception Encoder, table 18: (0.32, 0, 0.32,
        0). Appendix C.1 there: contrast and hue did not help.

    Example:
        >>> jitter = ColorJitter(0.32, 0.32)
        >>> jitter(Image.new("RGB", (8, 8)), np.random.default_rng(0)).size
        (8, 8)
    """

    def __init__(self, brightness: float = 0.32, saturation: float = 0.32) -> None:
        for name, value in (("brightness", brightness), ("saturation", saturation)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value!r}: expected 0 to 1.")
        self.brightness = brightness
        self.saturation = saturation

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Changes the colours.

        Args:
            image: mode RGB.
            rng: where the factors come from.

        Returns:
            An image of the same size.
        """
        brightness = 1 + self.brightness * rng.uniform(-1, 1)
        saturation = 1 + self.saturation * rng.uniform(-1, 1)
        return jitter(image, brightness, saturation, bool(rng.random() < 0.5))


class TrainAugmentation:
    """Random crop, jitter and mirror: the augmentation of contrastive pretraining.

    A function of the image and the generator alone.

    Args:
        image_size: side of the result in pixels, or (height, width).
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width divided by height.
        brightness: see `ColorJitter`.
        saturation: see `ColorJitter`.
        flip: probability of a mirrored image.
        interpolation: see `RandomResizedCrop`.
        background: RGB colour (0-255) to lay transparent images on; `None` drops
            the alpha channel.
        draft: decode large JPEGs at a half, a quarter or an eighth of their size where
            that leaves the crop at least `image_size` pixels. Pixels then differ by
            0.2 to 0.6 levels of 255 on average (640 to 2000 pixels wide to 224).
        dtype: `"float32"` in [-1, 1], or `"uint8"`: a fourth of the bytes to carry
            between processes, for which `keras_pe.data.batches` makes the floats.
        max_pixels: width times height above which a file is refused undecoded.

    Source: Perception Encoder, section 2.1 and table 18.

    Example:
        >>> augment = TrainAugmentation(224)
        >>> photo = Image.new("RGB", (640, 480))
        >>> augment(photo, np.random.default_rng(0)).shape
        (224, 224, 3)
    """

    # `image_text_dataset` hands over files with only their header read.
    decodes = True

    def __init__(
        self,
        image_size: int | Sequence[int],
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 1.33),
        brightness: float = 0.32,
        saturation: float = 0.32,
        flip: float = 0.5,
        interpolation: str = "bilinear",
        background: tuple[int, int, int] | None = None,
        draft: bool = True,
        dtype: str = "float32",
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        if dtype not in ("float32", "uint8"):
            raise ValueError(f"dtype={dtype!r}: expected 'float32' or 'uint8'.")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip={flip!r}: expected a probability.")
        self.crop = RandomResizedCrop(image_size, scale, ratio, interpolation)
        self.jitter = ColorJitter(brightness, saturation)
        self.flip = flip
        self.background = background
        self.draft = draft
        self.dtype = dtype
        self.max_pixels = max_pixels

    def __call__(
        self, image: Image.Image | np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Varies one image.

        Args:
            image: a PIL image, decoded or just opened, or an array (height, width[,
                1, 3 or 4]), uint8 or float in [0, 1].
            rng: where everything random comes from.

        Returns:
            Array (height, width, 3): float32 in [-1, 1], or uint8.

        Raises:
            ImageError: if the image cannot be decoded.
        """
        return self.with_geometry(image, rng)[0]

    def with_geometry(
        self, image: Image.Image | np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, Geometry]:
        """Varies one image as a call does; returns also what was done to its places."""
        name = image_name(image)
        if not isinstance(image, Image.Image):
            image = from_array(np.asarray(image), name)
        cut, box, opened = self._decode_for_box(image, name, rng)
        opened = resizable(opened, name, self.background)
        varied = self.crop.resize(opened, box).convert("RGB")
        varied = self.jitter(varied, rng)
        mirrored = bool(rng.random() < self.flip)
        if mirrored:
            varied = varied.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(varied)
        if self.dtype != "uint8":
            pixels = to_unit_range(pixels)
        return pixels, cut._replace(mirrored=mirrored)

    def _decode_for_box(
        self, image: Image.Image, name: str, rng: np.random.Generator
    ) -> tuple[Geometry, tuple[float, float, float, float], Image.Image]:
        """Decodes an image as small as a crop allows.

        Returns:
            the crop, its edges in the decoded image, and that.
        """
        width, height = image.size
        draft = self.draft and width * height <= self.max_pixels
        if not draft or not _draftable(image):
            opened = upright(decode(image, name, self.max_pixels), name)
            box = self.crop.box(opened.size, rng)
            return Geometry(opened.size, box), box, opened
        box = self.crop.box((width, height), rng)
        cut = Geometry((width, height), box)
        # As many pixels of the crop as the result has, or more.
        wanted = (
            math.ceil(width * self.crop.width / (box[2] - box[0])),
            math.ceil(height * self.crop.height / (box[3] - box[1])),
        )
        drafted = image.draft(None, wanted)
        opened = decode(image, name, self.max_pixels)
        if drafted is None:
            return cut, box, opened
        shrink = drafted[1][2] / width  # 1, 1/2, 1/4 or 1/8; sizes are rounded up
        edges = (
            box[0] * shrink,
            box[1] * shrink,
            min(box[2] * shrink, opened.width),
            min(box[3] * shrink, opened.height),
        )
        return cut, edges, opened


def jitter(
    image: Image.Image, brightness: float, saturation: float, brightness_first: bool
) -> Image.Image:
    """Multiplies brightness and saturation, clipping to 0-255 after each.

    Args:
        image: mode RGB.
        brightness: factor of all colours.
        saturation: factor of the distance from grey of equal luminance.
        brightness_first: the order.

    Returns:
        An image of mode RGB, within one level of doing it in real numbers and
        rounding after each step.

    Example:
        >>> jitter(Image.new("RGB", (1, 1), (100, 50, 50)), 1.2, 1.0, True).getpixel(
        ...     (0, 0)
        ... )
        (120, 60, 60)
    """
    first = brightness if brightness_first else saturation
    if first <= 1:  # nothing can leave 0-255 after the first step: one step does both
        return image.convert("RGB", _mixing(saturation, brightness))
    steps = [_mixing(1.0, brightness), _mixing(saturation, 1.0)]
    for matrix in steps if brightness_first else reversed(steps):
        image = image.convert("RGB", matrix)
    return image


def to_unit_range(images: np.ndarray) -> np.ndarray:  # uint8 -> float32, same shape
    """Scales 0-255 to [-1, 1], as the models expect.

    Args:
        images: uint8, any shape.

    Returns:
        float32, same shape.

    Example:
        >>> to_unit_range(np.array([0, 255], "uint8"))
        array([-1.,  1.], dtype=float32)
    """
    floats = images.astype(np.float32)
    floats /= np.float32(127.5)
    floats -= np.float32(1)
    return floats


def _mixing(saturation: float, brightness: float) -> tuple[float, ...]:
    """Returns the 12 numbers by which Pillow mixes channels; it rounds and clips."""
    own = brightness * saturation
    red, green, blue = (brightness * (1 - saturation) * part for part in LUMINANCE)
    return (
        *(red + own, green, blue, 0.0),
        *(red, green + own, blue, 0.0),
        *(red, green, blue + own, 0.0),
    )


def _draftable(image: Image.Image) -> bool:
    """Says whether an image is a JPEG that is not decoded and stands upright."""
    # An image's tiles are what is left to decode.
    if image.format not in ("JPEG", "MPO") or not getattr(image, "tile", None):
        return False
    try:
        return image.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # broken metadata around sound pixels
        return True


class WholeImage:
    """The transform of evaluation: the image squashed to a square, nothing random."""

    def __init__(self, image_size: int) -> None:
        self.converter = PEImageConverter(image_size)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        return self.converter.convert(image)

    def with_geometry(
        self, image: Image.Image, rng: np.random.Generator
    ) -> tuple[np.ndarray, Geometry]:
        """As a call; returns also what was done to the image's places."""
        return self(image, rng), Geometry(image.size, (0, 0, *image.size))
