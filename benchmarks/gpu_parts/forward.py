"""Forward passes of one side, in a process that takes turns with the others.

The process prepares every variant (a line of JSON each on standard output), then runs
what it is told on standard input: `variant batch repeats`, answered by the seconds a
pass, or `peak`, answered by its memory. The images lie on the device beforehand and
the results stay there.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu_parts.device import (
    backend,
    peak_memory_gb,
    seconds_each,
    turn,
    wait_for,
)
from benchmarks.gpu_parts.kernels import torch_kernels, xla_kernels

MODELS = ("PE-Core-B16-224", "PE-Core-L14-336", "PE-Spatial-B16-512")
BATCHES = {False: (32, 1, 128), True: (2, 1)}  # the most telling one first
TIMM = {
    "PE-Core-B16-224": "vit_pe_core_base_patch16_224",
    "PE-Core-L14-336": "vit_pe_core_large_patch14_336",
    "PE-Spatial-B16-512": "vit_pe_spatial_base_patch16_512",
}
Pass = Callable[[], Any]


def config_of(model: str, small: bool) -> dict[str, Any]:
    """Returns constructor arguments of the vision tower; small: two narrow blocks."""
    from keras_pe.presets.variants import vision_config

    config = vision_config(model)
    if small:
        config |= {"num_layers": 2, "hidden_dim": 64, "num_heads": 4}
        config |= {"intermediate_dim": 128, "image_size": 4 * config["patch_size"]}
    return config


def images_of(batch: int, side: int) -> Any:
    """Returns bfloat16 noise in [-1, 1], channels last, on the device."""
    import keras

    images = keras.random.uniform((batch, side, side, 3), -1.0, 1.0, seed=0)
    return keras.ops.cast(images, "bfloat16")


class Ours:
    """keras_pe's encoder on the backend of this process."""

    def __init__(self, model: str, small: bool) -> None:
        import keras_pe

        self.config = config_of(model, small)
        made = keras_pe.PESpatial if "Spatial" in model else keras_pe.PEVisionEncoder
        self.encoder = made(**self.config, dtype="bfloat16")
        self.name = f"keras_pe on {backend()}"
        # JAX without compilation dispatches each operation: nobody runs it so.
        both = ("compiled", "eager") if backend() == "torch" else ("compiled",)
        self.variants = both

    def make(self, variant: str, batch: int) -> Pass:
        """Returns a forward pass; the first call compiles it."""
        from keras_pe.models.compiled import no_gradient, run_compiled

        encoder = self.encoder
        images = images_of(batch, self.config["image_size"])

        def eager() -> Any:
            with no_gradient():
                return encoder(images, training=False)

        def compiled() -> Any:
            with no_gradient():
                return run_compiled(encoder, ("benchmark",), encoder.call, images)

        return compiled if variant == "compiled" else eager

    def kernels(self, forward: Pass, batch: int) -> dict[str, Any]:
        """Returns what attention ran as."""
        if backend() == "torch":
            return torch_kernels(forward)
        return xla_kernels(self.program_of_one_block(batch))

    def program_of_one_block(self, batch: int) -> str:
        """Returns XLA's program of an encoder of one block of these sizes.

        The kernel depends on the sizes, not on the number of blocks.
        """
        import jax
        import keras

        one = type(self.encoder)(**{**self.config, "num_layers": 1}, dtype="bfloat16")

        def stateless(values: list[Any], images: Any) -> Any:
            mapping = list(zip(one.variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return one(images, training=False)

        values = [variable.value for variable in one.variables]
        images = images_of(batch, self.config["image_size"])
        return jax.jit(stateless).lower(values, images).compile().as_text()


class Peer:
    """timm's model where timm can be imported, else the plain PyTorch twin."""

    def __init__(self, model: str, small: bool) -> None:
        import torch

        from benchmarks.peers.plain_vit import PlainVisionTower

        self.config = config_of(model, small)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.variants = ("compiled", "eager")
        tower: Any = None
        if not small:
            tower = timm_tower(TIMM[model])
        if tower is not None:
            self.name = "timm"
            tower = tower.to(self.device, torch.bfloat16).eval()
            # timm's own output is the average of the tokens where ours are the tokens.
            tokens = self.config["pooling"] is None
            self.tower = tower.forward_features if tokens else tower
        else:
            self.name = "plain PyTorch twin"
            twin = PlainVisionTower(self.config)
            self.tower = twin.place(self.device, torch.bfloat16)

    def make(self, variant: str, batch: int) -> Pass:
        """Returns a forward pass; the first call compiles it."""
        import torch

        images = images_of(batch, self.config["image_size"]).permute(0, 3, 1, 2)
        images = images.contiguous()
        tower = self.tower
        if variant == "compiled":
            # Inductor needs a C++ compiler and a minute on CPU: only the way is run.
            kind = "inductor" if self.device == "cuda" else "eager"
            tower = torch.compile(tower, dynamic=False, backend=kind)

        def forward() -> Any:
            with torch.no_grad():
                return tower(images)

        return forward

    def kernels(self, forward: Pass, batch: int) -> dict[str, Any]:
        """Returns what attention ran as."""
        return torch_kernels(forward)


def timm_tower(name: str) -> Any:
    """Returns timm's model with random weights, or None without timm or the model."""
    try:
        import timm

        return timm.create_model(name, pretrained=False)
    except (ImportError, RuntimeError, OSError):
        return None


def say(**answer: Any) -> None:
    """Prints a line of JSON for the process that asks."""
    print(json.dumps(answer), flush=True)


def serve(side: str, model: str, small: bool, seconds: float) -> None:
    """Prepares every variant within `seconds`, then answers until the input ends."""
    end = time.monotonic() + seconds
    made: Any = Ours(model, small) if side == "ours" else Peer(model, small)
    say(side=made.name)
    passes: dict[tuple[str, int], Pass] = {}
    with turn(alone=False):
        for batch in BATCHES[small]:
            for variant in made.variants:
                if time.monotonic() > end:
                    say(variant=variant, batch=batch, error="no time to prepare it")
                    continue
                try:
                    start = time.monotonic()
                    forward = made.make(variant, batch)
                    wait_for(forward())
                    passes[variant, batch] = forward
                    took = round(time.monotonic() - start, 1)
                    say(variant=variant, batch=batch, prepared=took)
                except Exception as error:
                    say(variant=variant, batch=batch, error=short(error))
        if passes:
            batch = max(batch for _, batch in passes if batch <= 32)
            chosen = passes.get(("compiled", batch)) or passes["eager", batch]
            try:
                say(kernels=made.kernels(chosen, batch), batch=batch)
            except Exception as error:
                say(kernels={"error": short(error)}, batch=batch)
    say(done=True)
    for line in sys.stdin:
        if line.strip() == "peak":
            say(peak=peak_memory_gb())
            continue
        variant, number, repeats = line.split()
        forward = passes[variant, int(number)]
        try:
            say(seconds=seconds_each(forward, int(repeats)))
        except Exception as error:
            say(error=short(error))


def short(error: BaseException) -> str:
    """Returns the kind and the start of an error's text."""
    return f"{type(error).__name__}: {str(error)[:300]}"
