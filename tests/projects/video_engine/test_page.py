"""The page of captions in Chromium, by its keys: `python -m tests --app`."""

import threading

import pytest

from keras_pe.data_engine import clips_of_folder, read_edits, run_engine
from projects.video_engine.refine_clips import Clips
from projects.video_engine.refine_server import make_server
from tests.app.test_page import MILLISECONDS, chromium
from tests.data_engine.parts import LOOSE, clip, engine, lines

pytestmark = [pytest.mark.app, pytest.mark.once, pytest.mark.timeout(900)]
HOSTILE = "<img src=x onerror=alert(1)>.gif"


@pytest.fixture
def page(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    for number, name in enumerate(("a.gif", HOSTILE, "z.gif")):
        clip(tmp_path / "clips" / name, number)
    output = tmp_path / "output"
    run_engine(clips_of_folder(tmp_path / "clips"), engine(), output, LOOSE)
    server = make_server(Clips(output / "rows.jsonl", output / "edits.jsonl"), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(
                executable_path=chromium(), args=["--no-sandbox"]
            )
            found = browser.new_page()
            found.set_default_timeout(MILLISECONDS)
            found.errors = []
            found.on("pageerror", lambda error: found.errors.append(str(error)))
            found.on("dialog", lambda dialog: found.errors.append(dialog.message))
            found.on(
                "console",
                lambda said: (
                    found.errors.append(said.text) if said.type == "error" else None
                ),
            )
            found.goto(f"http://127.0.0.1:{server.server_port}/")
            found.output = output
            yield found
            browser.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_for(page, name, text):
    page.wait_for_function(
        "([name, text]) => document.getElementById(name).textContent === text",
        arg=[name, text],
    )


def test_clips_are_corrected_refused_and_taken_back_by_keys(page):
    contents = {row["content"] for row in lines(page.output / "rows.jsonl")}
    wait_for(page, "place", "1 / 3")
    keys = page.keyboard
    assert page.input_value("#caption") == page.inner_text("#model")
    keys.press("e")
    keys.press("Control+a")
    keys.type("an owl: xun e")  # letters that are keys outside of the text
    wait_for(page, "state", "(not saved)")
    keys.press("Control+Enter")
    wait_for(page, "done", "1 done")
    wait_for(page, "place", "2 / 3")
    keys.press("Escape")
    keys.press("x")
    wait_for(page, "done", "2 done")
    wait_for(page, "place", "3 / 3")
    edits = page.output / "edits.jsonl"
    assert len(read_edits(edits)) == 2
    assert "an owl: xun e" in read_edits(edits).values()
    assert None in read_edits(edits).values()
    keys.press("ArrowLeft")
    wait_for(page, "state", "(refused)")
    keys.press("u")
    wait_for(page, "done", "1 done")
    keys.press("ArrowLeft")
    wait_for(page, "place", "1 / 3")
    wait_for(page, "state", "(saved)")
    assert page.input_value("#caption") == "an owl: xun e"
    keys.press("n")
    wait_for(page, "place", "2 / 3")
    assert list(read_edits(edits).values()) == ["an owl: xun e"]
    assert set(read_edits(edits)) <= contents
    assert page.errors == []


def test_names_are_text_and_clips_are_shown(page):
    names = []
    for place in (1, 2, 3):
        wait_for(page, "place", f"{place} / 3")
        names.append(page.inner_text("#key"))
        page.wait_for_function(
            "() => document.querySelector('#clip img').naturalWidth === 8"
        )
        page.keyboard.press("ArrowRight")
    assert HOSTILE in names
    assert page.locator("#key img").count() == 0
    assert page.errors == []


def test_a_draft_stays_while_one_looks_elsewhere_and_an_error_is_shown(page):
    wait_for(page, "place", "1 / 3")
    page.fill("#caption", "half done")
    page.locator("#caption").press("Escape")
    page.keyboard.press("ArrowRight")
    wait_for(page, "place", "2 / 3")
    page.keyboard.press("ArrowLeft")
    wait_for(page, "place", "1 / 3")
    assert page.input_value("#caption") == "half done"
    page.keyboard.press("u")  # what is typed goes
    wait_for(page, "state", "(the model's)")
    page.fill("#caption", "...")
    page.locator("#caption").press("Control+Enter")
    page.wait_for_function(
        "() => document.getElementById('error').textContent.includes('empty caption')"
    )
    assert read_edits(page.output / "edits.jsonl") == {}
