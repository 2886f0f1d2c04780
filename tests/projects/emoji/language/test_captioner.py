"""The captioner in the package: it loads, and reads and names."""

from importlib.resources import as_file, files

import numpy as np
import pytest

from keras_pe import PELang
from keras_pe.language import VisionLanguageModel
from recipes.language_data.word_images import WordStyle, draw_words
from tests.recipes.language_data.small_fonts import faces

pytestmark = pytest.mark.once

PRESET = "pe_captioner_emoji_patch8_64"
PLAIN = WordStyle(
    64,
    least_width=0.85,
    most_angle=0.0,
    most_slant=0.0,
    most_noise=0.0,
    blurred=0.0,
    least_contrast=0.6,
    plain=1.0,
)


@pytest.fixture(scope="module")
def captioner():
    return VisionLanguageModel.from_preset(PRESET)


def test_it_reads_words_in_a_font_that_it_never_saw(captioner):
    words = ["cat", "bus", "tall", "risk", "Hello", "2026"]
    (face,) = faces()["test"]
    rng = np.random.default_rng(0)
    images = [np.asarray(draw_words(word, face, PLAIN, rng)) for word in words]
    said = captioner.generate(images, "What does it say?")
    assert said == [word.lower() for word in words]
    turned = [image[:, ::-1] for image in images]  # what nobody can read
    assert captioner.generate(turned, "What does it say?") != said


def test_it_names_some_of_the_samples(captioner):
    names = ("cactus", "guitar", "rocket")
    folder = files("keras_pe") / "cli" / "demo_images"
    with as_file(folder) as shown:
        said = captioner.generate([shown / f"{n}.png" for n in names], "What is this?")
    assert said == list(names)


def test_its_encoder_loads_without_the_rest(captioner):
    encoder = PELang.from_preset(PRESET)
    assert encoder.num_layers == captioner.encoder.num_layers == 5
