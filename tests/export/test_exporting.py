"""Exports of a small model: what is left, what is said, and what is refused."""

import functools
import json
import runpy

import keras
import numpy as np
import pytest
from PIL import Image

from keras_pe import PEImageConverter, PETokenizer
from keras_pe.export import (
    ExportError,
    comparison,
    export,
    onnx_files,
    onnx_towers,
    quantization,
)
from keras_pe.export.comparison import alike
from keras_pe.export.onnx_graph import Graph
from keras_pe.export.runtimes import open_file
from tests.small_models import core, perturb, vision_encoder

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def no_long_timing(monkeypatch):
    monkeypatch.setattr(comparison, "LEAST_SECONDS", 0.0)


def test_nothing_but_an_earlier_export_is_replaced(tmp_path):
    model = perturb(vision_encoder(num_layers=1))
    mine = tmp_path / "notes.txt"
    mine.write_text("mine")
    for output in (tmp_path, tmp_path / ".."):
        with pytest.raises(ValueError, match="which is no export, and would be del"):
            export(model, output)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    export(model, tmp_path / "empty")
    export(model, tmp_path / "empty")  # the earlier one
    left = {path.name for path in (tmp_path / "empty").iterdir()}
    assert left == {"image.onnx", "export.json", "receipt.json", "run.py"}
    (tmp_path / "empty" / "image.png").write_text("mine")
    with pytest.raises(ValueError, match=r"holds image\.png, which"):
        export(model, tmp_path / "empty")
    assert (tmp_path / "empty" / "image.png").read_text() == "mine"
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_weights_beyond_what_protobuf_holds_lie_beside_the_graph(
    tmp_path, monkeypatch, quantize
):
    tower = perturb(vision_encoder(num_layers=2))
    export(tower, tmp_path / "one", quantize=quantize)
    monkeypatch.setattr(onnx_files, "LARGEST_IN_ONE", 10_000)
    # Of int8 a first attempt that is refused is written before the one that stays.
    plans = quantization.attempts
    monkeypatch.setattr(
        quantization, "attempts", lambda found: [plans(found)[0], *plans(found)]
    )
    within = comparison.Compared.within
    refused = iter([False])
    monkeypatch.setattr(
        comparison.Compared,
        "within",
        lambda self, kind: next(refused, within(self, kind)) or quantize == "none",
    )
    receipt = export(tower, tmp_path / "two", quantize=quantize)
    whole = (tmp_path / "one" / "image.onnx").stat().st_size
    graph, data = (tmp_path / "two" / f"image.onnx{end}" for end in ("", ".data"))
    assert graph.stat().st_size < whole / 2
    assert data.stat().st_size < 1.3 * whole  # a second time, it would be twice as much
    assert (
        receipt.files["image"].num_bytes == graph.stat().st_size + data.stat().st_size
    )
    (tmp_path / "two").rename(tmp_path / "elsewhere")
    batch = np.zeros((2, 32, 32, 3), "float32")
    (found,) = open_file(tmp_path / "elsewhere" / "image.onnx", "onnx")(batch)
    (wanted,) = open_file(tmp_path / "one" / "image.onnx", "onnx")(batch)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.fixture(scope="module")
def model():
    return perturb(core(num_layers=1))


def tokenizer():
    return PETokenizer(context_length=8, vocabulary_size=600, on_truncation="ignore")


def test_both_towers_with_a_program_that_needs_no_keras_pe(model, tmp_path):
    converter = PEImageConverter(
        32, resize_mode="center_crop", background=(255, 255, 255)
    )
    given = PETokenizer(context_length=8, vocabulary_size=600)
    with pytest.warns(UserWarning, match="do not fit"):  # of the texts to compare on
        receipt = export(
            model,
            tmp_path / "out",
            tower="both",
            image_converter=converter,
            tokenizer=given,
        )
    assert given.on_truncation == "warn"  # as the user had it
    assert receipt.cosine > 0.999999
    assert {one.batch for one in receipt.files["image"].compared} == {1, 2, 7}
    assert receipt.scores["zero_shot"]["change"] == 0
    assert receipt.scores["same_answers"] == 1
    said = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert said == json.loads(json.dumps(receipt.to_json()))
    assert said["files"]["text"]["num_bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "out").glob("text*")
    )
    assert "keras" in said["versions"]

    transparent = Image.new("RGBA", (50, 31), (250, 10, 30, 90))
    transparent.save(tmp_path / "wide.png")
    noise = np.random.default_rng(0).integers(0, 255, (70, 41, 3), "uint8")
    Image.fromarray(noise).save(tmp_path / "high.png")
    files = [tmp_path / "wide.png", tmp_path / "high.png"]
    texts = ["A  cat", "R&amp;B", "words and words and words and words"]
    program = runpy.run_path(str(tmp_path / "out" / "run.py"))
    pixels = np.stack([program["pixels"](path) for path in files])
    np.testing.assert_array_equal(pixels, converter(files))
    ids = np.array([program["ids"](text) for text in texts])
    np.testing.assert_array_equal(ids, tokenizer()(texts))
    for found, wanted in (
        (program["embed_images"](files), model.encode_image(converter(files))),
        (program["embed_texts"](texts), model.encode_text(tokenizer()(texts))),
    ):
        np.testing.assert_allclose(found, np.asarray(wanted), atol=1e-6)
    assert program["SAID"]["logit_scale"] == pytest.approx(
        float(np.asarray(keras.ops.convert_to_numpy(model.clamped_logit_scale())))
    )


