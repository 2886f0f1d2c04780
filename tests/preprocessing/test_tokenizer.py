"""The tokenizer against the reference ids and against a slow, obvious twin."""

import gzip
import hashlib
import html
import itertools
import json
import os
import pickle
import random
import re
import subprocess
import sys
import unicodedata
import warnings
from importlib import resources
from pathlib import Path

import ftfy
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_pe.preprocessing import PETokenizer

CASES = json.loads(
    (Path(__file__).parents[1] / "reference" / "tokenizer_cases.json").read_text()
)
MERGES = gzip.decompress(
    resources.files("keras_pe.preprocessing")
    .joinpath("clip_merges.txt.gz")
    .read_bytes()
)


class SlowTokenizer:
    """Byte-pair encoding as the textbook has it: merge the best pair, repeat."""

    def __init__(self, vocabulary_size):
        self.size = vocabulary_size
        lines = MERGES.decode().splitlines()[: vocabulary_size - 514]
        self.ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
        printable = [b for b in range(256) if chr(b).isprintable() and b != 32]
        others = [b for b in range(256) if b not in printable]
        self.symbol = {b: chr(b) for b in printable}
        self.symbol |= {b: chr(256 + i) for i, b in enumerate(others)}
        order = [self.symbol[b] for b in printable + others]
        merged = ["".join(pair) for pair in self.ranks]
        vocabulary = order + [s + "</w>" for s in order] + merged
        self.ids = {token: i for i, token in enumerate(vocabulary)}

    def words(self, text):
        """Split by Unicode category, one character at a time."""
        position = 0
        contraction = re.compile("'(?:s|\u017f|t|re|ve|m|ll|d)")
        while position < len(text):
            found = contraction.match(text, position)
            if found:
                word = found.group()
            elif text[position].isspace():
                position += 1
                continue
            else:
                kind = self.kind(text[position])
                end = position + 1
                if kind != "N":  # every digit is a word
                    while end < len(text) and self.kind(text[end]) == kind:
                        end += 1
                word = text[position:end]
            yield word
            position += len(word)

    def kind(self, character):
        if character.isspace():
            return "space"
        major = unicodedata.category(character)[0]
        return major if major in "LN" else "other"

    def pieces(self, word):
        parts = [self.symbol[b] for b in word.encode()]
        parts[-1] += "</w>"
        while True:
            known = [p for p in itertools.pairwise(parts) if p in self.ranks]
            if not known:
                return parts
            best = min(known, key=self.ranks.__getitem__)
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = ["".join(best)]
                i += 1

    def __call__(self, text, context_length):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
        text = " ".join(text.split()).lower()
        ids = [self.ids[p] for word in self.words(text) for p in self.pieces(word)]
        row = [self.size - 2, *ids, self.size - 1]
        if len(row) > context_length:
            row = [*row[: context_length - 1], self.size - 1]
        return row + [0] * (context_length - len(row))


def random_texts(count, seed):
    """Words, punctuation, entities and characters of many scripts."""
    rng = random.Random(seed)
    # Characters that existed in Unicode 3.2, so that the Unicode versions of
    # this interpreter and of the tokenizer's engine cannot disagree.
    old = [chr(c) for c in range(0x20, 0x10000) if not 0xD800 <= c < 0xE000]
    old = [c for c in old if unicodedata.ucd_3_2_0.category(c)[0] not in "CM"]
    words = ["a", "photo", "THE", "cat's", "isn't", "3", "dogs,", "&amp;", "caf\u00e9"]
    ascii_pool = [chr(c) for c in range(32, 127)]
    for i in range(count):
        if i % 3 == 0:
            yield " ".join(rng.choices(words, k=rng.randint(0, 12)))
        else:
            pool = ascii_pool if i % 3 == 1 else old
            yield "".join(rng.choices(pool, k=rng.randint(0, 25)))


def encode(tokenizer, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tokenizer(text)[0].tolist()


@pytest.mark.parametrize("context_length", [32, 72])
def test_reference_ids_are_identical(context_length):
    tokenizer = PETokenizer(context_length, on_truncation="ignore")
    ids = tokenizer([case["text"] for case in CASES])
    assert ids.dtype == np.int32
    assert len(CASES) == 95
    np.testing.assert_array_equal(ids, [case[f"ids{context_length}"] for case in CASES])


@pytest.mark.parametrize("vocabulary_size", [514, 515, 1000, 6000, 49408])
def test_agrees_with_the_slow_twin(vocabulary_size):
    tokenizer = PETokenizer(40, vocabulary_size, on_truncation="ignore")
    slow = SlowTokenizer(vocabulary_size)
    texts = list(random_texts(600, seed=vocabulary_size))
    texts += [case["text"] for case in CASES if "_of_text>" not in case["text"]]
    for text, ids in zip(texts, tokenizer(texts), strict=True):
        assert ids.tolist() == slow(text, 40), text
    assert tokenizer("a")[0, 0] == vocabulary_size - 2
    assert tokenizer("a").max() == vocabulary_size - 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=[])), max_size=4))
