"""Damaged and crafted presets: refused, right, or no more than the user allowed."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.campaign import Campaign, refused
from tests.fuzz.mutations import byte_edits, edited, edited_json, json_edits

METADATA, BLANK = "metadata.json", "0" * 64
SIZES = (
    "image_size",
    "patch_size",
    "hidden_dim",
    "num_layers",
    "num_heads",
    "intermediate_dim",
    "output_dim",
    "pooling_heads",
    "vocabulary_size",
    "context_length",
    "layer_scale",
    "drop_path",
    "window_size",
)
SIZE_VALUES = (0, -1, 1, 2, 10**9, 10**6, 10**5, 2**63, 0.5, True, None, "8", [8])
CONVERTER = {
    "formats": (["EPS", "PNG"], ["PNG"], [], "EPS", ["JPEG2000", "JPEG"], None),
    "max_pixels": (10**18, 1, 0, -5, 1e30, None, "9"),
    "on_error": ("skip", "raise", "x"),
    "image_size": (10**6, 0, -1, [32, 10**9], 3.5, None, [1, 2, 3]),
    "mean": ([0, 0], ["a"] * 3, [float("nan")] * 3, [1e300] * 3),
    "std": ([0, 0, 0], [1e-300] * 3, [float("inf")] * 3, None),
    "background": ([1, 2], [300, 0, 0], "red", None),
    "interpolation": ("x", None, 3),
}


class Presets(Campaign):
    """`from_preset` of model, tokenizer and image converter."""

    name = "presets"
    short = 30
    memory_mb = 300
    cpu_seconds = 6.0

    def prepare(self, folder: Path) -> None:
        import keras_pe
        from keras_pe.presets.save import save_preset
        from projects.emoji.byte_planes import store_by_planes
        from tests.presets import tiny

        self.tiny, self.package = tiny, keras_pe
        self.folder, self.work = folder, folder / "work"
        model = tiny.core()
        parts: dict[str, Any] = {
            "tokenizer": tiny.tokenizer(),
            "image_converter": keras_pe.PEImageConverter(32),
        }
        save_preset(model, folder / "one", **parts)
        save_preset(model, folder / "shards", max_shard_size=8e-5, **parts)
        save_preset(model, folder / "planes", **parts)
        store_by_planes(folder / "planes")
        self.files = {
            preset: tiny.directory_files(folder / preset)
            for preset in ("one", "shards", "planes")
        }
        assert any("weights.json" in name for name in self.files["shards"])
        self.right = tiny.values(model)
        self.configs = [part.get_config() for part in parts.values()]

    # === Cases ===
    def cases(self) -> st.SearchStrategy[Any]:
        def spoiled(kind: str, preset: str, name: str) -> st.SearchStrategy[Any]:
            edits: Any = byte_edits(len(self.files[preset][name]))
            if kind == "json":
                edits = json_edits()
            return st.tuples(st.just(kind), st.just(preset), st.just(name), edits)

        options = []
        for preset, files in self.files.items():
            for name in files:
                options.append(spoiled("edit", preset, name))
                if name.endswith(".json"):
                    options += [spoiled("json", preset, name)] * 2
                else:
                    options.append(spoiled("signed", preset, name))
        sizes = st.tuples(
            st.just("size"),
            st.sampled_from(("vision_encoder", "text_encoder")),
            st.sampled_from(SIZES),
            st.integers(0, len(SIZE_VALUES) - 1),
        )
        trust = st.sampled_from(sorted(CONVERTER)).flatmap(
            lambda key: st.tuples(
                st.just("converter"),
                st.just(key),
                st.integers(0, len(CONVERTER[key]) - 1),
                st.just(0),
            )
        )
        return st.one_of(*options, *[sizes] * 8, *[trust] * 4)

    def spoil(self, case: Any) -> None:
        """Writes a preset and spoils it."""
        kind, *more = case
        preset = more[0] if kind in ("edit", "json", "signed") else "one"
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.folder / preset, self.work)
        if kind == "edit":
            (self.work / more[1]).write_bytes(self.material(case))
        elif kind == "signed":
            (self.work / more[1]).write_bytes(self.material(case))
            self.sign()
        elif kind == "json" and more[1] == METADATA:
            content = json.loads(self.files[preset][METADATA])
            self.write_metadata(edited_json(content, more[2]))
        elif kind == "json":
            content = json.loads(self.files[preset][more[1]])
            self.write_json(more[1], edited_json(content, more[2]))
            self.sign()
        elif kind == "size":
            tower, key, number = more
            content = json.loads(self.files[preset]["config.json"])
            content["config"][tower]["config"][key] = SIZE_VALUES[number]
            self.write_json("config.json", content)
            self.sign()
        else:
            key, number, _ = more
            content = json.loads(self.files[preset]["image_converter.json"])
            content["config"][key] = CONVERTER[key][number]
            self.write_json("image_converter.json", content)
            self.sign()

    def material(self, case: Any) -> bytes:
        if case[0] not in ("edit", "signed"):
            return repr(case).encode(errors="replace")
        return edited(self.files[case[1]][case[2]], case[3])

    def write_json(self, name: str, content: Any) -> None:
        text = json.dumps(content)
        (self.work / name).write_bytes(text.encode("utf-8", "surrogatepass"))

    def sign(self) -> None:
        """Makes the checksums right: what an attacker would do."""
        content = json.loads((self.work / METADATA).read_bytes())
        for name in content["files"]:
            digest = hashlib.sha256((self.work / name).read_bytes()).hexdigest()
            size = (self.work / name).stat().st_size
            content["files"][name] = {"sha256": digest, "size": size}
        self.write_metadata(content)

    def write_metadata(self, content: Any) -> None:
        """Writes metadata.json with a right checksum of itself, if it has one."""
        if isinstance(content, dict) and "metadata_sha256" in content:
            content["metadata_sha256"] = BLANK
        raw = json.dumps(content).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(raw).hexdigest().encode()
        before, blank, after = raw.rpartition(BLANK.encode())
        (self.work / METADATA).write_bytes(before + digest + after if blank else raw)

    # === What must hold ===
    def run(self, case: Any) -> str:
        from keras_pe.presets import CheckpointError

        self.spoil(case)
        package = self.package
        read: dict[str, Any] = {}
        outcomes = []
        for part in ("PECore", "PETokenizer", "PEImageConverter"):
            try:
                read[part] = getattr(package, part).from_preset(self.work)
            except CheckpointError as error:
                outcomes.append(refused(error))
        untouched = case[0] == "edit"
        if "PECore" in read:
            found = self.tiny.values(read["PECore"])
            assert all(np.isfinite(value).all() for value in found), "NaN was loaded"
            if untouched:
                assert self.tiny.equal(found, self.right), "other weights, no error"
        if "PEImageConverter" in read:
            self.check_trust(read["PEImageConverter"], untouched)
        if "PETokenizer" in read and untouched:
            assert read["PETokenizer"].get_config() == self.configs[0], "other tokens"
        return outcomes[0] if outcomes else "read"

    def check_trust(self, converter: Any, untouched: bool) -> None:
        """A file may allow less than the default, and never more."""
        from keras_pe.preprocessing.image_decoding import (
            DEFAULT_FORMATS,
            DEFAULT_MAX_PIXELS,
        )

        more = set(converter.formats) - set(DEFAULT_FORMATS)
        assert not more, f"the preset allows {sorted(more)}"
        pixels = converter.max_pixels
        assert pixels <= DEFAULT_MAX_PIXELS, f"the preset allows {pixels} pixels"
        assert converter.on_error == "raise", "the preset skips images unasked"
        image = np.zeros((40, 30, 3), "uint8")
        assert np.isfinite(converter(image)).all(), "a converter that gives NaN"
        if untouched:
            assert converter.get_config() == self.configs[1], "another converter"
