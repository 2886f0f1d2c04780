"""The tab that answers questions about pictures."""

import html
from pathlib import Path

import gradio as gr

from keras_pe.app.asking import (
    BUNDLED_CAPTIONER,
    LONGEST_QUESTION,
    Captioner,
    answered_as_html,
    ask_pictures,
)
from keras_pe.app.parts_of_a_page import PICTURES, SAMPLES, paths_of, run, upload
from keras_pe.app.settings import AppSettings
from keras_pe.app.told import tell
from keras_pe.printable_text import printable


def ask_tab(settings: AppSettings) -> None:
    """Pictures and a question in, an answer to each out."""
    captioner = settings.captioner
    gr.HTML(_about(captioner), elem_id="ask-about")
    with gr.Row():
        with gr.Column(min_width=300):
            files = upload("Pictures to ask about", PICTURES, several=True)
            question = gr.Dropdown(
                list(captioner.suggested),
                value=captioner.suggested[0],
                allow_custom_value=True,
                label=f"Question, up to {LONGEST_QUESTION} characters",
                info="Choose one, or type your own.",
            )
            go = gr.Button("Ask", variant="primary")
            samples = gr.Button("Ask about the sample drawings", size="sm")
        with gr.Column(min_width=300, scale=2):
            result = gr.HTML(elem_id="ask-result")

    def asked(paths: list[Path], text: str) -> str:
        found = ask_pictures(captioner, paths, text)
        tell(found.notes)
        return answered_as_html(found)

    def ask_given(given: list[str] | None, text: str) -> str:
        return asked(paths_of(given), text)

    def ask_samples(text: str) -> str:
        return asked(SAMPLES, text)

    run(go.click, ask_given, [files, question], result)
    run(samples.click, ask_samples, [question], result)


def _about(captioner: Captioner) -> str:
    name = html.escape(printable(Path(captioner.preset).name))
    said = f"Answers come from a model of its own, <code>{name}</code>"
    if captioner.preset == BUNDLED_CAPTIONER:
        said += (
            ", which knows drawings and printed words only and no photographs: about "
            "half of the drawings it names rightly, and reads four of five single words"
        )
    said += "."
    if captioner.trained_for:
        said += (
            " It was trained for the questions of the list; any other it answers as "
            "well, without a reason."
        )
    return f"<p>{said} It is loaded when it is first asked.</p>"
