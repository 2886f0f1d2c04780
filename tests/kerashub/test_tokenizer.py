"""The tokenizer in KerasHub's pipelines: our own ids in all of them."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="needs keras-pe[kerashub]")
import keras_hub

import keras_pe
from keras_pe.kerashub import PEBackbone, PETokenizer
from keras_pe.presets.report import CheckpointError
from tests.arrays import to_numpy
from tests.kerashub.hub_models import save
from tests.small_models import vision_encoder

TEXTS = [
    "a cat",
    "",
    "Ünï <end_of_text> &amp; 7 dogs, runing  home",
    "kaf\u017fa \N{OWL}",
]

SIZES = 12, 900  # tokens of a text, where the third is cut; words


def ids(x):
    return to_numpy(x, "int32")


def test_ids_are_our_own():
    tokenizer = PETokenizer(*SIZES, on_truncation="ignore")
    expected = keras_pe.PETokenizer(*SIZES, on_truncation="ignore")
    np.testing.assert_array_equal(ids(tokenizer(TEXTS)), expected(TEXTS))
    np.testing.assert_array_equal(ids(tokenizer(np.array(TEXTS))), expected(TEXTS))
    for text in TEXTS:
        assert tuple(tokenizer(text).shape) == (12,)
        np.testing.assert_array_equal(ids(tokenizer(text)), expected(text)[0])
    assert tokenizer.detokenize(expected(TEXTS)) == expected.detokenize(expected(TEXTS))
    assert tokenizer.detokenize(tokenizer("a cat")) == "a cat"
    special = (tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id)
    assert special == (expected.start_id, expected.end_id, expected.pad_id)


def test_within_tf_data():
    tf = pytest.importorskip("tensorflow")
    tokenizer = PETokenizer(*SIZES, on_truncation="ignore")
    expected = keras_pe.PETokenizer(*SIZES, on_truncation="ignore")(TEXTS)
    one = tf.data.Dataset.from_tensor_slices(TEXTS).map(tokenizer)
    assert one.element_spec.shape == (12,)
    np.testing.assert_array_equal(np.stack(list(one.as_numpy_iterator())), expected)
    many = tf.data.Dataset.from_tensor_slices(TEXTS).batch(4).map(tokenizer)
    np.testing.assert_array_equal(next(many.as_numpy_iterator()), expected)


@pytest.mark.once
def test_without_tensorflow():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow is the backend of this run")
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_text'] = None\n"
        "import numpy as np\n"
        "from keras_pe.kerashub import PEImageConverter, PETokenizer\n"
        "print(np.asarray(PETokenizer(4, 900)(['a', 'b'])).tolist())\n"
        "print(tuple(PEImageConverter(8)(np.zeros((2, 3, 3, 3), 'uint8')).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = keras_pe.PETokenizer(4, 900)(["a", "b"]).tolist()
    assert done.stdout.splitlines() == [str(expected), "(2, 8, 8, 3)"], done.stderr


def test_its_vocabulary():
    tokenizer = PETokenizer(8, 900)
    words = tokenizer.get_vocabulary()
    assert len(words) == len(set(words)) == tokenizer.vocabulary_size() == 900
    for number in (0, 513, 899):
        assert tokenizer.token_to_id(tokenizer.id_to_token(number)) == number
    assert tokenizer.id_to_token(899) == "<end_of_text>"
    assert tokenizer.id_to_token(int(ids(tokenizer("a"))[1])) == "a</w>"
    with pytest.raises(ValueError, match="from 0 to 899, got 900"):
        tokenizer.id_to_token(900)
    with pytest.raises(ValueError, match="none of the 900 tokens"):
        tokenizer.token_to_id("perception")


def test_from_our_presets(tmp_path):
    save(tmp_path / "core")
    tokenizer = PETokenizer.from_preset(tmp_path / "core")
    expected = keras_pe.PETokenizer.from_preset(tmp_path / "core")
    np.testing.assert_array_equal(ids(tokenizer(["an owl"])), expected(["an owl"]))
    assert PETokenizer.from_preset("PE-Core-G14-448").context_length == 72
    save(tmp_path / "spatial", "PESpatial")
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        PETokenizer.from_preset(tmp_path / "spatial")


def test_what_kerashub_saves_it_loads(tmp_path):
    tokenizer = PETokenizer(*SIZES)
    PEBackbone.from_encoder(vision_encoder()).save_to_preset(str(tmp_path))
    tokenizer.save_to_preset(str(tmp_path))
    for load in (keras_hub.tokenizers.Tokenizer, PETokenizer):
        again = load.from_preset(str(tmp_path))
        assert type(again) is PETokenizer
        np.testing.assert_array_equal(ids(again(TEXTS)), ids(tokenizer(TEXTS)))
    strict = PETokenizer.from_preset(tmp_path, on_truncation="error")
    with pytest.raises(ValueError, match="do not fit context_length=12"):
        strict(["an owl " * 9])

    path = tmp_path / "tokenizer.json"  # a file silences no warnings
    content = json.loads(path.read_text("utf-8"))
    content["config"]["on_truncation"] = "ignore"
    path.write_text(json.dumps(content), "utf-8")
    with pytest.warns(UserWarning, match="on_truncation='ignore'"):
        keras_hub.tokenizers.Tokenizer.from_preset(str(tmp_path))
