"""How tests start the programs of this directory that use JAX."""

import json
import os
import socket
from typing import Any


def environment() -> dict[str, str]:
    """Returns the environment of a program on JAX, CPU only."""
    flags = [
        os.environ.get("XLA_FLAGS", ""),
        # Compiles in half the time.
        "--xla_cpu_use_fusion_emitters=false",
        # On a busy machine the virtual devices wait long for each other.
        "--xla_cpu_collective_call_terminate_timeout_seconds=300",
    ]
    return {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(flags),
    }


def free_port() -> int:
    """Returns a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def json_of(output: str) -> Any:
    """Returns the JSON in the last line that a program printed."""
    return json.loads(output.strip().splitlines()[-1])
