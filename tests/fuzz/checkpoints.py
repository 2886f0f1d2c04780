"""Damaged and crafted checkpoints: refused with the model as it was, or right."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.campaign import Campaign, refused, require
from tests.fuzz.mutations import byte_edits, edited, edited_json, json_edits

DTYPES = ("F32", "F64", "F16", "BF16", "I8", "I64", "U8", "BOOL", "F8_E4M3", "X", "", 5)


class Checkpoints(Campaign):
    """What both formats share: a model that keeps its weights when it refuses."""

    suffix = ""
    memory_mb = 300
    cpu_seconds = 6.0

    def prepare(self, folder: Path) -> None:
        from keras_pe.presets import load_weights
        from tests.reference_models import checkpoint, upstream_model

        self.load = load_weights
        self.model, self.twin = upstream_model("core_cls"), upstream_model("core_cls")
        self.path = folder / f"spoiled{self.suffix}"
        self.clean = folder / "clean.safetensors"
        original = checkpoint("upstream/core_cls").with_suffix(self.suffix)
        self.content = original.read_bytes()
        self.zeros = [np.zeros_like(value) for value in self.values(self.model)]
        self.load(self.model, original)
        self.right = self.values(self.model)

    @staticmethod
    def values(model: Any) -> list[np.ndarray]:
        import keras

        return [keras.ops.convert_to_numpy(w).copy() for w in model.weights]

    def attempt(self, content: bytes) -> str | None:
        """Loads spoiled bytes; returns None on success, else how it was refused."""
        from keras_pe.presets import CheckpointError

        self.path.write_bytes(content)
        for weight, zero in zip(self.model.weights, self.zeros, strict=True):
            weight.assign(zero)
        try:
            self.load(self.model, self.path)
        except CheckpointError as error:
            changed = self.different(self.zeros)
            require(not changed, f"refused with {changed} weights replaced: {error}")
            return refused(error)
        except Exception as error:
            changed = self.different(self.zeros)
            kind = type(error).__name__
            require(not changed, f"raw {kind} with weights replaced: {error}")
            raise
        return None

    def different(self, expected: list[np.ndarray]) -> int:
        """Returns how many weights of the model are not the expected ones."""
        found = self.values(self.model)
        return sum(
            not np.array_equal(a, b) for a, b in zip(found, expected, strict=True)
        )


class TorchFiles(Checkpoints):
    """`.pt` files: an archive with checksums, so nothing may slip through."""

    name = "pt"
    short = 30
    suffix = ".pt"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        with zipfile.ZipFile(io.BytesIO(self.content)) as archive:
            self.members = [(i.filename, archive.read(i)) for i in archive.infolist()]

    def cases(self) -> st.SearchStrategy[Any]:
        size, count = len(self.content), len(self.members)
        member = st.integers(0, count - 1)
        pickle_size = len(self.members[0][1])
        end = st.integers(max(size - 12_000, 0), size - 1)
        odd = ("sparse", "meta", "negative", "conjugate", "int key", "bytes key")
        odd += ("double", "nan", "list", "strided", "quantised", "complex", "module")
        return st.one_of(
            st.tuples(st.just("edit"), byte_edits(size)),
            st.tuples(st.just("edit"), byte_edits(size)),
            st.tuples(
                st.just("edit"),
                st.lists(st.tuples(st.just("flip"), end, st.integers(0, 7))),
            ),
            st.tuples(
                st.just("repacked"), st.sampled_from((0, 8, 12, 14)), st.just([])
            ),
            st.tuples(st.just("repacked"), st.just(0), byte_edits(pickle_size, 2)),
            st.tuples(st.just("swapped"), member, member),
            st.tuples(st.just("without"), member),
            st.tuples(st.just("odd"), st.sampled_from(odd)),
        )

    def material(self, case: Any) -> bytes:
        kind, *more = case
        if kind == "edit":
            return edited(self.content, more[0])
        members = list(self.members)
        method = zipfile.ZIP_STORED
        if kind == "odd":
            return odd_state(self.content, more[0])
        if kind == "repacked":
            method, edits = more
            members[0] = (members[0][0], edited(members[0][1], edits))
        elif kind == "swapped":
            first, second = more
            one, other = members[first], members[second]
            members[first], members[second] = (one[0], other[1]), (other[0], one[1])
        else:
            del members[more[0]]
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return stream.getvalue()

    def run(self, case: Any) -> str:
        content = self.material(case)
        outcome = self.attempt(content)
        if outcome is not None:
            return outcome
        kind = case[0]
        # What says with right checksums that weights are others is no damage.
        if kind == "swapped" or (kind == "repacked" and case[2]):
            values = self.values(self.model)
            assert all(np.isfinite(v).all() for v in values), "NaN was loaded"
            return "read, others by its own checksums"
        if kind == "odd":
            values = self.values(self.model)
            assert all(np.isfinite(v).all() for v in values), "NaN was loaded"
        wrong = self.different(self.right)
        assert not wrong, f"{wrong} other weights and no error"
        return "right"


def odd_state(content: bytes, kind: str) -> bytes:
    """Returns a state dict that PyTorch writes and reads, with one odd entry."""
    import torch

    state = torch.load(io.BytesIO(content), weights_only=True)
    name = "text_projection"
    tensor = state[name]
    changed: dict[Any, Any] = {
        "sparse": lambda: {name: tensor.to_sparse()},
        "meta": lambda: {name: torch.empty_like(tensor, device="meta")},
        "negative": lambda: {name: torch._neg_view(-tensor)},
        "conjugate": lambda: {name: torch.complex(tensor, tensor).conj()},
        "int key": lambda: {5: tensor},
        "bytes key": lambda: {b"x": tensor},
        "double": lambda: {name: tensor.double()},
        "nan": lambda: {name: torch.full_like(tensor, float("nan"))},
        "list": lambda: {name: [tensor]},
        "strided": lambda: {name: tensor.t().contiguous().t()},
        "quantised": lambda: {
            name: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)
        },
        "complex": lambda: {name: torch.complex(tensor, tensor)},
        "module": lambda: {f"module.{key}": value for key, value in state.items()},
    }[kind]()
    kept = {} if kind == "module" else state
    stream = io.BytesIO()
    torch.save({**kept, **changed}, stream)
    return stream.getvalue()


class Safetensors(Checkpoints):
    """`.safetensors` files, their headers above all.

    The format has no checksum: other bytes in the data are other weights. What is
    loaded must be what the format's own library reads, saved anew.
    """

    name = "safetensors"
    short = 40
    suffix = ".safetensors"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        self.size = int.from_bytes(self.content[:8], "little")
        self.header = json.loads(self.content[8 : 8 + self.size])
        self.data = self.content[8 + self.size :]

    def cases(self) -> st.SearchStrategy[Any]:
        name = st.sampled_from(sorted(self.header))
        number = st.sampled_from((0, 1, -1, 2**31, 2**63, 10**30, 1.5, "1"))
        change = st.one_of(
            st.tuples(st.just("dtype"), name, st.sampled_from(DTYPES)),
            st.tuples(st.just("shape"), name, st.lists(number, max_size=4)),
            st.tuples(st.just("offsets"), name, st.lists(number, max_size=3)),
            st.tuples(st.just("exchange"), name, name),
            st.tuples(st.just("drop"), name, st.just(0)),
            st.tuples(st.just("twice"), name, st.just(0)),
        )
        extra = st.sampled_from((1, 100, 20_000, 200_000))
        whole = len(self.content)
        return st.one_of(
            st.tuples(st.just("changes"), st.lists(change, min_size=1, max_size=3)),
            st.tuples(st.just("json"), json_edits(3)),
            st.tuples(st.just("edit"), byte_edits(8 + self.size)),
            st.tuples(st.just("edit"), byte_edits(whole)),
            st.tuples(st.just("empty"), extra),
            st.tuples(st.just("length"), number.filter(lambda n: isinstance(n, int))),
        )

    def material(self, case: Any) -> bytes:
        kind, value = case
        if kind == "edit":
            return edited(self.content, value)
        if kind == "length":
            return struct.pack("<Q", value % 2**64) + self.content[8:]
        header: Any = json.loads(json.dumps(self.header))
        repeated = ""
        if kind == "json":
            header = edited_json(header, value)
        elif kind == "empty":
            end = len(self.data)
            entry = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}
            header |= {f"more.{i}": entry for i in range(value)}
        else:
            for what, name, more in value:
                if name not in header:
                    continue
                if what == "exchange" and more in header:
                    one, other = header[name], header[more]
                    header[name], header[more] = other, one
                elif what == "drop":
                    del header[name]
                elif what == "twice":
                    repeated = f",{json.dumps(name)}:{json.dumps(header[name])}"
                elif what in ("dtype", "shape"):
                    header[name][what] = more
                elif what == "offsets":
                    header[name]["data_offsets"] = more
        text = json.dumps(header)
        if repeated and text.endswith("}"):
            text = text[:-1] + repeated + "}"
        encoded = text.encode("utf-8", "surrogatepass")
        encoded += b" " * (-len(encoded) % 8)
        return struct.pack("<Q", len(encoded)) + encoded + self.data

    def run(self, case: Any) -> str:
        from safetensors.numpy import load, save_file

        content = self.material(case)
        outcome = self.attempt(content)
        if outcome is not None:
            return outcome
        save_file(load(content), self.clean)
        self.load(self.twin, self.clean)
        wrong = self.different(self.values(self.twin))
        assert not wrong, f"{wrong} weights are not what the library reads"
        assert all(np.isfinite(v).all() for v in self.values(self.model)), "NaN loaded"
        return "read as the library reads it"
