"""PyTorch files that are damaged, odd or changed meanwhile leave the model alone."""

import io
import os
import struct
import zipfile

import keras
import numpy as np
import pytest

from keras_pe.presets import CheckpointError, assign, load_weights
from keras_pe.presets.formats.upstream import vision_rules
from keras_pe.presets.open_checkpoint import open_checkpoint
from tests.small_models import vision_encoder

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.quick
SMALL = {
    "image_size": 8,
    "patch_size": 4,
    "hidden_dim": 8,
    "num_layers": 1,
    "num_heads": 1,
    "intermediate_dim": 8,
    "pooling": None,
    "output_dim": None,
}
NUM_FLIPS = 200


@pytest.fixture(scope="module")
def model():
    return vision_encoder(**SMALL)


@pytest.fixture
def tensors(model):
    generator = torch.Generator().manual_seed(0)
    rules = vision_rules(model.get_config())
    return {r.source: torch.randn(r.shape, generator=generator) for r in rules}


@pytest.fixture
def unchanged(model):
    """Fails a test that leaves the model otherwise than it found it."""
    before = values(model)
    yield
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


def values(model):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]


def saved(content, path, **arguments):
    torch.save(content, path, **arguments)
    return path


def repacked(source, path, compression=zipfile.ZIP_STORED, change=None):
    """Copies an archive as another program would."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for info in old.infolist():
            content = old.read(info.filename)
            content = content if change is None else change(info.filename, content)
            if content is not None:
                new.writestr(info.filename, content)
    return path


def test_what_is_read_is_what_was_saved(tensors, tmp_path):
    odd = {
        "transposed": torch.arange(12.0).reshape(3, 4).t(),
        "cut out": torch.arange(30.0).reshape(5, 6)[1:4, 2:5],
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "bfloat16": torch.arange(5).to(torch.bfloat16),
        "scalar": torch.tensor(2.5),
        "expanded": torch.tensor([7.0]).expand(4, 3),
    }
    path = saved({**tensors, **odd}, tmp_path / "odd.pt")
    with open_checkpoint(path) as reader:
        assert set(reader.tensors) == {*tensors, *odd}
        for name, value in {**tensors, **odd}.items():
            expected = value.detach().float().numpy()
            found = reader.read(name)
            assert np.array_equal(found.astype("float32"), expected), name
            if expected.ndim:
                rows = reader.read(name, slice(1, 2)).astype("float32")
                assert np.array_equal(rows, expected[1:2]), name


def test_a_stored_archive_of_another_program_loads(model, tensors, tmp_path):
    path = saved(tensors, tmp_path / "a.pt")
    again = repacked(path, tmp_path / "b.pt")
    load_weights(model, path)
    expected = values(model)
    load_weights(model, again)
    for old, new in zip(expected, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_compressed_members_are_refused(model, tensors, unchanged, tmp_path):
    path = saved(tensors, tmp_path / "a.pt")
    again = repacked(path, tmp_path / "b.pt", zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"packed again: .* is compressed"):
        load_weights(model, again)


@pytest.mark.once
def test_bit_flips_are_seen(model, tensors, tmp_path):
    """Each flip is refused, or what it hits is no content: the weights are the same."""
    path = saved(tensors, tmp_path / "a.pt")
    load_weights(model, path)
    expected = values(model)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(NUM_FLIPS):
        flipped = bytearray(content)
        flipped[random.integers(len(content))] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        try:
            load_weights(model, path)
        except CheckpointError:
            refused += 1
        for old, new in zip(expected, values(model), strict=True):
            np.testing.assert_array_equal(old, new)
    assert refused > NUM_FLIPS // 2


def sparse(value):
    return value.to_sparse()


def without_data(value):
    return torch.empty_like(value, device="meta")


def negated(value):
    return torch._neg_view(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sparse, "is sparse"),
        (without_data, "without its data"),
        (negated, "negated"),
        (torch.Tensor.int, "no floating point"),
        (torch.Tensor.cfloat, "no floating point"),
        (lambda value: value * float("nan"), "NaN or infinity"),
        (lambda value: value / 0, "NaN or infinity"),
        (lambda value: value.double() * 1e300, "float32, .* can't hold"),
        (lambda value: value.tolist(), "holds a list under"),
    ],
)
def test_tensors_that_can_not_be_weights(
    model, tensors, unchanged, tmp_path, change, message
):
    """The last tensor is bad: the others must not have been assigned by then."""
    name = list(tensors)[-1]
    path = saved({**tensors, name: change(tensors[name])}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message) as error:
        load_weights(model, path)
    assert name in str(error.value)


@pytest.mark.parametrize("key", [5, b"x", ("a", "b"), None])
def test_keys_that_are_no_names(model, tensors, unchanged, tmp_path, key):
    path = saved({**tensors, key: torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="name of a tensor is expected"):
        load_weights(model, path)


def test_legacy_files_are_called_so(model, tensors, unchanged, tmp_path):
    path = saved(tensors, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"legacy format.*weights_only=True"):
        load_weights(model, path)
    # What it says to do works.
    saved(torch.load(path, weights_only=True), path)
    with open_checkpoint(path) as reader:
        assert set(reader.tensors) == set(tensors)


def test_programs_are_called_so(model, tensors, unchanged, tmp_path):
    path = saved(tensors, tmp_path / "a.pt")
    with zipfile.ZipFile(path, "a") as archive:  # what TorchScript writes beside it
        archive.writestr("a/constants.pkl", b"\x80\x02).")
    with pytest.raises(CheckpointError, match="TorchScript"):
        load_weights(model, tmp_path / "a.pt")


def big_endian(name, content):
    return b"big" if name.endswith("byteorder") else content


def without_a_member(name, content):
    return None if name.endswith("/data/0") else content


def shorter_member(name, content):
    return content[:-4] if name.endswith("/data/0") else content


@pytest.mark.parametrize("change", [big_endian, without_a_member, shorter_member])
def test_archives_whose_parts_disagree(model, tensors, unchanged, tmp_path, change):
    path = saved(tensors, tmp_path / "a.pt")
    again = repacked(path, tmp_path / "b.pt", change=change)
    with pytest.raises(CheckpointError, match="no sound PyTorch"):
        load_weights(model, again)


def test_two_members_of_one_name(model, tensors, unchanged, tmp_path):
    path = saved(tensors, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("a/data/0", b"0" * 400)
    with pytest.raises(CheckpointError, match="twice"):
        load_weights(model, path)


def test_absurd_counts_are_refused(model, unchanged, tmp_path):
    names = [str(number) for number in range(20_001)]
    path = saved(dict.fromkeys(names, torch.ones(())), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="20,001 tensors, expected at most"):
        load_weights(model, path)


def test_absurd_safetensors_headers_are_refused(model, unchanged, tmp_path):
    path = tmp_path / "a.safetensors"
    entry = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    for count, message in ((20_001, "20,001 tensors"), (200_000, "a header of")):
        header = "{" + ",".join(entry.format(n) for n in range(count)) + "}"
        path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
        with pytest.raises(CheckpointError, match=message):
            load_weights(model, path)


# === Files that change while they are read ===
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("how", ["cut", "overwritten"])
def test_a_file_that_changes_while_it_is_read(
    model, tensors, unchanged, tmp_path, monkeypatch, suffix, how
):
    """It is sound when it is opened, and changes after half of it was assigned."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".pt":
        saved(tensors, path)
    else:
        from safetensors.torch import save_file

        save_file(tensors, path)
    calls = []
    assign_one = assign._assign

    def change_then_assign(*arguments):
        calls.append(1)
        if len(calls) == len(tensors) // 2:
            if how == "cut":
                os.truncate(path, path.stat().st_size // 4)
            else:
                with path.open("r+b") as file:
                    file.seek(path.stat().st_size // 2)
                    file.write(b"\x01\x02\x03\x04" * 20)
        return assign_one(*arguments)

    monkeypatch.setattr(assign, "_assign", change_then_assign)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        load_weights(model, path)
    assert len(calls) >= len(tensors) // 2


def test_ctrl_c_leaves_the_model_as_it_was(
    model, tensors, unchanged, tmp_path, monkeypatch
):
    path = saved(tensors, tmp_path / "a.pt")
    assign_one, calls = assign._assign, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return assign_one(*arguments)

    monkeypatch.setattr(assign, "_assign", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_weights(model, path)


def test_large_weights_go_in_by_rows(model, tensors, tmp_path, monkeypatch):
    """Blocks of a few rows give the same weights as whole tensors, and are undone."""
    path = saved(tensors, tmp_path / "a.pt")
    load_weights(model, path)
    expected = values(model)
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 9.0, "float32"))
    monkeypatch.setattr("keras_pe.presets.assign.BLOCK", 32)
    load_weights(model, path)
    for old, new in zip(expected, values(model), strict=True):
        np.testing.assert_array_equal(old, new)
    monkeypatch.setattr(
        "keras_pe.presets.tensor_reader.OpenFile.check_unchanged", _fail()
    )
    with pytest.raises(CheckpointError, match="changed"):
        load_weights(model, saved({k: v + 1 for k, v in tensors.items()}, path))
    for old, new in zip(expected, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


def _fail():
    """Returns a check that passes once, before the first assignment."""
    calls = []

    def check(self):
        calls.append(1)
        if len(calls) > 1:
            raise self._changed()

    return check


# === Wrappers ===
def compiled(tensors):
    return {f"_orig_mod.{name}": value for name, value in tensors.items()}


def parallel(tensors):
    return {f"module.{name}": value for name, value in tensors.items()}


WRAPPED = {
    "compiled": (compiled, ("_orig_mod.",)),
    "parallel": (parallel, ("module.",)),
    "both": (lambda t: parallel(compiled(t)), ("_orig_mod.", "module.")),
    "lightning": (
        lambda t: {"state_dict": {f"model.{k}": v for k, v in t.items()}, "epoch": 1},
        ("state_dict", "model."),
    ),
    "backbone": (
        lambda t: {"model": {f"backbone.{k}": v for k, v in parallel(t).items()}},
        ("model", "backbone.", "module."),
    ),
    "average": (
        lambda t: {"ema": t, "optimizer": {"state": {}, "param_groups": []}},
        ("ema",),
    ),
    "sharded": (
        lambda t: {
            k.replace("resblocks.0.", "resblocks.0._fsdp_wrapped_module."): v
            for k, v in t.items()
        },
        ("_fsdp_wrapped_module.",),
    ),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_come_off_and_are_said(model, tensors, tmp_path, kind):
    wrap, expected = WRAPPED[kind]
    load_weights(model, saved(tensors, tmp_path / "plain.pt"))
    plain = values(model)
    report = load_weights(model, saved(wrap(tensors), tmp_path / "wrapped.pt"))
    assert report.wrappers == expected
    assert all(wrapper in str(report) for wrapper in expected)
    for old, new in zip(plain, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_two_models_in_one_file(model, tensors, unchanged, tmp_path):
    both = {**tensors, **compiled(tensors)}
    with pytest.raises(CheckpointError, match="holds two models"):
        load_weights(model, saved(both, tmp_path / "a.pt"))


def test_a_tower_that_was_cut_out_of_a_dual_encoder(model, tensors, tmp_path):
    more = {"logit_scale": torch.tensor(4.6), "logit_bias": torch.tensor(-10.0)}
    report = load_weights(model, saved({**tensors, **more}, tmp_path / "a.pt"))
    assert set(report.left_out) == set(more)
    assert len(report.loaded) + len(report.left_out) == report.num_tensors


def test_saved_from_memory_is_the_same_format(tensors):
    """Guards the first bytes by which the legacy format is told."""
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(tensors, new)
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    assert new.getvalue()[:4] == b"PK\x03\x04"
    assert old.getvalue()[:2] == b"\x80\x02"
