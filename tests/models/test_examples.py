"""The examples of models, layers and tokenizer run as they stand, on every backend."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import keras_pe.layers
import keras_pe.models

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (keras_pe.layers, keras_pe.models)
    for module in pkgutil.iter_modules(package.__path__)
]
MODULES += [
    "keras_pe.preprocessing.tokenizer",
    "keras_pe.preprocessing.given_texts",
]
WITH_EXAMPLES = [
    name
    for name in MODULES
    if ">>> " in Path(importlib.util.find_spec(name).origin).read_text("utf-8")
]


def test_nothing_is_left_out():
    assert len(WITH_EXAMPLES) > 15
    for name in WITH_EXAMPLES:
        source = Path(importlib.util.find_spec(name).origin).read_text("utf-8")
        assert "+SKIP" not in source, name


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name))
    assert not found.failed
    assert found.attempted
