"""A preset that one backend wrote is read by another, with equal weights."""

import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="needs keras-pe[kerashub]")
import keras_hub

import keras_pe.kerashub
from tests.arrays import to_numpy
from tests.kerashub.hub_models import largest_difference
from tests.small_models import images

WRITE = """
import sys
import numpy as np
from keras_pe.kerashub import PEBackbone, PEImageClassifier
from keras_pe.kerashub import PEImageClassifierPreprocessor, PEImageConverter
from keras_pe.kerashub import PETokenizer
from tests.arrays import to_numpy
from tests.small_models import images, perturb, vision_encoder

folder = sys.argv[1]
backbone = PEBackbone.from_encoder(perturb(vision_encoder()))
backbone.enable_lora(2)
perturb(backbone, seed=2)
preprocessor = PEImageClassifierPreprocessor(PEImageConverter(32))
model = PEImageClassifier(backbone, num_classes=3, preprocessor=preprocessor)
perturb(model, seed=3)
model.save_to_preset(folder)
PETokenizer(8, 900).save_to_preset(folder)
arrays = {str(n): to_numpy(w) for n, w in enumerate(model.weights)}
np.savez(folder + "/numbers.npz", output=to_numpy(model(images())), **arrays)
"""
BACKENDS = ("jax", "torch", "tensorflow")


@pytest.mark.parametrize("writer", BACKENDS)
def test_each_backend_reads_what_another_wrote(writer, tmp_path):
    if writer == keras.backend.backend() or find_spec(writer) is None:
        pytest.skip(f"{writer} is the backend of this run, or not installed")
    environment = {**os.environ, "KERAS_BACKEND": writer}
    folder = str(tmp_path)
    command = [sys.executable, "-c", WRITE, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = np.load(tmp_path / "numbers.npz")
    model = keras_hub.models.ImageClassifier.from_preset(folder)
    assert type(model) is keras_pe.kerashub.PEImageClassifier
    assert len(model.weights) == len(expected) - 1
    for number, weight in enumerate(model.weights):
        np.testing.assert_array_equal(to_numpy(weight), expected[str(number)])
    assert largest_difference(model(images()), expected["output"]) < 1e-5
    assert model.preprocessor.image_size == (32, 32)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(folder)
    assert tokenizer.vocabulary_size() == 900
