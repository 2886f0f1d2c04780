"""Many of JAX's programs in one MLIR context: tests compile them by the thousand."""

import itertools
import threading
from typing import Any

PROGRAMS_A_CONTEXT = 200


def share_contexts() -> None:
    """Lets JAX write many programs in one MLIR context.

    It makes one for each, down to a single addition: a seventh of its time in tests.
    The function is none of JAX's public ones: without it, tests are slower, no more.
    """
    from jax._src.interpreters import mlir

    make = getattr(mlir, "make_ir_context", None)
    if make is None:
        return
    numbers = itertools.count()
    shared: list[Any] = []

    def context() -> Any:
        if threading.current_thread() is not threading.main_thread():
            return make()
        if next(numbers) % PROGRAMS_A_CONTEXT == 0:
            shared[:] = [make()]  # what is written stays in it
        return shared[0]

    mlir.make_ir_context = context
