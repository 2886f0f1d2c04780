"""A vision language model that one backend stored is the same model on the others."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_pe.language import VisionLanguageModel
from tests.formats.write_language import outputs

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("version", ["language-v1"])
def test_stored_models_answer_as_they_did(version, tmp_path):
    with zipfile.ZipFile(Path(__file__).parent / f"{version}.zip") as file:
        file.extractall(tmp_path)
    with np.load(tmp_path / "outputs.npz") as file:
        expected = dict(file)
    found = outputs(VisionLanguageModel.from_preset(tmp_path / "preset"))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(value, expected[name])
    assert np.abs(np.diff(found["logits"], axis=0)).max() > 0.01  # of two images
