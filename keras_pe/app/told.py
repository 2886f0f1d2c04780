"""What goes wrong, said in the page."""

import functools
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.printable_text import printable

SECONDS = 20.0  # that a message stays
UNEXPECTED = "Something went wrong on the server; what it was stands in its log."


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a message in the page of each error, without its traceback.

    Messages are shown as HTML, so they are escaped. Of a file the name is said, not
    where the server keeps it.
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any, **more: Any) -> Any:
        try:
            return function(*arguments, **more)
        except ImageError as error:
            name = Path(error.name).name
            raise _error(f"{name}: {error.reason}. {error.detail}") from None
        except ValueError as error:
            raise _error(str(error)) from None
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(UNEXPECTED, duration=SECONDS) from error

    return wrapped


def tell(notes: Sequence[str]) -> None:
    """Shows notes that are no errors."""
    for note in notes[:3]:
        gr.Warning(html.escape(printable(note)), duration=SECONDS)
    if len(notes) > 3:
        gr.Warning(f"... and {len(notes) - 3} more like these", duration=SECONDS)


def _error(message: str) -> gr.Error:
    return gr.Error(
        html.escape(printable(message)), duration=SECONDS, print_exception=False
    )
