"""A tokenizer of another model is refused wherever the two meet."""

import pytest

import keras_pe
from keras_pe.cli.common import load
from keras_pe.evaluation import evaluate_retrieval, evaluate_zero_shot
from keras_pe.evaluation.zero_shot import ZeroShotClassifier
from keras_pe.models.embedding import embed_texts
from keras_pe.preprocessing.given_texts import check_tokenizer
from tests.small_models import core, images

pytestmark = pytest.mark.quick
Tokenizer = keras_pe.PETokenizer


@pytest.mark.parametrize(
    ("context", "vocabulary"), [(8, 49408), (8, 601), (8, 599), (9, 600), (32, 49408)]
)
def test_another_vocabulary_or_a_longer_context_is_refused(context, vocabulary):
    model = core()
    tokenizer = Tokenizer(context_length=context, vocabulary_size=vocabulary)
    given = [((pixels + 1) * 127).astype("uint8") for pixels in images(2)]
    for call in (
        lambda: check_tokenizer(tokenizer, model),
        lambda: check_tokenizer(tokenizer, model.text_encoder),
        lambda: embed_texts(model, tokenizer, ["a"]),
        lambda: ZeroShotClassifier(model, tokenizer, ["a", "b"]),
        lambda: evaluate_zero_shot(model, tokenizer, given, [0, 1], ["a", "b"]),
        lambda: evaluate_retrieval(model, tokenizer, given, ["a", "b"]),
    ):
        with pytest.raises(ValueError, match=rf"{context} ids .*context_length=8, voc"):
            call()


def test_a_shorter_context_and_other_callables_are_taken():
    model = core()
    check_tokenizer(Tokenizer(context_length=4, vocabulary_size=600), model)
    check_tokenizer(lambda texts: texts, model)


def test_a_preset_with_the_tokenizer_of_another_model_is_refused(tmp_path):
    other = Tokenizer(context_length=8, vocabulary_size=601)
    core().save_to_preset(tmp_path / "cats", tokenizer=other)
    with pytest.raises(ValueError, match=r"does not fit the model: .* of 601"):
        load(str(tmp_path / "cats"))
