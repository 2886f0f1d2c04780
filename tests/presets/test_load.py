"""What the loader refuses, and that a refusal leaves the model as it was."""

import itertools

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keras_pe.presets import CheckpointError, load_weights
from keras_pe.presets.formats.upstream import core_rules, vision_rules
from tests.reference_models import (
    checkpoint,
    open_clip_model,
    timm_model,
    upstream_model,
)
from tests.small_models import core, text_encoder, vision_encoder

pytestmark = pytest.mark.quick


def state(model):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]


def random_file(path, rules, changes=()):
    """Writes random tensors under upstream's names; `changes` edits the dict."""
    rng = np.random.default_rng(0)
    tensors = {
        rule.source: rng.normal(size=rule.shape).astype("float32") for rule in rules
    }
    tensors.update(changes)
    save_file({k: v for k, v in tensors.items() if v is not None}, path)
    return path


def small_core():
    """A dual encoder without square weights in its blocks' outputs, where possible."""
    return core()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    model = small_core()
    rules = list(
        core_rules(model.vision_encoder.get_config(), model.text_encoder.get_config())
    )
    path = tmp_path_factory.mktemp("checkpoint") / "core.safetensors"
    return random_file(path, rules)


def damaged(tensors, name, how):
    """Returns a copy of a state dict with one tensor damaged."""
    tensors = dict(tensors)
    if how == "removed":
        del tensors[name]
    elif how == "added":
        tensors[f"{name}_too"] = tensors[name]
    elif how == "renamed":
        tensors[name.replace(".", "-", 1) + "x"] = tensors.pop(name)
    else:
        tensors[name] = np.ascontiguousarray(tensors[name].T)
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        "transposed",
        *(
            pytest.param(how, marks=pytest.mark.once)
            for how in ("removed", "added", "renamed")
        ),
    ],
)
def test_every_tensor_damaged_in_turn(file, how, tmp_path):
    """All 100-odd tensors, one after the other; each error names the tensor."""
    model = small_core()
    load_weights(model, file)
    before = state(model)
    tensors = load_file(file)
    tried = 0
    for name, value in tensors.items():
        if how == "transposed" and value.shape == value.shape[::-1]:
            continue  # a square matrix or a vector: no shape tells
        path = tmp_path / "damaged.safetensors"
        save_file(damaged(tensors, name, how), path)
        with pytest.raises(CheckpointError) as caught:
            load_weights(model, path)
        message = str(caught.value)
        assert name in message or name.split(".")[-1] in message
        tried += 1
    assert tried == sum(
        how != "transposed" or v.shape != v.shape[::-1] for v in tensors.values()
    )
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
@pytest.mark.once
def test_a_file_cut_at_every_byte(tmp_path):
    changes = {
        "image_size": 4,
        "patch_size": 4,
        "hidden_dim": 4,
        "num_layers": 1,
        "num_heads": 1,
        "intermediate_dim": 4,
        "pooling": None,
        "output_dim": None,
    }
    encoder = vision_encoder(**changes)
    rules = vision_rules(encoder.get_config())
    path = random_file(tmp_path / "tiny.safetensors", rules)
    before = state(encoder)
    data = path.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load_weights(encoder, cut)
    for old, new in zip(before, state(encoder), strict=True):
        np.testing.assert_array_equal(old, new)
    load_weights(encoder, path)


