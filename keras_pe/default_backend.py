"""Picks an installed backend when Keras would pick one that is not there."""

import importlib.util
import json
import os
import sys
from pathlib import Path

BACKENDS = ("jax", "torch", "tensorflow")


def configured_backend() -> str:
    """Returns the backend that Keras will take: its configured one or TensorFlow."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        config = json.loads((Path(home) / "keras.json").read_text())
        return str(config.get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def choose_backend() -> None:
    """Sets `KERAS_BACKEND` if Keras would fail for want of its default backend.

    Keras takes TensorFlow unless told otherwise, so `pip install keras-pe[jax]` alone
    would not run. An explicit choice (`KERAS_BACKEND`, or a configured backend that is
    installed) is never overruled, and nothing happens once Keras is imported.

    Raises:
        ImportError: if no backend is installed at all.
    """
    if os.environ.get("KERAS_BACKEND") or "keras" in sys.modules:
        return
    configured = configured_backend()
    if configured not in BACKENDS or importlib.util.find_spec(configured):
        return
    for backend in BACKENDS:
        if importlib.util.find_spec(backend):
            os.environ["KERAS_BACKEND"] = backend
            return
    raise ImportError(
        "keras_pe needs one of JAX, PyTorch or TensorFlow, and none is installed. "
        'Install one with it: pip install "keras-pe[jax]" (or torch, tensorflow).'
    )
