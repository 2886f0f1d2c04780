"""The page: its frame, and the tabs of naming, layers and searching."""

import html
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from keras_pe.app.ask_tab import ask_tab
from keras_pe.app.class_pictures import folder_classes, zip_classes
from keras_pe.app.layers import PROBES, LayerCurve, layer_curve
from keras_pe.app.map_tabs import similarity_tab, text_tab
from keras_pe.app.naming import name_pictures, named_as_html
from keras_pe.app.parts_of_a_page import (
    PICTURES,
    SAMPLES,
    figure,
    paths_of,
    run,
    upload,
)
from keras_pe.app.searching import (
    MOST_RESULTS,
    found_as_html,
    index_pictures,
    search_pictures,
)
from keras_pe.app.settings import AppSettings
from keras_pe.app.texts import cut_texts, lines_of
from keras_pe.app.told import tell
from keras_pe.preprocessing.prompts import known_classes
from keras_pe.printable_text import printable

TITLE = "Perception Encoder"
NAMES = "an owl\na guitar\na pizza\na rocket\na bicycle\na snowman"
SECONDS_OF_A_FILE = 3600  # after which uploads are deleted


def build_page(settings: AppSettings) -> gr.Blocks:
    """Returns the page, which `server.launch` serves.

    Args:
        settings: the model, and what visitors may read.
    """
    keep = (SECONDS_OF_A_FILE, SECONDS_OF_A_FILE)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=keep) as page:
        gr.HTML(_heading(settings))
        with gr.Tab("Name", id="name"):
            name_tab(settings)
        with gr.Tab("Ask", id="ask"):
            ask_tab(settings)
        with gr.Tab("Similarity", id="similarity"):
            similarity_tab(settings)
        with gr.Tab("Text map", id="text"):
            text_tab(settings)
        with gr.Tab("Layers", id="layers"):
            layers_tab(settings)
        with gr.Tab("Search", id="search"):
            search_tab(settings)
    return page


def _heading(settings: AppSettings) -> str:
    drawings = (
        " It was trained on drawings and knows no photographs: for these start the "
        "page with <code>--preset pe_core_base_patch16_224</code>."
        if "emoji" in settings.preset
        else ""
    )
    return (
        f"<h1>{TITLE}</h1><p>Model: "
        f"<code>{html.escape(printable(Path(settings.preset).name))}</code>."
        f"{drawings}</p>"
    )


# === Name ===
def name_tab(settings: AppSettings) -> None:
    """Pictures and names in, bars out."""
    known = known_classes(settings.parts.metadata)
    with gr.Row():
        with gr.Column(min_width=300):
            files = upload("Pictures", PICTURES, several=True)
            names = gr.Textbox(NAMES, lines=6, max_lines=12, label="Names, one a line")
            every = gr.Checkbox(
                False,
                label=f"Instead, all {len(known[0]) if known else 0:,} names that the "
                f"model knows",
                visible=known is not None,
            )
            go = gr.Button("Name them", variant="primary")
            samples = gr.Button("Name the sample drawings", size="sm")
        with gr.Column(min_width=300, scale=2):
            result = gr.HTML(elem_id="names-result")

    def named(paths: list[Path], text: str, all_names: bool) -> str:
        asked = None if all_names else lines_of(text, "name", least=2)
        found = name_pictures(settings.parts, paths, asked)
        tell(found.notes)
        return named_as_html(found)

    def name_given(given: list[str] | None, text: str, all_names: bool) -> str:
        return named(paths_of(given), text, all_names)

    def name_samples(text: str, all_names: bool) -> str:
        return named(SAMPLES, text, all_names)

    run(go.click, name_given, [files, names, every], result)
    run(samples.click, name_samples, [names, every], result)


