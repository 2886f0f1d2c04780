"""Answers that no Hub gives: a proxy, a mirror, the sign-in page of a network."""

import json

import pytest

import keras_pe
from keras_pe.presets.hub_errors import HubError
from keras_pe.presets.save import save_preset
from tests.fuzz.proxy import SpoilingProxy
from tests.presets import tiny
from tests.presets.hub_server import HubServer

pytestmark = [pytest.mark.quick, pytest.mark.once]
REPO = "someone/cats"


@pytest.fixture
def proxy(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    save_preset(tiny.core(), tmp_path / "made")
    hub = HubServer()
    hub.add(REPO, tiny.directory_files(tmp_path / "made"))
    proxy = SpoilingProxy(hub)
    monkeypatch.setenv("HF_ENDPOINT", proxy.url)
    yield proxy
    hub.stop()


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>Sign in to this network</html>",
        b"[]",
        b"{}",
        b'"text"',
        json.dumps({"id": REPO, "siblings": 5}).encode(),
        json.dumps({"id": REPO, "siblings": [None]}).encode(),
        json.dumps({"id": REPO, "siblings": [{"name": "config.json"}]}).encode(),
        json.dumps({"id": REPO, "siblings": [{"rfilename": 7}]}).encode(),
    ],
)
def test_lists_that_are_none(proxy, answer):
    def spoil(method, path, status, headers, body):
        listing = path.startswith("/api/")
        return status, headers, answer if listing else body, 0

    proxy.spoil = spoil
    with pytest.raises(HubError, match=r"none that the Hub gives .*HF_ENDPOINT"):
        keras_pe.PECore.from_preset(f"hf://{REPO}")
    proxy.spoil = None
    assert keras_pe.PECore.from_preset(f"hf://{REPO}").output_dim == 16


def test_a_redirect_to_no_address(proxy):
    def spoil(method, path, status, headers, body):
        if path.endswith("config.json"):
            return 307, {**headers, "Location": "http://["}, b"", 0
        return status, headers, body, 0

    proxy.spoil = spoil
    with pytest.raises(HubError, match=r"config.json of someone/cats is none that"):
        keras_pe.PECore.from_preset(f"hf://{REPO}")
