"""Handles against a real HTTP server that speaks the Hub's protocol."""

import dataclasses
import gzip
import threading
import time
import types

import pytest

import keras_pe
from keras_pe import PETokenizer
from keras_pe.presets import CheckpointError, variants
from keras_pe.presets.hub import KerasHubPreset, resolve
from keras_pe.presets.hub_errors import HubError
from keras_pe.presets.save import save_preset
from tests.presets import tiny
from tests.presets.hub_server import HubServer

pytestmark = [pytest.mark.quick, pytest.mark.once]
OPEN_CLIP_REPO, OPEN_CLIP_FILE = "timm/PE-Core-T-16-384", "open_clip_model.safetensors"
UPSTREAM_REPO, UPSTREAM_FILE = "facebook/PE-Core-T16-384", "PE-Core-T16-384.pt"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """An empty cache, no network beyond this machine, no waiting between retries."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    # The Hub's own storage protocol is not spoken here; what the switch sets.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    clock = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)


@pytest.fixture
def hub(monkeypatch):
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.stop()


@pytest.fixture
def released(monkeypatch):
    tiny.shrink(monkeypatch, "PE-Core-T16-384", "PE-Lang-L14-448", "PE-Spatial-T16-512")


def preset_files(tmp_path, model=None, **arguments):
    directory = tmp_path / "made"
    save_preset(
        model or tiny.core(),
        directory,
        tokenizer=tiny.tokenizer(),
        image_converter=keras_pe.PEImageConverter(32),
        **arguments,
    )
    return tiny.directory_files(directory)


def open_clip_file(seed=0):
    return tiny.safetensors(tiny.foreign("PE-Core-T16-384", "open_clip", seed))


# === Presets of the table, by name ===
@pytest.mark.slow
@pytest.mark.parametrize("name", ["pe_core_tiny_patch16_384", "PE-Core-T16-384"])
def test_core_by_name_and_alias(hub, released, name):
    hub.add(OPEN_CLIP_REPO, {OPEN_CLIP_FILE: open_clip_file()})
    model = keras_pe.PECore.from_preset(name)
    tower = keras_pe.PEVisionEncoder.from_preset(name)
    assert tiny.equal(tiny.values(tower), tiny.values(model.vision_encoder))
    content = [path for path in hub.fetched() if "/cdn/" in path]
    assert len(content) == 1  # cached for the second load


@pytest.mark.slow
def test_lang_and_spatial_by_name(hub, released):
    for cls, name, repo in (
        (keras_pe.PELang, "PE-Lang-L14-448", "timm/vit_pe_lang_large_patch14_448.fb"),
        (
            keras_pe.PESpatial,
            "PE-Spatial-T16-512",
            "timm/vit_pe_spatial_tiny_patch16_512.fb",
        ),
    ):
        content = tiny.safetensors(tiny.foreign(name, "timm"))
        hub.add(repo, {"model.safetensors": content})
        model = cls.from_preset(name)
        assert type(model) is cls
        assert type(keras_pe.PEVisionEncoder.from_preset(name)) is cls


def test_vision_tower_takes_the_smaller_file(hub, released):
    tensors = tiny.foreign("PE-Core-T16-384", "timm")
    content = {"model.safetensors": tiny.safetensors(tensors)}
    hub.add("timm/vit_pe_core_tiny_patch16_384.fb", content)
    model = keras_pe.PEVisionEncoder.from_preset("PE-Core-T16-384")
    assert model.output_dim == 16
    # A dual encoder can't be made of it.
    with pytest.raises(CheckpointError, match="at none of their sources"):
        keras_pe.PECore.from_preset("PE-Core-T16-384")


@pytest.mark.slow
def test_second_source_if_the_first_lacks_the_model(hub, released):
    torch = pytest.importorskip("torch")
    tensors = tiny.foreign("PE-Core-T16-384", "upstream")
    hub.add(UPSTREAM_REPO, {UPSTREAM_FILE: tiny.pickled(tensors)})
    model = keras_pe.PECore.from_preset("PE-Core-T16-384")
    assert torch is not None
    assert model.text_encoder.context_length == 8


@pytest.mark.slow
def test_overrides_of_foreign_checkpoints(hub, released):
    hub.add(OPEN_CLIP_REPO, {OPEN_CLIP_FILE: open_clip_file()})
    model = keras_pe.PECore.from_preset(
        "PE-Core-T16-384", dtype="bfloat16", image_size=48
    )
    assert model.vision_encoder.image_size == 48
    assert model.vision_encoder.dtype_policy.name == "bfloat16"
    assert model.text_encoder.dtype_policy.name == "bfloat16"
    with pytest.raises(CheckpointError, match="multiple of patch_size"):
        keras_pe.PECore.from_preset("PE-Core-T16-384", image_size=50)
    with pytest.raises(TypeError, match="num_layers"):
        keras_pe.PECore.from_preset("PE-Core-T16-384", num_layers=1)
    with pytest.raises(CheckpointError, match=r"model\.quantize"):
        keras_pe.PECore.from_preset("PE-Core-T16-384", dtype="int8_from_float32")


def test_wrong_family_before_any_download(hub):
    with pytest.raises(CheckpointError, match=r"PECore, not a PELang.*PECore\.from"):
        keras_pe.PELang.from_preset("PE-Core-L14-336")
    with pytest.raises(CheckpointError, match=r"PESpatial\.from_preset"):
        keras_pe.PECore.from_preset("hf://facebook/PE-Spatial-G14-448")
    assert hub.requests == []


# === hf:// ===
@pytest.mark.slow
def test_preset_of_ours_on_the_hub(hub, tmp_path):
    model = tiny.core()
    hub.add("me/cats", {**preset_files(tmp_path, model), "README.md": b"# Cats"})
    assert PETokenizer.from_preset("hf://me/cats").vocabulary_size == 600
    assert not [path for path in hub.fetched() if "/cdn/" in path]  # no weights
    found = keras_pe.PECore.from_preset("hf://me/cats")
    assert tiny.equal(tiny.values(found), tiny.values(model))
    assert keras_pe.PEImageConverter.from_preset("hf://me/cats").image_size == (32, 32)
    assert not [path for path in hub.fetched() if path.endswith("README.md")]


def test_a_download_leaves_no_thread_behind(hub, tmp_path):
    hub.add("me/cats", preset_files(tmp_path, tiny.core()))
    before = set(threading.enumerate())
    keras_pe.PECore.from_preset("hf://me/cats")
    new = [thread for thread in threading.enumerate() if thread not in before]
    assert not [thread for thread in new if "tqdm" in type(thread).__module__]


@pytest.mark.slow
def test_sharded_preset_on_the_hub(hub, tmp_path):
    model = tiny.core()
    files = preset_files(tmp_path, model, max_shard_size=100 / 1024**2)
    assert len([name for name in files if name.endswith(".h5")]) > 1
    hub.add("me/cats", files)
    found = keras_pe.PECore.from_preset("hf://me/cats")
    assert tiny.equal(tiny.values(found), tiny.values(model))


@pytest.mark.slow
def test_revisions(hub, tmp_path):
    models = [tiny.core(), tiny.scramble(tiny.core(), seed=5)]
    first = hub.add("me/cats", preset_files(tmp_path, models[0]))
    hub.add("me/cats", preset_files(tmp_path, models[1]), branch="more-cats")
    hub.add("me/cats", preset_files(tmp_path, models[1]), branch="refs/pr/1")
    for handle, model in (
        ("hf://me/cats", models[0]),
        ("hf://me/cats@more-cats", models[1]),
        ("hf://me/cats@refs/pr/1", models[1]),
        (f"hf://me/cats@{first}", models[0]),
    ):
        found = keras_pe.PECore.from_preset(handle)
        assert tiny.equal(tiny.values(found), tiny.values(model)), handle
    with pytest.raises(CheckpointError, match="no revision 'dogs'"):
        keras_pe.PECore.from_preset("hf://me/cats@dogs")


def test_foreign_repositories_nobody_knows(hub, released, monkeypatch):
    narrow = variants.VISION["PE-Core-T16-384"]
    wider = dataclasses.replace(narrow, hidden_dim=64)
    monkeypatch.setitem(variants.VISION, "PE-Core-T16-384", wider)
    files = {
        OPEN_CLIP_FILE: open_clip_file(),
        "open_clip_pytorch_model.bin": b"",
        "open_clip_config.json": b"{}",
        "config.json": b'{"model_type": "clip"}',
    }
    hub.add("you/mirror", files)
    monkeypatch.setitem(variants.VISION, "PE-Core-T16-384", narrow)
    # Sizes of no published tower leave the number of heads open: nothing is guessed.
    with pytest.raises(CheckpointError, match="number of attention heads"):
        keras_pe.PECore.from_preset("hf://you/mirror")


@pytest.mark.slow
def test_foreign_repository_of_known_width(hub, monkeypatch):
    monkeypatch.setitem(tiny.VISION, "hidden_dim", 192)
    monkeypatch.setitem(tiny.VISION, "num_heads", 3)
    tiny.shrink(monkeypatch, "PE-Spatial-T16-512")
    tensors = tiny.foreign("PE-Spatial-T16-512", "timm")
    config = tiny.timm_config("vit_pe_spatial_tiny_patch16_512")
    files = {"model.safetensors": tiny.safetensors(tensors), "config.json": config}
    hub.add("you/spatial", files)
    hub.add("you/pt", {"any-name.pt": tiny.pickled(tensors)})
    for repo in ("you/spatial", "you/pt"):
        model = keras_pe.PESpatial.from_preset(f"hf://{repo}")
        assert model.num_heads == 3
    with pytest.raises(CheckpointError, match="is a PESpatial, not a PELang"):
        keras_pe.PELang.from_preset("hf://you/spatial")
    with pytest.raises(CheckpointError, match="is a PESpatial, not a PECore"):
        keras_pe.PECore.from_preset("hf://you/spatial")


def test_repositories_without_a_perception_encoder(hub):
    hub.add("you/empty", {"README.md": b""})
    with pytest.raises(CheckpointError, match=r"has README\.md"):
        resolve("hf://you/empty")
    hub.add("you/two", {"a.safetensors": b"", "b.safetensors": b""})
    with pytest.raises(CheckpointError, match="several checkpoints"):
        resolve("hf://you/two")
    config = b'{"registered_name": "keras_hub>GemmaBackbone"}'
    hub.add("you/gemma", {"config.json": config})
    with pytest.raises(CheckpointError, match="keras_hub>GemmaBackbone"):
        resolve("hf://you/gemma")
    config = b'{"registered_name": "keras_pe.kerashub>PEBackbone"}'
    hub.add("you/backbone", {"config.json": config, "metadata.json": b"{}"})
    with pytest.raises(KerasHubPreset, match=r"hf://you/backbone .*PEBackbone\.from"):
        resolve("hf://you/backbone", "config")


# === What goes wrong on the way ===
def test_redirects_of_renamed_repositories(hub, tmp_path):
    model = tiny.core()
    hub.add("new/cats", preset_files(tmp_path, model))
    hub.moved["old/cats"] = "new/cats"
    found = keras_pe.PECore.from_preset("hf://old/cats")
    assert tiny.equal(tiny.values(found), tiny.values(model))


def test_broken_transfer_is_resumed(hub, released, monkeypatch):
    # What arrived is counted in pieces of this size; a tiny file would be one.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    content = open_clip_file()
    hub.add(OPEN_CLIP_REPO, {OPEN_CLIP_FILE: content})
    hub.cut.add(OPEN_CLIP_FILE)
    location = resolve("PE-Core-T16-384")
    assert location.checkpoint.read_bytes() == content
    ranges = [found for method, _, found in hub.requests if found]
    assert len(ranges) == 1
    assert 0 < int(ranges[0][len("bytes=") : -1]) <= len(content) // 2


def test_damaged_transfer_is_not_kept(hub, released):
    content = open_clip_file()
    hub.add(OPEN_CLIP_REPO, {OPEN_CLIP_FILE: content})
    hub.wrong[OPEN_CLIP_FILE] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(HubError, match="damaged in transfer"):
        resolve("PE-Core-T16-384")
    hub.wrong.clear()
    assert resolve("PE-Core-T16-384").checkpoint.read_bytes() == content


def test_wrong_checksum_of_a_preset(hub, tmp_path):
    files = preset_files(tmp_path)
    weights = bytearray(files["model.weights.h5"])
    weights[-1] ^= 1
    # Damaged before it was uploaded: the Hub's own checksum agrees with it.
    hub.add("me/cats", {**files, "model.weights.h5": bytes(weights)})
    with pytest.raises(
        CheckpointError, match=r"model\.weights\.h5 is damaged"
    ) as error:
        keras_pe.PECore.from_preset("hf://me/cats")
    assert "expected" in str(error.value)
    # The message says which files to delete, link and content.
    paths = [part for part in str(error.value).split('"') if part.startswith("/")]
    assert len(paths) == 2
    assert paths[1].split("/")[-2] == "blobs"
    # A small file that changes on its way is caught by our checksum too.
    hub.wrong["config.json"] = files["config.json"].replace(b"32", b"48")
    hub.add("me/dogs", files)
    with pytest.raises(CheckpointError, match=r"config\.json was damaged.*git hash"):
        keras_pe.PECore.from_preset("hf://me/dogs")
    # It does not stay in the cache.
    hub.wrong.clear()
    keras_pe.PECore.from_preset("hf://me/dogs")


def test_missing_private_and_gated(hub, released):
    with pytest.raises(CheckpointError, match="no you/nothing, or it is private"):
        resolve("hf://you/nothing")
    hub.add(OPEN_CLIP_REPO, {"README.md": b""})
    hub.add(UPSTREAM_REPO, {UPSTREAM_FILE: b""})
    hub.gated.add(UPSTREAM_REPO)
    with pytest.raises(CheckpointError, match="none of their sources") as error:
        resolve("PE-Core-T16-384")
    assert f"{OPEN_CLIP_REPO} has no file" in str(error.value)
    assert "gated: accept its conditions" in str(error.value)
    hub.add("you/secret", {"a.safetensors": b""})
    hub.private.add("you/secret")
    with pytest.raises(CheckpointError, match="private"):
        resolve("hf://you/secret")


def test_server_trouble_is_no_reason_for_another_file(hub, released):
    hub.add(OPEN_CLIP_REPO, {OPEN_CLIP_FILE: open_clip_file()})
    hub.down.add(OPEN_CLIP_FILE)
    with pytest.raises(CheckpointError, match=r"failed to give .* HTTP status 500"):
        resolve("PE-Core-T16-384")
    hub.add("you/readme", {"config.json": b"{}", "metadata.json": b"{}"})
    hub.down.add("config.json")
    with pytest.raises(CheckpointError, match="HTTP status 500") as error:
        resolve("hf://you/readme")
    assert "connection" not in str(error.value)


@pytest.mark.parametrize("etag", ["../../../out", "/tmp/out", "", "a" * 41, "A" * 40])
def test_names_of_content_are_hashes(hub, tmp_path, etag):
    """The client would write to the cache's folder joined with the name."""
    hub.add("you/evil", {"config.json": b"{}", "metadata.json": b"{}"})
    hub.etags["config.json"] = etag
    with pytest.raises(CheckpointError, match="expected a SHA-256 or a git hash"):
        resolve("hf://you/evil")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if path.read_bytes() == b"{}"]


