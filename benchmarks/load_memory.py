"""Peak memory of a load, as a multiple of the file: models, dtypes, ways, backends.

Run:      python benchmarks/load_memory.py --models PE-Core-T16-384 --dtypes float32
Expect:   a line a case, also in results/load_memory.json beside those that are there;
          the largest file (PE-Core-G14-448, float32) takes 10 GB of disk and memory.

The file has random numbers under upstream's names. A fresh process loads a tiny file
the same way, so that the libraries have what they need, and remembers its memory. Then
it loads the file, by one of three ways:

from_preset   builds the model and fills it.
own_preset    the same from a preset that save_to_preset wrote, of the file's dtype; the
              file is the one with the weights (HDF5).
load_weights  builds the model with random weights, then replaces them. The peak of
              building and that of loading into the built model are told apart.

A bfloat16 file is loaded into a bfloat16 model: in float32 the weights alone are twice
the file.
"""

import argparse
import ctypes
import datetime
import gc
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

OUTPUT = Path(__file__).parent / "results" / "load_memory.json"
DTYPES = {"float32": ("F32", np.float32), "bfloat16": ("BF16", ml_dtypes.bfloat16)}
WAYS = ("from_preset", "own_preset", "load_weights")
BACKENDS = ("jax", "torch", "tensorflow")
TINY_VISION = {
    "image_size": 16,
    "patch_size": 8,
    "hidden_dim": 128,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_dim": 128,
    "output_dim": 64,
}
TINY_TEXT = {
    "hidden_dim": 128,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_dim": 128,
    "output_dim": 64,
    "vocabulary_size": 512,
    "context_length": 8,
}


# === The process that is measured ===
def kilobytes(field: str) -> int:
    """Returns a figure of this process's memory."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(field)).split()[1])


def forget_peak() -> None:
    """Makes VmHWM begin anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def hand_back() -> None:
    """Hands free memory back to the system, which else counts as used."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def measure(path: str, tiny: str, model: str, dtype: str, way: str) -> None:
    """Loads a file and prints the kilobytes before, at the peaks, and after."""
    import keras_pe
    from keras_pe.presets import load_weights
    from keras_pe.presets.variants import text_config, vision_config

    def build(vision: Mapping[str, Any], text: Mapping[str, Any] | None) -> Any:
        encoder = keras_pe.PEVisionEncoder(**{**vision, "dtype": dtype})
        if text is None:
            return encoder
        return keras_pe.PECore(
            encoder, keras_pe.PETextEncoder(**{**text, "dtype": dtype})
        )

    if way == "own_preset":
        keras_pe.PECore.from_preset(tiny, dtype=dtype)
    else:
        load_weights(build(TINY_VISION, TINY_TEXT), tiny)
    hand_back()  # no free memory of the tiny model may be left to hide others in
    before = kilobytes("VmRSS")
    forget_peak()
    vision, text = vision_config(model), text_config(model)
    if way == "load_weights":
        loaded = build(vision, text)
        built = kilobytes("VmHWM")
        hand_back()
        forget_peak()
        report = load_weights(loaded, path)
        assert len(report.loaded) == report.num_tensors
    else:
        cls: Any = keras_pe.PEVisionEncoder if text is None else keras_pe.PECore
        loaded = cls.from_preset(path, dtype=dtype)
        built = before
    print(before, built, kilobytes("VmHWM"), kilobytes("VmRSS"))


# === Files ===
def save_preset(path: str, directory: str, model: str, dtype: str) -> None:
    """Writes the weights of a file as a preset of our own; the model may be "tiny"."""
    import keras_pe
    from keras_pe.presets import load_weights
    from keras_pe.presets.variants import text_config

    if model == "tiny":
        encoder = keras_pe.PEVisionEncoder(**{**TINY_VISION, "dtype": dtype})
        text_encoder = keras_pe.PETextEncoder(**{**TINY_TEXT, "dtype": dtype})
        tiny = keras_pe.PECore(encoder, text_encoder)
        load_weights(tiny, path)
        tiny.save_to_preset(directory)
        return
    dual = text_config(model) is not None
    cls: Any = keras_pe.PECore if dual else keras_pe.PEVisionEncoder
    cls.from_preset(path, dtype=dtype).save_to_preset(directory)


def weights_of(path: Path) -> int:
    """Returns the bytes of a file, or of the weights in a preset."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.glob("*.h5"))
    return path.stat().st_size


