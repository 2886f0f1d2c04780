"""The tabs that show one picture patch by patch: similarity and text."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

from keras_pe.app.maps import (
    NO_PICTURE,
    Looked,
    check_patch,
    look_at,
    patch_at,
    pca_picture,
    similarity_picture,
    text_picture,
    with_grid,
)
from keras_pe.app.parts_of_a_page import (
    PICTURES,
    figure,
    run,
    sample_gallery,
    sample_of,
    upload,
)
from keras_pe.app.settings import AppSettings
from keras_pe.app.texts import cut_texts, lines_of
from keras_pe.app.told import tell

MOST_TEXTS = 7
SECONDS_OF_A_STATE = 3600


class PictureInput(NamedTuple):
    """Where a picture is given, and what is known of it.

    Attributes:
        file: the upload.
        samples: drawings to click on.
        looked: the picture, prepared.
    """

    file: gr.File
    samples: gr.Gallery
    looked: gr.State


def picture_input() -> PictureInput:
    """Returns the upload and the sample drawings."""
    return PictureInput(
        upload("A picture", PICTURES),
        sample_gallery(),
        gr.State(None, time_to_live=SECONDS_OF_A_STATE),
    )


def when_given(
    given: PictureInput,
    settings: AppSettings,
    show: Callable[[Looked | None, float | None], Any],
    outputs: list[Any],
    layer: gr.Slider | None = None,
) -> None:
    """Shows a picture as soon as it is there.

    Args:
        given: where it comes from.
        settings: the model that it is prepared for.
        show: is given the picture, None if it was taken away, and the layer; returns
            the outputs.
        outputs: components; the picture itself comes before them.
        layer: where the layer is chosen; None if it does not matter.
    """

    def uploaded(path: str | None, number: float | None = None) -> Any:
        looked = None if path is None else look_at(settings.parts, path)
        return [looked, *show(looked, number)]

    def chosen(event: gr.SelectData, number: float | None = None) -> Any:
        looked = look_at(settings.parts, sample_of(event))
        return [looked, *show(looked, number)]

    chosen_layer = [] if layer is None else [layer]
    places = [given.looked, *outputs]
    run(given.file.change, uploaded, [given.file, *chosen_layer], places)
    run(given.samples.select, chosen, chosen_layer, places)


# === Similarity ===
def similarity_tab(settings: AppSettings) -> None:
    """A click on a patch in, what resembles it out."""
    last = settings.parts.model.vision_encoder.num_layers
    with gr.Row():
        with gr.Column(min_width=300):
            given = picture_input()
            layer = gr.Slider(0, last, last, step=1, label="Layer")
        with gr.Column(min_width=300, scale=2):
            shown = figure("Click a patch", "similarity-picture")
            with gr.Row():
                row = gr.Number(None, label="Row", precision=0, min_width=80)
                column = gr.Number(None, label="Column", precision=0, min_width=80)
                go = gr.Button("Compare", min_width=80)
            similar = figure("What resembles it", "similarity-figure")
            main = figure("Patches in three main colours", "pca-figure")

    def show(looked: Looked | None, number: float | None) -> list[Any]:
        if looked is None or number is None:
            return [None] * 5
        colours, _ = pca_picture(settings.parts, looked, int(number))
        return [with_grid(looked), None, None, None, colours]

    def compared(looked: Looked, point: tuple[int, int], number: int) -> list[Any]:
        similar, _ = similarity_picture(settings.parts, looked, point, number)
        return [with_grid(looked, point), *point, similar]

    def clicked(event: gr.SelectData, looked: Any, number: float) -> list[Any]:
        if looked is None:
            raise ValueError(NO_PICTURE)
        x, y = event.index
        return compared(looked, patch_at(looked, float(x), float(y)), int(number))

    def typed(looked: Any, down: Any, across: Any, number: float) -> list[Any]:
        if looked is None:
            raise ValueError(NO_PICTURE)
        check_patch(looked, down, across)
        return compared(looked, (int(down), int(across)), int(number))

    def relayered(looked: Any, down: Any, across: Any, number: float) -> list[Any]:
        if looked is None:
            return [None, None]
        colours, _ = pca_picture(settings.parts, looked, int(number))
        if down is None or across is None:
            return [None, colours]
        check_patch(looked, down, across)
        point = (int(down), int(across))
        similar, _ = similarity_picture(settings.parts, looked, point, int(number))
        return [similar, colours]

    pictures = [shown, row, column, similar, main]
    when_given(given, settings, show, pictures, layer)
    outputs = [shown, row, column, similar]
    run(shown.select, clicked, [given.looked, layer], outputs)
    run(go.click, typed, [given.looked, row, column, layer], outputs)
    run(layer.release, relayered, [given.looked, row, column, layer], [similar, main])


# === Text ===
def text_tab(settings: AppSettings) -> None:
    """A picture and texts in, where each is out."""
    with gr.Row():
        with gr.Column(min_width=300):
            given = picture_input()
            shown = figure("The picture", "text-picture", height=220)
            texts = gr.Textbox(
                "an owl",
                lines=3,
                max_lines=8,
                label=f"Texts, one a line, up to {MOST_TEXTS}",
            )
            go = gr.Button("Where is it?", variant="primary")
        with gr.Column(min_width=300, scale=2):
            maps = figure("Where each text is, on one scale", "text-figure")

    def show(looked: Looked | None, _: float | None) -> list[Any]:
        return [None if looked is None else with_grid(looked), None]

    def where(looked: Any, text: str) -> Any:
        if looked is None:
            raise ValueError(NO_PICTURE)
        asked = lines_of(text, "text", most=MOST_TEXTS)
        tell(cut_texts(settings.parts.tokenizer, asked))
        return text_picture(settings.parts, looked, asked)[0]

    when_given(given, settings, show, [shown, maps])
    run(go.click, where, [given.looked, texts], maps)
