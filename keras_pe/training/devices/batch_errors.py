"""Errors of a data set, as they were before TensorFlow made others of them."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any


class RememberedErrors:
    """Batches that keep the error which ended them.

    Args:
        batches: start anew whenever they are iterated over.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.batches
        except GeneratorExit:  # nobody asks for more: no error
            raise
        except BaseException as error:  # an interrupt too
            self.error = error
            raise


@contextlib.contextmanager
def as_it_was(batches: Any) -> Iterator[None]:
    """Raises the error that ended batches in place of what was made of it.

    Args:
        batches: `RememberedErrors`; with any others nothing changes.
    """
    try:
        yield
    except Exception as error:
        cause = getattr(batches, "error", None)
        if isinstance(cause, BaseException) and cause is not error:
            raise cause from error
        raise