def write_random(
    path: Path,
    vision: Mapping[str, Any],
    text: Mapping[str, Any] | None,
    dtype: str,
) -> int:
    """Writes a checkpoint of random numbers; returns its bytes."""
    from keras_pe.presets.formats.upstream import core_rules, vision_rules

    rules = list(vision_rules(vision) if text is None else core_rules(vision, text))
    name, kind = DTYPES[dtype]
    header, offset = {}, 0
    for rule in rules:
        size = np.dtype(kind).itemsize * int(np.prod(rule.shape))
        header[rule.source] = {
            "dtype": name,
            "shape": list(rule.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header).encode()
    numbers = np.random.default_rng(0).standard_normal(2**20, "float32").astype(kind)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for rule in rules:
            left = int(np.prod(rule.shape))
            while left:
                file.write(numbers[:left].tobytes())
                left -= len(numbers[:left])
    return path.stat().st_size


def complete(config: Mapping[str, Any], text: bool) -> dict[str, Any]:
    """Returns all arguments of a tower, with the default ones."""
    import keras_pe

    cls = keras_pe.PETextEncoder if text else keras_pe.PEVisionEncoder
    built: dict[str, Any] = cls(**config).get_config()
    return built


# === All cases ===
def in_fresh_process(backend: str, *arguments: Any) -> str:
    """Runs a part of this file; returns what it printed."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def run(
    path: Path, tiny: Path, model: str, dtype: str, way: str, backend: str
) -> dict[str, float]:
    """Measures one case in a fresh process; returns multiples of the file."""
    out = in_fresh_process(backend, "--measure", path, tiny, model, dtype, way)
    size = weights_of(path)
    before, built, peak, after = (1024 * int(x) for x in out.split()[-4:])
    row = {"load": (peak - before) / size, "afterwards": (after - before) / size}
    if way == "load_weights":
        row["building"] = (built - before) / size
    return {name: round(value, 3) for name, value in row.items()}


def main() -> None:
    """Measures and prints."""
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
        return
    if sys.argv[1:2] == ["--save"]:
        save_preset(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", nargs="+", default=["PE-Core-T16-384"])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from keras_pe.presets.variants import text_config, vision_config

    found: dict[str, Any] = {}
    if arguments.output.exists():
        found = json.loads(arguments.output.read_text())
    cases = found.setdefault("cases", {})
    for model in arguments.models:
        for dtype in arguments.dtypes:
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / "checkpoint.safetensors"
                tiny = Path(directory) / "tiny.safetensors"
                write_random(
                    tiny, complete(TINY_VISION, False), complete(TINY_TEXT, True), dtype
                )
                write_random(path, vision_config(model), text_config(model), dtype)
                if "own_preset" in arguments.ways:
                    for file, name in ((path, model), (tiny, "tiny")):
                        own = file.with_suffix("")
                        in_fresh_process("torch", "--save", file, own, name, dtype)
                for way in arguments.ways:
                    places = (path, tiny)
                    if way == "own_preset":
                        places = (path.with_suffix(""), tiny.with_suffix(""))
                    size = weights_of(places[0])
                    for backend in arguments.backends:
                        row = run(*places, model, dtype, way, backend)
                        key = f"{model} {dtype} {way} {backend}"
                        today = datetime.date.today().isoformat()
                        cases[key] = {**row, "file bytes": size, "date": today}
                        print(f"{key:55s} {row}", flush=True)
                        text = json.dumps(found, indent=2, sort_keys=True)
                        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