def test_packed_content_does_not_fill_the_disk(hub, tmp_path):
    """64 MB of zeros come as 64 KB; the Hub says two bytes."""
    hub.add("you/bomb", {"config.json": b"{}", "metadata.json": b"{}"})
    hub.packed["config.json"] = gzip.compress(bytes(64 * 2**20))
    with pytest.raises(CheckpointError, match="more than the 2 bytes"):
        resolve("hf://you/bomb")
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(sizes) < 32 * 2**20


def test_absurd_sizes_are_not_fetched(hub, monkeypatch):
    monkeypatch.setattr("keras_pe.presets.download.MAX_JSON_BYTES", 10)
    hub.add("you/large", {"config.json": b"{" * 11, "metadata.json": b"{}"})
    with pytest.raises(CheckpointError, match=r"has 11 bytes, expected at most 10"):
        resolve("hf://you/large")


def test_no_connection_is_known_at_once(hub, monkeypatch):
    """The client would ask for 20 seconds: here its waits end the test."""
    hub.stop()

    def waited(seconds):
        raise AssertionError(f"waited for {seconds} s")

    clock = types.SimpleNamespace(**{**vars(time), "sleep": waited})
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    start = time.monotonic()
    for handle in ("PE-Core-T16-384", "hf://me/cats", "pe_lang_large_patch14_448"):
        with pytest.raises(CheckpointError, match="no connection"):
            resolve(handle)
    assert time.monotonic() - start < 6


# === Offline ===
@pytest.mark.slow
@pytest.mark.parametrize("offline", [True, False])
def test_one_download_serves_offline(hub, released, tmp_path, monkeypatch, offline):
    hub.add(OPEN_CLIP_REPO, {OPEN_CLIP_FILE: open_clip_file()})
    hub.add("me/cats", preset_files(tmp_path))
    handles = ("PE-Core-T16-384", "hf://me/cats", f"hf://{OPEN_CLIP_REPO}")
    before = [tiny.values(keras_pe.PECore.from_preset(handle)) for handle in handles]
    hub.stop()
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for handle, expected in zip(handles, before, strict=True):
        found = keras_pe.PECore.from_preset(handle)
        assert tiny.equal(tiny.values(found), expected), handle
    with pytest.raises(CheckpointError, match="not in the cache"):
        keras_pe.PELang.from_preset("PE-Lang-L14-448")
    with pytest.raises(CheckpointError, match=r"not in the cache|Check the connect"):
        resolve("hf://me/dogs")


def test_offline_asks_nobody(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        resolve("PE-Core-T16-384")
    assert hub.requests == []
