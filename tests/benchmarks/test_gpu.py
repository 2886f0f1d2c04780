"""The GPU check runs to its end without a GPU, and its twin is the published tower."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.reference_models import REFERENCE, checkpoint, numbers, relative_error

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "torch",
        reason="starts processes of both backends itself: once is enough",
    ),
]


def numbers_in(rows):
    """Yields every number of a nest."""
    for value in rows.values() if isinstance(rows, dict) else rows:
        if isinstance(value, dict | list):
            yield from numbers_in(value)
        elif isinstance(value, int | float):
            yield value


def errors_in(rows, path=()):
    """Yields where a nest names an error."""
    if isinstance(rows, dict):
        for key, value in rows.items():
            if key in ("error", "did not fit"):
                yield "/".join((*path, key)), value
            yield from errors_in(value, (*path, key))


def test_every_part_runs(tmp_path):
    output = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--small", "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    report = json.loads(output.read_text())
    parts = report["parts"]
    assert list(errors_in(parts)) == [], done.stdout
    assert {part["status"] for part in parts.values()} == {"done"}, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    for backend in ("torch", "jax"):
        for part in (
            "device",
            "parity float32 all 1of3",
            "parity bfloat16 all 1of3",
            "training PE-Core-B16-224 plain",
            "training PE-Core-B16-224 remat",
            "loss",
        ):
            assert parts[f"{part}, {backend}"]["rows"], part
        parity = parts[f"parity float32 all 1of3, {backend}"]["rows"]
        assert all(0 < row["relative L2"] < 1e-5 for row in parity.values())
        training = parts[f"training PE-Core-B16-224 plain, {backend}"]["rows"]
        assert training["MFU, %"] > 0  # of a CPU's peak, measured while others work
        assert training["attention by"]
    forward = parts["forward PE-Core-B16-224"]["rows"]
    sides = {"keras_pe on torch", "keras_pe on jax", "plain PyTorch twin"}
    assert set(forward["sides"]) == sides
    variants = {
        "keras_pe on torch, compiled",
        "keras_pe on torch, eager",
        "keras_pe on jax, compiled",
        "plain PyTorch twin, compiled",
        "plain PyTorch twin, eager",
    }
    for batch in ("1", "2"):
        rows = forward["batches"][batch]
        assert set(rows) == variants
        assert all(row["images a second"] > 0 for row in rows.values())
    assert np.isfinite(list(numbers_in(parts))).all()


def test_what_ends_early_is_kept_and_named(tmp_path):
    output = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--small", "--output"]
    done = subprocess.run(
        [*command, str(output), "--seconds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    parts = json.loads(output.read_text())["parts"]
    assert done.returncode == 1
    assert len(parts) == 13
    assert {part["status"] for part in parts.values()} == {"failed"}
    assert parts["loss, jax"]["error"] == "out of time"


@pytest.mark.parametrize("folder", ["upstream/core_cls", "upstream/spatial_cls"])
def test_twin_computes_what_upstream_does(folder):
    import torch
    from safetensors.torch import load_file

    from benchmarks.peers.plain_vit import PlainVisionTower

    config = json.loads((REFERENCE / folder / "config.json").read_text())["vision"]
    twin = PlainVisionTower(
        {
            "image_size": config["image_size"],
            "patch_size": config["patch_size"],
            "hidden_dim": config["width"],
            "num_layers": config["layers"],
            "num_heads": config["heads"],
            "intermediate_dim": int(config["width"] * config["mlp_ratio"]),
            "output_dim": config["output_dim"],
            "pooling": "attention" if config["pool_type"] == "attn" else None,
            "final_norm": config.get("use_ln_post", True),
        }
    )
    weights = load_file(checkpoint(folder))
    own = {
        name.removeprefix("visual."): tensor
        for name, tensor in weights.items()
        if name.startswith("visual.") or folder == "upstream/spatial_cls"
    }
    twin.load_state_dict(own, strict=True)
    expected = numbers(folder)
    images = torch.from_numpy(expected["native.image"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        found = twin.eval()(images).numpy()
    assert relative_error(found, expected["native.output"]) < 1e-5
