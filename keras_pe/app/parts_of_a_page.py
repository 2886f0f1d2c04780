"""What several tabs share: sample drawings, kinds of files, how events are run."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

import keras_pe
from keras_pe.app.told import told
from keras_pe.preprocessing.media_folders import IMAGE_SUFFIXES
from keras_pe.preprocessing.thumbnails import thumbnail

PICTURES = [*IMAGE_SUFFIXES]
SAMPLES = sorted((Path(keras_pe.__file__).parent / "cli" / "demo_images").glob("*.png"))


def upload(label: str, kinds: list[str], several: bool = False) -> gr.File:
    """Returns where files are dropped.

    Args:
        label: what they are.
        kinds: endings of their names.
        several: whether more than one is taken.
    """
    return gr.File(
        label=label,
        file_types=kinds,
        file_count="multiple" if several else "single",
        height=150,
    )


def figure(heading: str, name: str, height: int | None = None) -> gr.Image:
    """Returns where a picture is shown, below a heading: a label would lie on it.

    Args:
        heading: what it shows.
        name: of the element, for styles and tests.
        height: in pixels; None for that of the picture.
    """
    gr.HTML(f"<h3>{html.escape(heading)}</h3>")
    return gr.Image(
        show_label=False,
        label=heading,
        interactive=False,
        format="png",
        buttons=[],
        height=height,
        elem_id=name,
    )


def sample_gallery() -> gr.Gallery:
    """Returns the sample drawings, to be clicked on."""
    pictures: list[tuple[Image.Image, str]] = [
        (thumbnail(path, 96), path.stem) for path in SAMPLES
    ]
    gr.HTML("<p>... or one of these drawings:</p>")
    return gr.Gallery(
        pictures,
        show_label=False,
        label="Drawings",
        columns=4,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        format="png",
        buttons=[],
        elem_classes=["pe-samples"],
    )


def sample_of(event: gr.SelectData) -> Path:
    """Returns the file of the drawing that was clicked on.

    Raises:
        ValueError: if there is none of that number.
    """
    number = event.index
    if not isinstance(number, int) or not 0 <= number < len(SAMPLES):
        raise ValueError(f"There is no drawing {number!r}: take one of those shown.")
    return SAMPLES[number]


def paths_of(given: list[str] | None) -> list[Path]:
    """Returns the files that were uploaded."""
    return [Path(path) for path in given or []]


def run(event: Callable[..., Any], function: Callable[..., Any], *places: Any) -> Any:
    """Calls a function at an event: one at a time, for all share one model.

    Args:
        event: such as `button.click`.
        function: its errors become messages in the page.
        places: components in and out.
    """
    return event(
        told(function),
        *places,
        concurrency_limit=1,
        concurrency_id="model",
        api_visibility="private",
    )