def test_any_text_gives_valid_ids(texts):
    tokenizer = PETokenizer(16, 6000, on_truncation="ignore")
    ids = tokenizer(texts)
    assert ids.shape == (len(texts), 16)
    for row in ids.tolist():
        assert row[0] == 5998
        assert 0 <= min(row) <= max(row) == 5999
        last = 15 - row[::-1].index(5999)
        assert row[last + 1 :] == [0] * (15 - last)
    report = tokenizer.last_report
    assert report.num_texts == len(texts)
    assert report.num_truncated == len(report.truncated_indices)
    assert all(ids[i, -1] == 5999 for i in report.truncated_indices)
    assert (report.longest > 16) == (report.num_truncated > 0)
    assert all(isinstance(text, str) for text in tokenizer.detokenize(ids))


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("", " \t\n "),
        ("A  Cat", "a cat"),
        ("fish &amp;amp; chips", "fish & chips"),
        ("the \u201cquoted\u201d", 'the "quoted"'),
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("\ufb01sh", "fish"),
        ("bad \ud800 surrogate", "bad \ufffd surrogate"),
        ("\x00\x07control", "control"),
    ],
)
def test_cleaning(text, same_as):
    tokenizer = PETokenizer()
    np.testing.assert_array_equal(tokenizer(text), tokenizer(same_as))


def test_the_reference_drops_an_iota_below_a_letter():
    # regex 2026.11.19 on `[^\s\p{L}\p{N}]+` with IGNORECASE; of composed letters
    # (those of Greek are) nothing is dropped.
    tokenizer = PETokenizer(12)
    for text, same_as in (
        ("!\u0345?", "! ?"),
        ("a\u0345b", "a b"),
        ("\u0345", ""),
        ("\u03b1\u0345", "\u1fb3"),
    ):
        np.testing.assert_array_equal(tokenizer(text), tokenizer(same_as))
    assert encode(tokenizer, "\u0354\u0345")[:4] == [49406, 137, 498, 49407]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000,
        "a cat " * 2_000,
        "\U0001f600" * 300,
        "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
        "zero\u200bwidth\u200d\ufeff",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "e" + "\u0301" * 200,
    ],
)
def test_unusual_texts(text):
    ids = encode(PETokenizer(72), text)
    assert len(ids) == 72
    assert ids[0] == 49406
    assert 49407 in ids


def test_special_literals_follow_the_reference():
    tokenizer = PETokenizer(12)
    start, end = tokenizer.start_id, tokenizer.end_id
    assert encode(tokenizer, "<END_of_text>")[:4] == [start, end, end, 0]
    assert encode(tokenizer, "<start_of_text><end_of_text>")[:4] == [
        start,
        start,
        end,
        end,
    ]
    inside_a_word = encode(tokenizer, "!<end_of_text>")
    assert inside_a_word.count(end) == 1


