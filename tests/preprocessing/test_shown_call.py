"""How converters and tokenizers are shown: by a call that makes them again."""

import pytest

from keras_pe import PEImageConverter, PETokenizer, PEVideoConverter

pytestmark = pytest.mark.quick
KINDS = {
    kind.__name__: kind for kind in (PEImageConverter, PETokenizer, PEVideoConverter)
}


@pytest.mark.parametrize(
    "thing",
    [
        PEImageConverter(image_size=(24, 32), formats=("PNG",), background=(1, 2, 3)),
        PEImageConverter(),
        PETokenizer(context_length=8, vocabulary_size=600),
        PEVideoConverter(64, num_frames=4),
    ],
)
def test_what_is_shown_makes_it_again(thing):
    again = eval(repr(thing), dict(KINDS))
    assert again.get_config() == thing.get_config()


def test_defaults_are_left_out():
    converter = PEImageConverter(32, max_side=9000)
    assert repr(converter) == "PEImageConverter(image_size=(32, 32), max_side=9000)"
    assert repr(PETokenizer()) == "PETokenizer()"
