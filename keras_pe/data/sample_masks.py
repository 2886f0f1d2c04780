"""Instance maps beside images: which thing each pixel shows, cut and turned with it."""

import io
from typing import Protocol

import numpy as np
from PIL import Image

from keras_pe.data.geometry import Geometry
from keras_pe.data.sample_errors import SampleError
from keras_pe.data.shard_files import Sample
from keras_pe.preprocessing import image_decoding

# WebDataset's ending for what belongs to each pixel.
MASK_EXTENSION = "seg.png"

NO_MASK = "no mask"
WRONG_MASK = "wrong mask"

# Palette indices, grey of 1, 8 and 16 bits: what one number a pixel is stored as.
_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


class GeometricTransform(Protocol):
    """A transform of images that says what it did to where things are."""

    def with_geometry(
        self, image: Image.Image, rng: np.random.Generator
    ) -> tuple[np.ndarray, Geometry]: ...


def instance_map(sample: Sample) -> Image.Image:
    """Returns a sample's instance map with the numbers that are stored, upright.

    A PNG with one number a pixel: which instance it shows, 0 for none. Grey of 8 or 16
    bits, or of a palette, whose places are the numbers.

    Args:
        sample: bytes by the ending of their file.

    Raises:
        SampleError: if there is none, or it has colours.
        ImageError: if it is damaged or no PNG.

    Example:
        >>> stream = io.BytesIO()
        >>> Image.fromarray(np.array([[0, 1000]], "uint16")).save(stream, "PNG")
        >>> np.asarray(instance_map({"seg.png": stream.getvalue()})).tolist()
        [[0, 1000]]
    """
    if MASK_EXTENSION not in sample:
        raise SampleError(
            NO_MASK,
            f"Its files are {sorted(x for x in sample if x[:2] != '__')}; expected "
            f"one that ends in .{MASK_EXTENSION}: the number of the instance that each "
            f"pixel shows, 0 for none.",
        )
    stream = io.BytesIO(sample[MASK_EXTENSION])
    image = image_decoding.read_header(stream, MASK_EXTENSION, ("PNG",))
    if image.mode not in _MODES:
        raise SampleError(
            WRONG_MASK,
            f"Its .{MASK_EXTENSION} has colours (mode {image.mode}); expected one "
            f"number a pixel: grey of 8 or 16 bits, or a palette.",
        )
    image_decoding.check_size(
        *image.size,
        MASK_EXTENSION,
        image_decoding.DEFAULT_MAX_PIXELS,
        image_decoding.DEFAULT_MAX_SIDE,
    )
    try:
        image.load()
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise SampleError(WRONG_MASK, f"Its .{MASK_EXTENSION}: {error}") from error
    return image_decoding.upright(image, MASK_EXTENSION)


class WithInstances:
    """Makes an image's array, and the map of its instances, of the same geometry.

    Args:
        transform: of the image: `TrainAugmentation` or `WholeImage`.

    Example:
        >>> from keras_pe.data import TrainAugmentation
        >>> both = WithInstances(TrainAugmentation(224))
        >>> both.reads_sample
        True
    """

    reads_sample = True  # `ImageTextDataset` hands it the sample too

    def __init__(self, transform: GeometricTransform) -> None:
        self.transform = transform
        self.decodes = getattr(transform, "decodes", False)

    def __call__(
        self, image: Image.Image, rng: np.random.Generator, sample: Sample
    ) -> dict[str, np.ndarray]:
        """Returns `images` `(height, width, 3)` and int32 `instances`.

        Raises:
            SampleError: if there is no map, or it is of another size.
        """
        numbers = instance_map(sample)
        pixels, geometry = self.transform.with_geometry(image, rng)
        if numbers.size != geometry.size:
            raise SampleError(
                WRONG_MASK,
                f"Its .{MASK_EXTENSION} has {numbers.width} x {numbers.height} pixels; "
                f"expected those of its image, upright: {geometry.size[0]} x "
                f"{geometry.size[1]}.",
            )
        return {"images": pixels, "instances": geometry.of_map(numbers, pixels.shape)}
