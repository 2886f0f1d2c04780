"""The reference numbers of the public implementations, on this device."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# Relative L2 of each output tensor. bfloat16 has 8 bits of mantissa; on CPU the worst
# of all outputs is 9.7e-3.
BOUNDS = {"float32": 1e-5, "bfloat16": 2e-2}


def folders() -> list[str]:
    """Returns the nine reference models."""
    from tests.reference_models import TIMM, UPSTREAM

    return [
        *(f"upstream/{name}" for name in UPSTREAM),
        *(f"timm/{name}" for name in TIMM),
        "open_clip",
    ]


def full_precision() -> None:
    """Turns TF32 off: float32 products must have float32's mantissa."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    else:
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")


def compiled_outputs(folder: str, model: Any) -> Iterator[tuple[str, Any]]:
    """Yields the few outputs that a tower's inference compiles, at the native size.

    PyTorch compiles for some seconds a shape; all shapes run uncompiled elsewhere.
    """
    from tests.reference_models import numbers

    expected = numbers(folder)
    encoder = getattr(model, "vision_encoder", model)
    if folder == "open_clip":
        yield "image_embed", model.encode_image(expected["image"])
        yield "text_embed", model.encode_text(expected["text_ids"])
    elif folder.startswith("upstream"):
        yield "native.output", encoder.encode(expected["native.image"])
        if model is not encoder:
            yield "text.embed", model.encode_text(expected["text.ids"])


def compare(
    folder: str, dtype: str, outputs: Callable[..., Iterator[tuple[str, Any]]]
) -> dict[str, Any]:
    """Returns how far a reference model's outputs are from the published code's."""
    from keras_pe.presets import load_weights
    from tests.arrays import to_numpy
    from tests.presets.test_reference_numbers import build
    from tests.reference_models import checkpoint, numbers, relative_error

    model = build(folder, dtype=dtype)
    load_weights(model, checkpoint(folder))
    expected = numbers(folder)
    errors = {}
    for name, found in outputs(folder, model):
        found = to_numpy(found)
        assert np.isfinite(found).all(), f"{folder} {name} is not finite"
        errors[name] = relative_error(found, expected[name])
    worst = max(errors, key=lambda name: errors[name])
    return {
        "outputs": len(errors),
        "worst": worst,
        "relative L2": float(f"{errors[worst]:.3g}"),
        "bound": BOUNDS[dtype],
        "within": errors[worst] <= BOUNDS[dtype],
    }


def measure(
    dtype: str,
    compiled: bool,
    names: list[str],
    save: Callable[[dict[str, Any]], None],
) -> None:
    """Compares reference models and saves after each.

    Args:
        dtype: "float32" or "bfloat16".
        compiled: the few outputs of `compiled_outputs`, or all, as they come.
        names: of the models.
        save: takes the rows so far.
    """
    from tests.presets.test_reference_numbers import all_outputs

    full_precision()
    rows: dict[str, Any] = {}
    for name in names:
        outputs = compiled_outputs if compiled else all_outputs
        rows[name] = compare(name, dtype, outputs)
        save(rows)
    outside = [name for name, row in rows.items() if not row["within"]]
    if outside:
        raise AssertionError(f"Outside the bound of {BOUNDS[dtype]}: {outside}")
