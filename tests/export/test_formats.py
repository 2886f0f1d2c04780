"""OpenVINO, LiteRT, SavedModel and `.pt2`: each by the backend that writes it."""

import runpy

import keras
import numpy as np
import pytest

from keras_pe import PETokenizer
from keras_pe.export import comparison, export
from keras_pe.export.comparison import alike
from keras_pe.export.packages import require
from tests.small_models import core, images, perturb

BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def no_long_timing(monkeypatch):
    monkeypatch.setattr(comparison, "LEAST_SECONDS", 0.0)


def exported(tmp_path, file_format, tower="both", quantize="none"):
    model = perturb(core(num_layers=1))
    tokenizer = PETokenizer(8, 600, on_truncation="ignore")
    receipt = export(
        model,
        tmp_path,
        format=file_format,
        tower=tower,
        quantize=quantize,
        tokenizer=tokenizer,
    )
    program = runpy.run_path(str(tmp_path / "run.py"))
    found = program["run"]("image", images(3))
    wanted = np.asarray(keras.ops.convert_to_numpy(model.vision_encoder(images(3))))
    return receipt, alike(found, wanted)[1]


@pytest.mark.once
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_openvino(quantize, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is not in the test extra: 180 MB")
    pytest.importorskip("onnx")
    receipt, error = exported(tmp_path / "out", "openvino", quantize=quantize)
    assert error < (1e-5 if quantize == "none" else 0.05)
    assert not list((tmp_path / "out").glob("*.onnx"))
    assert receipt.files["image"].file == "image.xml"


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch writes .pt2")
def test_pt2_takes_any_batch(tmp_path):
    receipt, error = exported(tmp_path / "out", "torch")
    assert error < 1e-5
    assert {one.batch for one in receipt.files["text"].compared} == {1, 2, 7}


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow writes SavedModel")
def test_savedmodel(tmp_path):
    _, error = exported(tmp_path / "out", "savedmodel", "image")
    assert error < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow writes LiteRT")
def test_litert(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not in the test extra")
    _, error = exported(tmp_path / "out", "litert")
    assert error < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="one backend that can't write it itself")
def test_another_backend_writes_it_in_a_process_of_its_own(tmp_path):
    pytest.importorskip("torch")
    _, error = exported(tmp_path / "out", "torch", "image")
    assert error < 1e-5


@pytest.mark.once
def test_a_missing_package_is_named():
    with pytest.raises(ImportError, match=r'nothing_of_the_kind.*"keras-pe\[export\]"'):
        require("nothing_of_the_kind.inside")