# === Layers ===
def layers_tab(settings: AppSettings) -> None:
    """Pictures of known classes in, the curve of all layers out."""
    gr.HTML(
        "<p>Pictures in one folder a class (<code>flowers/rose/1.jpg</code>, "
        "<code>flowers/tulip/2.jpg</code>), twenty or more. Every layer is scored by a "
        "probe; a fifth of the pictures is kept back to test it.</p>"
    )
    with gr.Row():
        with gr.Column(min_width=300):
            archive = upload("A zip of such folders", [".zip"])
            folder = _folder_box(settings)
            probe = gr.Radio([*PROBES], value=next(iter(PROBES)), label="Probe")
            go = gr.Button("Draw the curve", variant="primary")
        with gr.Column(min_width=300, scale=2):
            curve_figure = figure("Score of each layer", "layers-figure")
            words = gr.HTML(elem_id="layers-words")

    def curve(
        given: str | None,
        typed: str,
        probe_name: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  how Gradio gives it
    ) -> tuple[Any, str]:
        def told_progress(share: float, what: str) -> None:
            progress(share, desc=what)

        kind = PROBES.get(probe_name, probe_name)
        if given is None and settings.folder is None:
            raise ValueError("There is no zip yet. Drop one, then try again.")
        with tempfile.TemporaryDirectory() as unpacked:
            if given is not None:
                pictures = zip_classes(given, Path(unpacked))
            else:
                assert settings.folder is not None
                below = settings.folder.below(typed)
                pictures = folder_classes(settings.folder, below)
            found = layer_curve(settings.parts, pictures, kind, told_progress)
        tell(found.notes)
        return found.figure, _curve_as_html(found)

    run(go.click, curve, [archive, folder, probe], [curve_figure, words])


def _curve_as_html(found: LayerCurve) -> str:
    rows = "".join(
        f"<tr><td>{layer}</td><td>{score:.3f}</td><td>{low:.3f} to {high:.3f}</td></tr>"
        for layer, score, low, high in found.table
    )
    return (
        f"<p>{html.escape(found.summary)}</p><table class='pe-table'><tr><th>layer</th>"
        f"<th>{html.escape(found.result.metric)}</th><th>95 % interval</th></tr>{rows}"
        f"</table>"
    )


# === Search ===
def search_tab(settings: AppSettings) -> None:
    """Pictures in, those that are nearest to a text or to a picture out."""
    shared = settings.index
    own = gr.State(None, time_to_live=SECONDS_OF_A_FILE)
    with gr.Row():
        with gr.Column(min_width=300):
            files = upload("Pictures to search", PICTURES, several=True)
            folder = _folder_box(settings)
            go = gr.Button("Index them", variant="primary")
            samples = gr.Button("Index the sample drawings", size="sm")
            said = gr.HTML(_indexed(shared, 0), elem_id="search-said")
        with gr.Column(min_width=300, scale=2):
            text = gr.Textbox(label="Search by words", max_length=300)
            picture = upload("... or by a picture", PICTURES)
            with gr.Row():
                top = gr.Slider(1, MOST_RESULTS, 12, step=1, label="Results")
                search = gr.Button("Search", variant="primary", min_width=120)
    result = gr.HTML(elem_id="search-found")

    def index(
        given: list[str] | None,
        typed: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, str]:
        paths = paths_of(given)
        if not paths and settings.folder is not None:
            paths = settings.folder.pictures(settings.folder.below(typed))
        return indexed(paths, progress)

    def index_samples(
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, str]:
        return indexed(SAMPLES, progress)

    def indexed(paths: list[Path], progress: gr.Progress) -> tuple[Any, str]:
        def told_progress(share: float, what: str) -> None:
            progress(share, desc=what)

        found, notes = index_pictures(settings.parts, paths, told_progress)
        tell(notes)
        return found, _indexed(found, len(notes))

    def find(mine: Any, asked: str, given: str | None, count: float) -> str:
        index = shared if mine is None else mine
        tell(cut_texts(settings.parts.tokenizer, [asked]))
        return found_as_html(
            search_pictures(settings.parts, index, asked, given, int(count))
        )

    run(go.click, index, [files, folder], [own, said])
    run(samples.click, index_samples, [], [own, said])
    for event in (search.click, text.submit):
        run(event, find, [own, text, picture, top], result)


def _indexed(index: Any, left_out: int) -> str:
    if index is None:
        return "<p>No pictures are indexed yet.</p>"
    more = f", {left_out:,} left out" if left_out else ""
    return f"<p>{len(index):,} pictures are indexed{more}.</p>"


def _folder_box(settings: AppSettings) -> gr.Textbox:
    """Returns where a folder is typed; hidden where the page reads none."""
    name = "" if settings.folder is None else settings.folder.name
    return gr.Textbox(
        "",
        label=f"... or a folder below {name}, nothing for all of it",
        placeholder="trip/day1",
        max_length=1000,
        visible=settings.folder is not None,
    )