def swapped_channels(patches):
    def weights(dense):
        kernel, bias = onnx_towers_weights(dense)
        if dense is patches:
            by_channel = kernel.reshape(-1, 3, kernel.shape[-1])
            kernel = by_channel[:, ::-1].reshape(kernel.shape)
        return kernel, bias

    return weights


onnx_towers_weights = onnx_towers.weights


# Backends differ in the numbers that files are compared with, which the first test
# looks at on each. Files are written from weights: one backend is enough for the rest.
@pytest.mark.once
@pytest.mark.parametrize(
    ("fault", "layer"),
    [
        ("rope", "block_1/attention"),
        ("gelu", "block_1/feed_forward"),
        ("channels", "patch_embedding"),
    ],
)
def test_planted_faults_are_refused_and_located(fault, layer, tmp_path, monkeypatch):
    encoder = perturb(vision_encoder(num_layers=1))
    if fault == "rope":
        table = functools.partial(onnx_towers.rotary_table, theta=100.0)
        monkeypatch.setattr(onnx_towers, "rotary_table", table)
    elif fault == "gelu":
        monkeypatch.setattr(onnx_towers, "GELU", "tanh")
    else:
        patches = encoder.patch_embedding.projection
        monkeypatch.setattr(onnx_towers, "weights", swapped_channels(patches))
    with pytest.raises(ExportError, match=rf"first layer that differs is {layer}\."):
        export(encoder, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.once
def test_int8_is_within_bounds_and_says_what_it_kept(tmp_path):
    encoder = perturb(vision_encoder(num_layers=2))
    receipt = export(encoder, tmp_path / "out", quantize="int8")
    file = receipt.files["image"]
    assert 0.999 <= receipt.cosine < 0.9999999
    assert file.in_int8 + len(file.kept_in_float32) == 8
    assert file.calibrated_on == 8


@pytest.mark.once
def test_int8_that_is_too_coarse_is_refused(tmp_path, monkeypatch):
    """Weights of one bit, whichever matrices are kept."""
    before = Graph._in_int8

    def coarse(self, x, kernel, name):
        return before(self, x, np.sign(kernel) * np.abs(kernel).mean(), name)

    monkeypatch.setattr(Graph, "_in_int8", coarse)
    encoder = perturb(vision_encoder(num_layers=1))
    with pytest.raises(ExportError, match="block_1"):
        export(encoder, tmp_path / "out", quantize="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.once
def test_lora_and_bfloat16_become_plain_float32(tmp_path):
    encoder = perturb(vision_encoder(num_layers=1))
    encoder.enable_lora(2)
    for dense in encoder.blocks[0].dense_layers():
        dense.lora_kernel_b.assign(np.full(dense.lora_kernel_b.shape, 0.1, "float32"))
    export(encoder, tmp_path / "lora")
    program = runpy.run_path(str(tmp_path / "lora" / "run.py"))
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    wanted = np.asarray(keras.ops.convert_to_numpy(encoder.encode(batch)))
    assert alike(program["run"]("image", batch), wanted)[1] < 1e-5

    half = vision_encoder(num_layers=1, dtype="bfloat16")
    assert export(half, tmp_path / "half").cosine > 0.999999


@pytest.mark.once
def test_another_size_and_folders_of_classes(model, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("red_car", "owl"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 255, (20, 30, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    receipt = export(
        model,
        tmp_path / "out",
        tokenizer=tokenizer(),
        images=tmp_path / "data",
        image_size=48,
    )
    assert receipt.image_size == (48, 48)
    assert (receipt.scores["images"], receipt.scores["classes"]) == (4, 2)
    assert (
        json.loads((tmp_path / "out" / "export.json").read_text())["image"]["height"]
        == 48
    )


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "gguf"}, "format='gguf': expected one of"),
        ({"tower": "video"}, "tower='video'"),
        ({"quantize": "int4"}, "quantize='int4'"),
        ({"format": "torch", "quantize": "int8"}, "expected one of"),
        ({"tower": "text"}, "has no text tower"),
        ({"image_size": 33}, "multiples of the patch size"),
        ({"threads": 0}, "threads must be"),
    ],
)
def test_arguments_that_do_not_fit(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(vision_encoder(num_layers=1), tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.once
def test_what_keras_quantised_is_refused(tmp_path):
    encoder = vision_encoder(num_layers=1)
    encoder.blocks[0].attention.qkv.quantize("int8")
    with pytest.raises(ValueError, match="quantised by Keras"):
        export(encoder, tmp_path / "out")
