"""Uploads to a Hub on 127.0.0.1, and what is never uploaded."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

import keras_pe
from keras_pe import ImageClassifier, PEImageConverter
from keras_pe.presets import CheckpointError
from keras_pe.presets.hub_errors import HubError
from tests.presets import tiny
from tests.presets.hub_server import HubServer, _Handler

pytestmark = [pytest.mark.quick, pytest.mark.once]
TOKEN = "hf_test"


class Receiving(_Handler):
    """Takes commits too, all files in the request itself."""

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0]
        self.hub.requests.append(("POST", path, None))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._error(401, "")
        if path == "/api/repos/create":
            wanted = json.loads(content)
            repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            self.hub.created = {**wanted, "repo": repo}
            self.hub.commits.setdefault(repo, {})
            if not self.hub.commits[repo]:
                self.hub.add(repo, {".gitattributes": b""})
            return self._json({"url": f"{self.hub.url}/{repo}", "name": repo})
        repo = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            files = json.loads(content)["files"]
            answer = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in files
            ]
            return self._json({"files": answer})
        if "/commit/" in path:
            lines = [json.loads(line) for line in content.splitlines()]
            (_, files) = self.hub.find(repo, "main")
            files = dict(files)
            for line in lines:
                if line["key"] == "file":
                    value = line["value"]
                    files[value["path"]] = base64.b64decode(value["content"])
                else:
                    self.hub.message = line["value"]["summary"]
            commit = self.hub.add(repo, files)
            return self._json(
                {
                    "success": True,
                    "commitOid": commit,
                    "commitUrl": f"{self.hub.url}/{repo}/commit/{commit}",
                }
            )
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        return self._error(404, "RepoNotFound")

    def _json(self, content):
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = HubServer()
    server._servers[0].RequestHandlerClass = type(
        "Handler", (Receiving,), {"hub": server}
    )
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    yield server
    server.stop()


def test_there_and_back(hub, preset, model):
    (preset / "README.md").write_text("# Cats\n")
    address = keras_pe.upload_preset("hf://me/cats", preset, private=True, message="x")
    assert address.startswith(f"{hub.url}/me/cats/commit/")
    assert hub.created["name"] == "cats"
    assert hub.message == "x"
    _, files = hub.find("me/cats", "main")
    sent = {path.name: path.read_bytes() for path in preset.iterdir()}
    assert {name: files[name] for name in sent} == sent
    found = keras_pe.PECore.from_preset("hf://me/cats")
    assert tiny.equal(tiny.values(found), tiny.values(model))
    assert keras_pe.PETokenizer.from_preset("hf://me/cats").context_length == 8


def test_a_card_is_sent_along(hub, preset):
    """A short one where there is none; of a bundled preset that beside it."""
    keras_pe.upload_preset("hf://me/cats", preset)
    _, files = hub.find("me/cats", "main")
    assert 'keras_pe.PECore.from_preset("hf://me/cats")' in files["README.md"].decode()
    name = "pe_spatial_emoji_patch8_64"
    folder = Path(keras_pe.__file__).parent / "presets"
    keras_pe.upload_preset("hf://me/spatial", folder / name)
    _, files = hub.find("me/spatial", "main")
    assert files["README.md"] == (folder / f"{name}.md").read_bytes()


def test_a_dry_run_asks_nothing(hub, preset):
    address = keras_pe.upload_preset("hf://me/cats", preset, dry_run=True)
    assert address == f"{hub.url}/me/cats"
    (preset / "passwords.txt").write_text("secret")
    with pytest.raises(CheckpointError, match="does not belong"):
        keras_pe.upload_preset("hf://me/cats", preset, dry_run=True)
    assert not hub.requests


def test_a_classifier_there_and_back(hub, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), "uint8")
    images[::2, :16] = 255
    made = ImageClassifier(tiny.core(), ["white", "noise"], batch_size=4)
    made.fit(images, np.arange(12) % 2, progress=False)
    made.save_to_preset(tmp_path / "made")
    keras_pe.upload_preset("hf://me/white", tmp_path / "made")
    found = ImageClassifier.from_preset("hf://me/white", batch_size=4)
    np.testing.assert_allclose(
        found.predict_probabilities(images),
        made.predict_probabilities(images),
        atol=1e-5,
    )


def test_a_refusal_of_the_hub(hub, preset):
    with pytest.raises(HubError, match=r"401|log\s?in|Log in"):
        keras_pe.upload_preset("hf://me/cats", preset, token="hf_wrong")
    assert "me/cats" not in hub.commits


@pytest.mark.parametrize("uri", ["me/cats", "kaggle://a/b/c/d", "hf://cats", 3])
def test_what_is_no_place(uri, hub, preset):
    with pytest.raises(CheckpointError, match=r"expected hf://owner/name"):
        keras_pe.upload_preset(uri, preset)
    assert not hub.requests


def test_what_is_not_uploaded(hub, preset, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="holds no preset"):
        keras_pe.upload_preset("hf://me/cats", tmp_path / "nothing")
    PEImageConverter(8).save_to_preset(tmp_path / "alone")
    with pytest.raises(CheckpointError, match="holds no model"):
        keras_pe.upload_preset("hf://me/cats", tmp_path / "alone")
    (preset / "passwords.txt").write_text("secret")
    with pytest.raises(CheckpointError, match=r"passwords\.txt, which does not belong"):
        keras_pe.upload_preset("hf://me/cats", preset)
    (preset / "passwords.txt").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        keras_pe.upload_preset("hf://me/cats", preset)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    (preset / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is damaged"):
        keras_pe.upload_preset("hf://me/cats", preset)
    assert not hub.requests
