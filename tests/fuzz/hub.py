"""A Hub that misbehaves: the right model or an error, a clean cache, a closed door."""

import gzip
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.campaign import Campaign, refused
from tests.fuzz.mutations import edited_json, json_edits

REPO = "someone/cats"
FILES = ("config.json", "metadata.json", "tokenizer.json", "model.weights.h5", "/cdn/")
STATUSES = (500, 502, 503, 429, 403, 404, 401, 418, 204, 302, 304)
HEADERS = {
    "ETag": (
        '"../../../../escaped"',
        '"/tmp/../escaped"',
        'W/"abc"',
        '""',
        '"' + "a" * 300 + '"',
        '"' + "0" * 40 + '"',
        '"' + "f" * 64 + '"',
        '"..%2f..%2fescaped"',
    ),
    "X-Linked-Etag": ('"../../../../escaped"', '"' + "0" * 64 + '"', '"x"', '""'),
    "X-Linked-Size": ("0", "-1", "999999999999", "abc", ""),
    "X-Repo-Commit": ("../../escaped", "", "zz", "a/../../b", "0" * 40),
    "Content-Length": ("0", "1", "-1", "99999", "abc"),
    "Content-Encoding": ("gzip", "br", "identity", "nonsense"),
    "Content-Range": ("bytes 5-9/10", "x"),
    "Location": (
        "file:///etc/passwd",
        "/",
        "http://127.0.0.1:1/x",
        "//x/y",
        "http://[",
    ),
    "X-Error-Code": ("GatedRepo", "EntryNotFound", "RevisionNotFound", "x"),
}
BODIES = ("flip", "cut", "empty", "html", "gzip", "bomb", "longer", "short")


class Hub(Campaign):
    """`from_preset("hf://...")` through a server that spoils its answers."""

    name = "hub"
    short = 20
    # The client holds the list of files whole, unpacked, however long a Hub makes it:
    # 200 MB here. Files must not be unpacked, and the cache is measured.
    memory_mb = 600
    cpu_seconds = 10.0

    def prepare(self, folder: Path) -> None:
        import huggingface_hub.constants

        import keras_pe
        from keras_pe.presets.save import save_preset
        from tests.presets import tiny

        huggingface_hub.constants.HF_HUB_DISABLE_XET = True
        os.environ.pop("HF_HUB_OFFLINE", None)
        self.tiny, self.package = tiny, keras_pe
        model = tiny.core()
        save_preset(
            model,
            folder / "made",
            tokenizer=tiny.tokenizer(),
            image_converter=keras_pe.PEImageConverter(32),
        )
        self.files = tiny.directory_files(folder / "made")
        self.right = tiny.values(model)
        self.room = folder / "room"
        self.cache = self.room / "a" / "b" / "c" / "d" / "cache"
        self.proxy: Any = None

    def start(self) -> None:
        """Starts the servers: threads do not live on in a forked process."""
        from tests.fuzz.proxy import SpoilingProxy
        from tests.presets.hub_server import HubServer

        hub = HubServer()
        hub.add(REPO, self.files)
        self.proxy = SpoilingProxy(hub)
        os.environ["HF_ENDPOINT"] = self.proxy.url
        os.environ["HF_HUB_CACHE"] = str(self.cache)
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        time.sleep = lambda seconds: None  # type: ignore[assignment]  # retries

    def cases(self) -> st.SearchStrategy[Any]:
        header = st.sampled_from(sorted(HEADERS)).flatmap(
            lambda name: st.tuples(
                st.just("header"), st.just(name), st.sampled_from(HEADERS[name])
            )
        )
        fault = st.one_of(
            header,
            header,
            st.tuples(st.just("status"), st.sampled_from(STATUSES), st.just(0)),
            st.tuples(st.just("body"), st.sampled_from(BODIES), st.integers(0, 10**6)),
        )
        where = st.sampled_from(("/api/", *FILES, *FILES))
        times = st.sampled_from((1, 2, 1000))
        listing = st.tuples(
            st.just("/api/"), times, st.just("json"), json_edits(2), st.just(0)
        )
        plain = st.tuples(where, times, fault).map(lambda c: (c[0], c[1], *c[2]))
        return st.lists(st.one_of(*[plain] * 6, listing), min_size=1, max_size=2)

    def spoiler(self, case: Any) -> Any:
        """Returns what spoils answers as a case says."""
        left = [times for _, times, *_ in case]

        def spoil(
            method: str, path: str, status: int, headers: dict[str, Any], body: bytes
        ) -> tuple[int, dict[str, Any], bytes, int]:
            less = 0
            for number, (where, _, kind, what, more) in enumerate(case):
                if where not in path or not left[number]:
                    continue
                left[number] -= 1
                if kind == "status":
                    status = what
                elif kind == "header":
                    headers[what] = more
                elif kind == "json" and body:
                    body = json.dumps(edited_json(json.loads(body), what)).encode()
                elif kind == "body" and method == "GET":
                    body, headers, less = spoiled_body(what, more, body, headers)
            return status, headers, body, less

        return spoil

    def load(self) -> Any:
        return self.package.PECore.from_preset(f"hf://{REPO}")

    def run(self, case: Any) -> str:
        from keras_pe.presets import CheckpointError

        if self.proxy is None:
            self.start()
        shutil.rmtree(self.room, ignore_errors=True)
        self.cache.mkdir(parents=True)
        self.proxy.spoil = self.spoiler(case)
        try:
            found = self.tiny.values(self.load())
            assert self.tiny.equal(found, self.right), "other weights and no error"
            outcome = "right in spite of it"
        except CheckpointError as error:
            outcome = refused(error)
        outside = [
            str(path.relative_to(self.room))
            for path in self.room.rglob("*")
            if not path.is_dir() and self.cache not in path.parents
        ]
        assert not outside, f"files outside of the cache: {outside}"
        size = sum(p.lstat().st_size for p in self.cache.rglob("*") if not p.is_dir())
        allowed = 4 * sum(map(len, self.files.values())) + 100_000
        assert size < allowed, f"the cache holds {size} bytes"
        self.proxy.spoil = None
        try:
            found = self.tiny.values(self.load())
        except CheckpointError as error:
            raise AssertionError(
                f"what went wrong stays in the cache ({outcome}): {str(error)[:300]}"
            ) from None
        assert self.tiny.equal(found, self.right), "other weights from the cache"
        return outcome


def spoiled_body(
    kind: str, place: int, body: bytes, headers: dict[str, Any]
) -> tuple[bytes, dict[str, Any], int]:
    """Returns another body, its headers, and how many bytes are held back."""
    if not body:
        return body, headers, 0
    place %= len(body)
    if kind == "flip":
        return body[:place] + bytes([body[place] ^ 4]) + body[place + 1 :], headers, 0
    if kind == "cut":
        return body, headers, len(body) - place
    if kind == "short":
        return body[:place], headers, 0
    if kind == "empty":
        return b"", headers, 0
    if kind == "longer":
        return body + b"x" * (place + 1), headers, 0
    if kind == "html":
        return b"<html><body>Sign in to this network</body></html>", headers, 0
    if kind == "gzip":
        return gzip.compress(body), {**headers, "Content-Encoding": "gzip"}, 0
    bomb = gzip.compress(bytes(200 << 20), 9)
    return bomb, {**headers, "Content-Encoding": "gzip"}, 0