@pytest.mark.slow
@pytest.mark.once
def test_a_pickled_file_cut_short(tmp_path):
    model = upstream_model("core_cls")
    data = checkpoint("upstream/core_cls").with_suffix(".pt").read_bytes()
    cut = tmp_path / "cut.pt"
    for length in (0, 1, 100, len(data) // 2, len(data) - 100, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="no sound PyTorch weights file"):
            load_weights(model, cut)


@pytest.mark.slow
def test_pickled_code_never_runs(tmp_path):
    torch = pytest.importorskip("torch")
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="never run"):
        load_weights(core(), tmp_path / "evil.pt")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("names", "description"),
    [
        (["vision_model.encoder.layers.0.mlp.fc1.weight"], "CLIP or SigLIP"),
        (["embeddings.patch_embeddings.projection.weight"], "ViT or DINOv2"),
        (["image_encoder.blocks.0.norm1.weight"], "Segment Anything"),
        (["visual.transformer.resblocks.0.ln_1.weight", "visual.proj"], "OpenAI CLIP"),
        (
            ["patch_embed.proj.weight", "blocks.0.norm1.weight"],
            "timm vision transformer",
        ),
        (["lstm.weight"], "no Perception Encoder"),
    ],
)
def test_other_families_are_named(names, description, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({name: np.zeros(2, "float32") for name in names}, path)
    with pytest.raises(CheckpointError, match=description):
        load_weights(core(), path)


@pytest.mark.slow
def test_wrong_pe_models_are_named():
    with pytest.raises(CheckpointError, match=r"vision tower without a text tower"):
        load_weights(
            upstream_model("core_cls"), checkpoint("timm/vit_pe_lang_large_patch14_448")
        )
    with pytest.raises(
        CheckpointError, match=r"3 blocks, hidden_dim 96.*3 blocks, hid"
    ):
        load_weights(upstream_model("spatial_cls"), checkpoint("upstream/lang"))


@pytest.mark.slow
def test_vision_tower_of_a_dual_file():
    for folder, model in (
        ("upstream/core_cls", upstream_model("core_cls")),
        ("open_clip", open_clip_model()),
    ):
        load_weights(model, checkpoint(folder))
        encoder = type(model.vision_encoder).from_config(
            model.vision_encoder.get_config()
        )
        report = load_weights(encoder, checkpoint(folder))
        assert len(report.loaded) + len(report.left_out) == report.num_tensors
        assert "logit_scale" in report.left_out
        for ours, theirs in zip(
            encoder.weights, model.vision_encoder.weights, strict=True
        ):
            np.testing.assert_array_equal(
                keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
            )


def test_text_tower_of_a_dual_file():
    model = upstream_model("core_cls")
    load_weights(model, checkpoint("upstream/core_cls"))
    text = type(model.text_encoder).from_config(model.text_encoder.get_config())
    report = load_weights(text, checkpoint("upstream/core_cls"))
    assert len(report.loaded) + len(report.left_out) == report.num_tensors
    for ours, theirs in zip(text.weights, model.text_encoder.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )
    with pytest.raises(CheckpointError, match="no text tower"):
        load_weights(text_encoder(), checkpoint("upstream/lang"))


@pytest.mark.slow
def test_positions_are_resampled_when_asked_and_never_else():
    path = checkpoint("upstream/core_cls")
    native = upstream_model("core_cls")
    load_weights(native, path)
    config = {**native.vision_encoder.get_config(), "image_size": 56}
    larger = type(native.vision_encoder).from_config(config)
    with pytest.raises(CheckpointError, match="resample_positions=True"):
        load_weights(larger, path)
    report = load_weights(larger, path, resample_positions=True)
    assert report.resampled == ("visual.positional_embedding",)
    assert "resampled" in str(report)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 56, 56, 3)).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(larger.encode(x)),
        keras.ops.convert_to_numpy(native.vision_encoder.encode(x)),
        atol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_timm_bias_must_be_zero_to_be_left_out(bias, tmp_path):
    name = "vit_pe_core_tiny_patch16_384"
    tensors = load_file(checkpoint(f"timm/{name}"))
    tensors["head.bias"] = np.full_like(tensors["head.bias"], bias)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    config = {**timm_model(name).get_config(), "output_bias": False}
    encoder = vision_encoder().from_config(config)
    if bias:
        with pytest.raises(CheckpointError, match="output_bias=True"):
            load_weights(encoder, path)
    else:
        assert load_weights(encoder, path).zeros == ("head.bias",)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_load(file, dtype, tmp_path):
    import ml_dtypes

    numpy_dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    path = tmp_path / "low.safetensors"
    save_file({k: v.astype(numpy_dtype) for k, v in load_file(file).items()}, path)
    low, full = small_core(), small_core()
    load_weights(low, path)
    load_weights(full, file)
    for ours, theirs in zip(low.weights, full.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(ours),
            keras.ops.convert_to_numpy(theirs),
            rtol=1e-2,
        )


def test_whole_numbers_are_refused(file, tmp_path):
    tensors = load_file(file)
    tensors["logit_scale"] = np.array(3, "int32")
    path = tmp_path / "int.safetensors"
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"logit_scale \(I32\)"):
        load_weights(small_core(), path)


@pytest.mark.slow
def test_not_after_lora(file):
    model = small_core()
    model.enable_lora(2)
    with pytest.raises(CheckpointError, match="before enable_lora"):
        load_weights(model, file)


def test_missing_file_and_other_kinds(tmp_path):
    with pytest.raises(CheckpointError, match="No checkpoint at"):
        load_weights(core(), tmp_path / "none.safetensors")
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"neither a .safetensors nor a .pt"):
        load_weights(core(), tmp_path / "model.h5")


def test_malformed_headers(tmp_path):
    path = tmp_path / "bad.safetensors"
    headers = [
        b"",
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
        b' "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        b"\xff\xfe",
    ]
    sizes = [None, 2**62, 2**31, 0]
    for header, size in itertools.product(headers, sizes):
        length = len(header) if size is None else size
        path.write_bytes(length.to_bytes(8, "little") + header + b"\0" * 4)
        with pytest.raises(CheckpointError):
            load_weights(core_once(), path)


_core = []


def core_once():
    if not _core:
        _core.append(core())
    return _core[0]
