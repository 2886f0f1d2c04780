"""A small model and its tokenizer, made once for each file of tests."""

import pytest

from keras_pe import PETokenizer
from tests.small_models import core, perturb


@pytest.fixture(scope="module")
def model():
    return perturb(core())


@pytest.fixture(scope="module")
def tokenizer():
    return PETokenizer(context_length=8, vocabulary_size=600, on_truncation="ignore")
