"""Vectors of a preset's own classes are saved with it."""

import numpy as np
import pytest

from keras_pe import PETokenizer
from keras_pe.models.compiled import called_once
from keras_pe.models.embedding import class_vectors
from keras_pe.presets.checksums import read_metadata
from keras_pe.presets.class_vectors import CLASS_VECTORS, read_class_vectors
from tests.small_models import core, perturb

pytestmark = pytest.mark.quick
KNOWN = {"class_names": ["cat", "dog", "owl"], "templates": ["{}", "a {}"]}


def test_a_preset_that_names_classes_keeps_their_vectors(tmp_path):
    model = perturb(core())
    tokenizer = PETokenizer(context_length=8, vocabulary_size=600)
    model.save_to_preset(
        tmp_path / "a", tokenizer=tokenizer, metadata={"zero_shot": KNOWN}
    )
    model.save_to_preset(tmp_path / "b", tokenizer=tokenizer)
    assert not (tmp_path / "b" / CLASS_VECTORS).exists()
    metadata = read_metadata(tmp_path / "a")
    found = read_class_vectors(tmp_path / "a", metadata, *KNOWN.values())
    with called_once():
        expected, _ = class_vectors(model, tokenizer, *KNOWN.values())
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    assert tokenizer.on_truncation != "ignore"
