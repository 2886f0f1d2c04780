"""Sizes of images for maps: of their own shape, in whole patches."""

from keras_pe.models.vision_encoder import PEVisionEncoder

FINE_PATCHES = 16  # along the longer side, where the image is as large
SHOWN_SIDE = 448  # pixels of the longer side of the images behind the maps


def size_of_shape(
    source: tuple[int, int], patch: int, encoder: PEVisionEncoder
) -> tuple[int, int]:
    """Returns the size in whole patches that is nearest to an image's shape.

    Its longer side is the model's own; for a model of few patches it is that of the
    image, up to `FINE_PATCHES` patches.

    Args:
        source: height and width of the image.
        patch: side of a patch in pixels.
        encoder: the model.
    """
    longest = max(source)
    side = max(encoder.image_size, min(longest, FINE_PATCHES * patch))
    rows, columns = (max(round(x * side / (longest * patch)), 1) for x in source)
    return rows * patch, columns * patch


def cropped(source: tuple[int, int], size: tuple[int, int]) -> float:
    """Returns how many pixels of a size are lost on both sides of an image together.

    Args:
        source: height and width of the image.
        size: height and width that it is scaled to cover.
    """
    scale = max(target / side for side, target in zip(source, size, strict=True))
    return max(side * scale - target for side, target in zip(source, size, strict=True))


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size of the image behind a map: finer, a multiple of the map's.

    Args:
        size: height and width of the model's input.
    """
    times = max(1, SHOWN_SIDE // max(size))
    return size[0] * times, size[1] * times