def test_truncation_is_counted_and_told_once():
    tokenizer = PETokenizer(5)
    texts = ["a cat", "one two three four five", "a b c d"]
    with pytest.warns(UserWarning, match=r"2 of 3 .*texts\[1\] = 'one two"):
        ids = tokenizer(texts)
    assert ids[1, -1] == tokenizer.end_id
    report = tokenizer.last_report
    assert (report.num_texts, report.num_truncated) == (3, 2)
    assert (report.truncated_indices, report.longest) == ((1, 2), 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer(texts)  # told once per tokenizer
        PETokenizer(5, on_truncation="ignore")(texts)
    with pytest.raises(ValueError, match="Shorten the text, or allow it"):
        PETokenizer(5, on_truncation="error")(texts)
    tokenizer("a cat")
    assert tokenizer.last_report.num_truncated == 0


def test_detokenize():
    tokenizer = PETokenizer()
    texts = ["a photo of a cat .", "\u65e5\u672c\u8a9e \U0001f600", "", "! !"]
    assert tokenizer.detokenize(tokenizer(texts)) == texts
    assert tokenizer.detokenize(tokenizer("a cat")[0]) == "a cat"
    assert tokenizer.detokenize([320, 2368]) == "a cat"
    with pytest.raises(ValueError, match="0 to 49407"):
        tokenizer.detokenize([49408])
    with pytest.raises(ValueError, match="shape"):
        tokenizer.detokenize(np.zeros((1, 1, 1), int))
    with pytest.raises(ValueError, match="float64"):
        tokenizer.detokenize([0.5])
    with pytest.raises(ValueError, match=r"different lengths.*one by one"):
        tokenizer.detokenize([[320], [320, 2368]])


class Table:
    """Iterates over the names of its columns, as a pandas DataFrame does."""

    shape = (2, 1)
    columns = ("caption",)

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    ("texts", "advice"),
    [
        (None, "texts is a NoneType"),
        (3, "texts is a int"),
        (float("nan"), "Replace a missing caption"),
        (b"a cat", "Decode"),
        (bytearray(b"a cat"), "Decode"),
        ([b"a"], r"texts\[0\] .*Decode"),
        (np.array([b"a cat"]), r"texts\[0\] .*Decode"),
        (np.array(b"a cat"), "Decode"),
        ({"a": 1}, "one column or value"),
        (Table(), r"shape \(2, 1\).*one column"),
        ({"a", "b"}, "no order"),
        (["a", None], r"texts\[1\] .*Replace a missing caption"),
        (np.array(["a", None], object), r"texts\[1\] .*Replace a missing"),
        (np.array(["a", np.nan], object), r"texts\[1\] .*Replace a missing"),
        ([["a", "b"]], r"texts\[0\] .*Flatten"),
        (np.array([["a", "b"]]), r"shape \(1, 2\).*ravel"),
        (np.array(3), "texts is a int .*Token ids"),
        (np.array([3, 4]), r"shape \(2,\).*Token ids"),
        (np.array([[3, 4]]), r"shape \(1, 2\).*Token ids"),
        ([3, 4], r"texts\[0\] .*Token ids"),
        (keras.ops.convert_to_tensor([[3, 4]]), r"shape \(1, 2\).*Token ids"),
        (keras.ops.convert_to_tensor(3), "expected a string"),
        (keras.KerasTensor((None,), "int32"), "expected a string"),
    ],
)
def test_what_is_not_text_is_an_error_that_says_what_to_do(texts, advice):
    with pytest.raises(TypeError, match="expected a string") as found:
        PETokenizer()(texts)
    found.match(f"(?s){advice}")


def test_error_names_the_text():
    with pytest.raises(TypeError, match=r"texts\[1\] is a float \(nan\)"):
        PETokenizer()(["a", float("nan")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context_length": 1}, "at least 2"),
        ({"context_length": 32.0}, "integer"),
        ({"vocabulary_size": 513}, "514"),
        ({"vocabulary_size": 49409}, "49408"),
        ({"on_truncation": "cut"}, "'warn', 'ignore', 'error'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PETokenizer(**arguments)


def test_sequences_and_empty_batch():
    tokenizer = PETokenizer()
    expected = tokenizer(["a", "b"])
    np.testing.assert_array_equal(tokenizer(("a", "b")), expected)
    np.testing.assert_array_equal(tokenizer(x for x in "ab"), expected)
    strings = getattr(np.dtypes, "StringDType", str)()  # of NumPy 2
    for dtype in (None, object, strings or str):
        array = np.array(["a", "b"], dtype)
        np.testing.assert_array_equal(tokenizer(array), expected)
        one = np.array("a", dtype)  # no axis: one text
        np.testing.assert_array_equal(tokenizer(one), expected[:1])
    for empty in ([], (), np.array([]), np.array([], str)):
        assert tokenizer(empty).shape == (0, 32)


def test_config_and_pickle():
    tokenizer = PETokenizer(20, 6000, on_truncation="ignore")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(tokenizer)))
    for copy in (
        keras.saving.deserialize_keras_object(config),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert copy.get_config() == tokenizer.get_config()
        np.testing.assert_array_equal(copy("a cat"), tokenizer("a cat"))


@pytest.mark.once
def test_import_loads_neither_engine_nor_repair():
    code = (
        "import sys, keras_pe.preprocessing;"
        "print({'tokenizers', 'ftfy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "numpy"},  # loads in half the time
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()", done.stdout


def test_vocabulary_is_the_documented_one():
    text = resources.files("keras_pe.preprocessing").joinpath("VOCABULARY.md")
    assert hashlib.sha256(MERGES).hexdigest() in text.read_text()
