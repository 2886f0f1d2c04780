"""PE-Core-B16-224 on CPU: JAX here against upstream's eager PyTorch code.

Run:      python benchmarks/forward_cpu.py --upstream CHECKOUT --peer-python PYTHON
Expect:   a table and results/forward_cpu.json; about two minutes.

Each side is a process that stays alive; they take turns, so both see the same machine.
Weights are random: speed does not depend on them. Both sides use all cores, float32,
attention pooling and projection included.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

SERVER = """
import sys, time
for line in sys.stdin:
    repeats = int(line)
    start = time.perf_counter()
    for _ in range(repeats):
        forward()
    print(time.perf_counter() - start, flush=True)
"""

OURS = """
import os
os.environ["KERAS_BACKEND"] = {backend!r}
import numpy as np
import keras_pe
from keras_pe.models.compiled import no_gradient
from keras_pe.presets.variants import vision_config
encoder = keras_pe.PEVisionEncoder(**vision_config("PE-Core-B16-224"))
images = np.random.default_rng(0).uniform(-1, 1, ({batch}, 224, 224, 3)).astype("f4")
def forward():
    with no_gradient():
        return np.asarray(encoder.encode(images))
"""

# Upstream takes one class from timm, which it only builds for a drop rate above zero;
# timm itself imports torchvision, which has no build for this PyTorch.
UPSTREAM = """
import sys, types
import torch
layers = types.ModuleType("timm.layers")
layers.DropPath = torch.nn.Identity
sys.modules["timm"] = types.ModuleType("timm")
sys.modules["timm.layers"] = layers
sys.path.insert(0, {checkout!r})
from core.vision_encoder.pe import VisionTransformer
model = VisionTransformer.from_config("PE-Core-B16-224").eval()
images = torch.rand({batch}, 3, 224, 224) * 2 - 1
def forward():
    with torch.inference_mode():
        return model(images).numpy()
"""


class Side:
    """A process that runs forward passes when told to."""

    def __init__(self, name: str, python: str, setup: str) -> None:
        self.name = name
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "XLA_"))
        }
        self.process = subprocess.Popen(
            [python, "-c", setup + SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.seconds: list[float] = []

    def run(self, repeats: int) -> float:
        """Runs some passes; returns seconds a pass."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{repeats}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended: run its set-up by hand to see why.")
        return float(answer) / repeats


def cpu_name() -> str:
    """Returns the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", required=True, help="checkout of the peer")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    checkout = str(Path(options.upstream).resolve())
    sides = [
        Side(
            "upstream, PyTorch eager",
            options.peer_python,
            UPSTREAM.format(checkout=checkout, batch=options.batch),
        ),
        *(
            Side(
                f"keras_pe, {backend}",
                sys.executable,
                OURS.format(backend=backend, batch=options.batch),
            )
            for backend in ("jax", "torch", "tensorflow")
        ),
    ]
    for side in sides:  # compile and warm up
        side.run(2)
    for _ in range(options.rounds):
        for side in sides:
            side.seconds.append(side.run(options.repeats))
    peer = sides[0]
    rows = {}
    for side in sides:
        ratios = [a / b for a, b in zip(peer.seconds, side.seconds, strict=True)]
        rows[side.name] = {
            "milliseconds an image": round(
                1000 * statistics.median(side.seconds) / options.batch, 1
            ),
            "times as fast as upstream (median of rounds)": round(
                statistics.median(ratios), 2
            ),
            "least": round(min(ratios), 2),
            "most": round(max(ratios), 2),
        }
        print(f"{side.name:28s} {rows[side.name]}")
        assert side.process.stdin is not None
        side.process.stdin.close()
        side.process.wait()
    result = {
        "date": datetime.date.today().isoformat(),
        "hardware": f"{os.cpu_count()} cores, {cpu_name()}",
        "batch": options.batch,
        "rounds": options.rounds,
        "rows": rows,
    }
    output = Path(__file__).parent / "results" / f"forward_cpu_{options.batch}.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
