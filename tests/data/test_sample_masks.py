"""Instance maps beside images: they are cut, mirrored and resized as the images are."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_pe.data import TrainAugmentation
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.sample_errors import SampleError
from keras_pe.data.sample_masks import WithInstances, instance_map
from keras_pe.preprocessing.image_decoding import open_image_file, read_header
from keras_pe.preprocessing.image_errors import ImageError

pytestmark = [pytest.mark.quick, pytest.mark.once]

# Six by eight fields, each an instance: its number is told by the colour of the image.
FIELDS = np.arange(48).reshape(6, 8) + 1
COLOURS = np.random.default_rng(0).integers(0, 256, (49, 3)).astype("uint8")


def png(array, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


def numbers_of(scale):
    return FIELDS.repeat(scale, 0).repeat(scale, 1).astype("uint8")


def sample_of(scale, kind="PNG", **options):
    numbers = numbers_of(scale)
    stream = io.BytesIO()
    Image.fromarray(COLOURS[numbers]).save(stream, kind, **options)
    ending = {"PNG": "png", "JPEG": "jpg"}[kind]
    return {ending: stream.getvalue(), "seg.png": png(numbers)}, ending


def seen(transform, sample, ending, seed):
    """Returns the arrays, and which instance each pixel's colour is nearest to."""
    both = WithInstances(transform)
    content = sample[ending]
    if both.decodes:
        image = read_header(io.BytesIO(content), ending, ("PNG", "JPEG"))
    else:
        image = open_image_file(content, ending)
    arrays = both(image, np.random.default_rng(seed), sample)
    pixels = arrays["images"]
    if pixels.dtype != np.uint8:
        pixels = (pixels + 1) * 127.5
    far = np.abs(pixels[..., None, :].astype(int) - COLOURS[1:].astype(int)).sum(-1)
    return arrays, far.argmin(-1) + 1


def inner(numbers):
    """Returns which pixels have the same number all around, two pixels far."""
    same = np.ones(numbers.shape, bool)
    for down in (-2, 0, 2):
        for across in (-2, 0, 2):
            same &= np.roll(numbers, (down, across), (0, 1)) == numbers
    return same[2:-2, 2:-2]


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(
    ("scale", "kind"), [(20, "PNG"), (10, "PNG"), (60, "JPEG")], ids=str
)
def test_a_map_shows_what_its_image_shows(scale, kind, flip):
    """The large JPEG is decoded at a quarter of its size."""
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    sample, ending = sample_of(scale, kind, **options)
    augment = TrainAugmentation(
        (96, 80), scale=(0.3, 1.0), brightness=0.0, saturation=0.0, flip=flip
    )
    for seed in range(5):
        arrays, of_colour = seen(augment, sample, ending, seed)
        found = arrays["instances"]
        assert (found.shape, found.dtype) == ((96, 80), np.int32)
        compared = inner(found)
        assert compared.sum() > 1000
        assert (found[2:-2, 2:-2] == of_colour[2:-2, 2:-2])[compared].mean() > 0.999
        # Rows of fields go up, columns too, or down where it is mirrored.
        assert (found[0, 0] < found[0, -1]) == (flip == 0.0)


def test_a_whole_image_has_its_whole_map():
    sample, ending = sample_of(10)
    arrays, of_colour = seen(WholeImage(96), sample, ending, 0)
    assert set(np.unique(arrays["instances"])) == set(range(1, 49))
    compared = inner(arrays["instances"])
    equal = arrays["instances"] == of_colour
    assert equal[2:-2, 2:-2][compared].all()


def test_images_are_those_without_maps():
    sample, ending = sample_of(20)
    augment = TrainAugmentation(64, dtype="uint8")
    arrays, _ = seen(augment, sample, ending, 7)
    image = read_header(io.BytesIO(sample[ending]), ending, ("PNG",))
    alone = augment(image, np.random.default_rng(7))
    np.testing.assert_array_equal(arrays["images"], alone)


def test_an_image_that_lies_on_its_side_has_an_upright_map():
    numbers = numbers_of(10)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    turned = np.rot90(COLOURS[numbers])
    Image.fromarray(turned).save(stream, "PNG", exif=exif)
    sample = {"png": stream.getvalue(), "seg.png": png(numbers)}
    augment = TrainAugmentation(64, brightness=0.0, saturation=0.0)
    arrays, of_colour = seen(augment, sample, "png", 1)
    compared = inner(arrays["instances"])
    equal = (arrays["instances"] == of_colour)[2:-2, 2:-2]
    assert equal[compared].mean() > 0.999
    # What is decoded before, as a data set does it, is turned once all the same.
    opened = open_image_file(stream.getvalue(), "png")
    rng = np.random.default_rng(1)
    whole = WithInstances(WholeImage(64))(opened, rng, sample)
    upright = WithInstances(WholeImage(64))(
        Image.fromarray(COLOURS[numbers]), rng, sample
    )
    for name, array in whole.items():
        np.testing.assert_array_equal(array, upright[name])


def test_a_map_that_lies_on_its_side_is_turned():
    numbers = numbers_of(10).astype("uint16")
    exif = Image.Exif()
    exif[0x0112] = 3  # to be turned upside down
    stream = io.BytesIO()
    Image.fromarray(np.rot90(numbers, 2).copy()).save(stream, "PNG", exif=exif)
    found = instance_map({"seg.png": stream.getvalue()})
    np.testing.assert_array_equal(np.asarray(found), numbers)


# === What is stored ===
@pytest.mark.parametrize(
    "stored",
    [
        np.array([[0, 1], [2, 255]], "uint8"),
        np.array([[0, 1], [256, 65535]], "uint16"),
        np.array([[False, True], [True, False]]),
    ],
    ids=["8 bits", "16 bits", "1 bit"],
)
def test_grey_of_any_depth_is_numbers(stored):
    found = np.asarray(instance_map({"seg.png": png(stored)}))
    np.testing.assert_array_equal(found, stored)


def test_a_palette_has_places_for_numbers():
    stored = np.array([[0, 1], [2, 5]], "uint8")
    image = Image.fromarray(stored, "P")
    image.putpalette([200, 0, 0] * 6)  # six times the same red
    stream = io.BytesIO()
    image.save(stream, "PNG")
    found = np.asarray(instance_map({"seg.png": stream.getvalue()}))
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        ({"jpg": b"", "__key__": "a"}, SampleError, r"no mask.*\['jpg'\]; expected"),
        ({"seg.png": png(COLOURS[FIELDS])}, SampleError, "colours .mode RGB"),
        ({"seg.png": b"no image"}, ImageError, "seg.png"),
        ({"seg.png": png(numbers_of(9))[:-60]}, SampleError, "wrong mask"),
    ],
)
def test_what_is_no_map_is_refused(sample, error, message):
    with pytest.raises(error, match=message):
        instance_map(sample)


def test_a_map_of_another_size_is_refused():
    sample, ending = sample_of(10)
    sample["seg.png"] = png(numbers_of(9))
    with pytest.raises(SampleError, match=r"72 x 54 pixels; expected .*: 80 x 60"):
        seen(TrainAugmentation(64), sample, ending, 0)
