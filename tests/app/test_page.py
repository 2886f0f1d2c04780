"""The page in a browser, with real clicks: `python -m tests --app`.

Needs `pip install -e ".[test,app]" playwright` and Chromium, which KERAS_PE_CHROMIUM
names, or else is looked for on this machine.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.app.parts import noise, zipped

pytestmark = [pytest.mark.app, pytest.mark.once, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
DRAWINGS = ROOT / "notebooks" / "drawings"
MILLISECONDS = 120_000  # of a step; machines are busy
BAD_NAME = "<img src=x onerror=alert(1)>.png"
INSTALL = 'pip install -e ".[test,app]" playwright'


def chromium():
    """Returns where Chromium is, or skips."""
    found = os.environ.get("KERAS_PE_CHROMIUM") or next(
        filter(
            None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
        ),
        None,
    )
    if found is None:
        pytest.skip("no Chromium: install one, or name it in KERAS_PE_CHROMIUM")
    return found


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@contextlib.contextmanager
def served(command, log, **environment):
    """Runs what serves a page; yields its address, and stops it afterwards."""
    pytest.importorskip("gradio", reason=INSTALL)
    port = str(free_port())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    environment["GRADIO_SERVER_PORT"] = port
    words = [sys.executable, *(port if word == "PORT" else word for word in command)]
    address = f"http://127.0.0.1:{port}"
    with open(log, "w") as said:
        process = subprocess.Popen(
            words, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(MILLISECONDS // 500):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address, timeout=60).close()
                break
            assert process.poll() is None, Path(log).read_text()
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()  # in the background Ctrl-C may be ignored
        process.wait(60)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of drawings that the page may read, beside one that it may not."""
    top = tmp_path_factory.mktemp("machine")
    noise(top / "secret" / "private.png")
    for kind in ("animal", "plant"):
        names = sorted((DRAWINGS / kind).glob("*.png"))[:12]
        for path in [*names, DRAWINGS / "animal" / "owl.png"]:
            target = top / "drawings" / kind / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return top / "drawings"


@pytest.fixture(scope="module")
def address(root, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "server.log"
    command = [
        "-m",
        "keras_pe.cli.main",
        "app",
        "--folder",
        str(root),
        "--port",
        "PORT",
    ]
    with served(command, log) as found:
        yield found
    said = log.read_text()
    # Of a file that was not uploaded Gradio tells the log, and of nothing else.
    refused = said.count("InvalidPathError: Cannot move")
    assert said.count("Traceback") == refused, said


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason=INSTALL)
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    """A fresh page; afterwards nothing may have been fetched from elsewhere."""
    opened = browser.new_page(viewport={"width": 1100, "height": 900})
    opened.set_default_timeout(MILLISECONDS)
    fetched, dialogs = [], []
    opened.on("request", lambda request: fetched.append(request.url))
    opened.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    opened.goto(address)
    opened.get_by_role("tab", name="Name").wait_for()
    yield opened
    elsewhere = [u for u in fetched if not u.startswith((address, "data:", "blob:"))]
    assert not elsewhere
    assert not dialogs  # no name of a file was run as code
    opened.close()


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def give(page, *paths, place=0):
    """Uploads files into an upload of the tab that is shown."""
    inputs = page.locator("[role=tabpanel]:visible input[type=file]")
    inputs.nth(place).set_input_files([str(path) for path in paths])
    page.get_by_text(Path(paths[0]).stem[:8]).locator("visible=true").first.wait_for()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def error(page):
    """Returns the message that the page shows, and closes it."""
    toast = page.get_by_test_id("toast-body").filter(has_text="Error").first
    toast.wait_for()
    said = toast.inner_text()
    toast.get_by_test_id("toast-close").click()
    toast.wait_for(state="detached")
    return said


def test_pictures_are_named(page, tmp_path):
    press(page, "Name them")
    assert "There is no picture yet" in error(page)
    bad = noise(tmp_path / BAD_NAME)
    give(page, DRAWINGS / "animal" / "owl.png", bad)
    box = page.get_by_label("Names, one a line")
    box.fill("an owl")
    press(page, "Name them")
    assert "Got 1 name; expected 2 to 200" in error(page)
    box.fill("an owl\n<b>pizza</b> ${alert(1)}\na guitar")
    press(page, "Name them")
    cards = page.locator("#names-result .pe-card")
    cards.nth(1).wait_for()
    assert cards.count() == 2
    first = cards.nth(0)
    assert first.locator(".pe-name").first.inner_text() == "an owl"
    share = first.locator(".pe-share").first.inner_text()
    assert float(share.rstrip("%")) > 50
    bar = first.locator(".pe-bar > span").first.bounding_box()["width"]
    whole = first.locator(".pe-bar").first.bounding_box()["width"]
    assert bar / whole == pytest.approx(float(share.rstrip("%")) / 100, abs=0.02)
    assert "<b>pizza</b> ${alert(1)}" in first.inner_text()
    assert cards.locator("img").count() == 2
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.get_by_label("Clear").first.click()
    give(page, tmp_path / "bad.png")
    press(page, "Name them")
    assert "bad.png: not an image of an allowed format" in error(page)


def ask(page, question):
    """Types a question over the one that stands there."""
    box = page.get_by_label("Question, up to 200 characters").locator("visible=true")
    box.fill(question)
    box.press("Enter")
    box.press("Escape")


def test_questions_are_answered(page, tmp_path):
    tab(page, "Ask")
    about = page.locator("#ask-about").inner_text()
    assert "pe_captioner_emoji_patch8_64" in about
    assert "drawings and printed words only" in about
    press(page, "Ask")
    assert "There is no picture yet" in error(page)
    box = page.get_by_label("Question, up to 200 characters").locator("visible=true")
    assert box.input_value() == "What is this?"
    box.click()
    options = page.get_by_role("option").all_inner_texts()
    assert {"What does it say?", "How many things are there?"} <= {
        option.strip("\u2713 ") for option in options
    }
    box.press("Escape")
    give(page, DRAWINGS / "animal" / "crab.png", noise(tmp_path / BAD_NAME))
    ask(page, "x" * 201)
    press(page, "Ask")
    assert "A question of 201 characters; expected at most 200" in error(page)
    ask(page, "What is this?")
    press(page, "Ask")
    cards = page.locator("#ask-result .pe-card")
    cards.nth(1).wait_for()
    assert cards.count() == 2
    assert cards.nth(0).locator(".pe-answer").inner_text() == "crab"
    assert cards.locator("img").count() == 2
    assert "onerror=alert(1)" in cards.nth(1).inner_text()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.get_by_label("Clear").locator("visible=true").first.click()
    give(page, tmp_path / "bad.png")
    press(page, "Ask")
    assert "bad.png: not an image of an allowed format" in error(page)
    ask(page, "What kind of thing is this?")
    press(page, "Ask about the sample drawings")
    cards.nth(7).wait_for()
    said = dict(
        zip(
            page.locator("#ask-result figcaption").all_inner_texts(),
            page.locator("#ask-result .pe-answer").all_inner_texts(),
            strict=True,
        )
    )
    assert said["guitar.png"] == "musical instrument"


def test_a_click_shows_what_is_alike(page, tmp_path):
    tab(page, "Similarity")
    press(page, "Compare")
    assert "There is no picture yet" in error(page)
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    give(page, tmp_path / "damaged.png")
    said = error(page)
    assert "damaged.png: " in said
    assert str(tmp_path) not in said
    assert "/tmp" not in said
    page.get_by_label("Clear").locator("visible=true").first.click()
    give(page, DRAWINGS / "animal" / "owl.png")
    picture = page.locator("#similarity-picture img")
    picture.wait_for()
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.3})
    page.locator("#similarity-figure img").wait_for()
    page.locator("#pca-figure img").wait_for()
    assert page.get_by_label("Row").input_value() == "2"  # of 9
    assert page.get_by_label("Column").input_value() == "4"
    before = page.locator("#similarity-figure img").get_attribute("src")
    page.locator(".pe-samples button").locator("visible=true").nth(3).click()
    page.locator("#similarity-figure img").wait_for(state="detached")  # of the owl
    page.get_by_label("Row").fill("9")
    page.get_by_label("Column").fill("1")
    press(page, "Compare")
    assert "expected rows 0 to 8 and columns 0 to 8" in error(page)
    page.get_by_label("Row").fill("8")
    press(page, "Compare")
    page.wait_for_function(
        "before => document.querySelector('#similarity-figure img')?.src != before",
        arg=before,
    )


def test_where_a_text_is(page):
    tab(page, "Text map")
    page.locator(".pe-samples button").locator("visible=true").nth(4).click()
    page.locator("#text-picture img").wait_for()
    page.get_by_label("Texts, one a line").fill("an owl\na guitar")
    press(page, "Where is it?")
    figure = page.locator("#text-figure img")
    figure.wait_for()
    assert (
        figure.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    )
    page.get_by_label("Texts, one a line").fill(" ")
    press(page, "Where is it?")
    assert "Got no texts; expected 1 to 7" in error(page)


def test_the_curve_of_layers(page, root, tmp_path):
    tab(page, "Layers")
    folder = page.get_by_label("a folder below drawings").locator("visible=true")
    for typed in ("../secret", "/etc"):
        folder.fill(typed)
        press(page, "Draw the curve")
        assert "leads out of the folder that this page may read" in error(page)
    folder.fill("no_such")
    press(page, "Draw the curve")
    assert "There is no folder 'no_such' in drawings" in error(page)
    (tmp_path / "bad.zip").write_bytes(b"PK")
    give(page, tmp_path / "bad.zip")
    press(page, "Draw the curve")
    assert "bad.zip is no sound zip file" in error(page)
    page.get_by_label("Clear").locator("visible=true").first.click()
    contents = {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")
    }
    give(page, zipped(tmp_path / "pictures.zip", contents))
    press(page, "Draw the curve")
    page.locator("#layers-figure img").wait_for()
    words = page.locator("#layers-words").inner_text()
    assert "accuracy" in words
    assert page.locator("#layers-words tr").count() == 1 + 7  # layers 0 to 6


def test_search_by_words_and_by_a_picture(page):
    tab(page, "Search")
    page.get_by_label("Search by words").fill("an owl")
    press(page, "Search")
    assert "index some first" in error(page)
    folder = page.get_by_label("a folder below drawings").locator("visible=true")
    folder.fill("plant/../../secret")
    press(page, "Index them")
    assert "leads out of the folder that this page may read" in error(page)
    folder.fill("animal")
    press(page, "Index them")
    page.get_by_text("13 pictures are indexed.").wait_for()
    press(page, "Search")
    cards = page.locator("#search-found .pe-card")
    cards.nth(11).wait_for()
    assert "owl.png" in cards.nth(0).inner_text()
    assert cards.nth(0).locator("img").get_attribute("src").startswith("data:image/")
    give(page, DRAWINGS / "animal" / "crab.png", place=1)
    press(page, "Search")
    assert "one of the two, got both" in error(page)
    page.get_by_label("Search by words").fill("")
    press(page, "Search")
    page.locator("#search-found .pe-card", has_text="1.000").first.wait_for()
    assert "crab.png" in cards.nth(0).inner_text()


def test_a_narrow_screen_needs_no_scrolling_sideways(page):
    page.set_viewport_size({"width": 360, "height": 740})
    page.reload()
    page.get_by_role("tab", name="Search").wait_for()  # no tab is hidden in a menu
    for name in ("Name", "Ask", "Similarity", "Text map", "Layers", "Search"):
        tab(page, name)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, name


def answer(address, path, body=None):
    """Returns the status and the text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as failed:
        return failed.code, failed.read().decode()


def test_no_other_file_of_the_machine_is_served(address, root):
    private = root.parent / "secret" / "private.png"
    places = ["/etc/passwd", str(private), str(root / "animal" / "owl.png")]
    for place in [*places, f"{root}/../secret/private.png"]:
        assert answer(address, f"/gradio_api/file={place}")[0] in (403, 404), place
    for place in ("http://127.0.0.1:1/", "https://example.org/a.png"):
        status, said = answer(address, f"/gradio_api/file={place}")
        assert (status, said[:22]) == (403, "No address is fetched:"), place
        assert answer(address, f"/gradio_api/proxy={place}")[0] == 403
        file = {"path": place, "meta": {"_type": "gradio.FileData"}}
        call = {"data": [[file], "a\nb", False], "fn_index": 0, "session_hash": "a"}
        for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
            status, said = answer(address, path, call)
            assert (status, said[:22]) == (403, "No address is fetched:"), path


def test_an_upload_that_was_none_is_refused(address, root):
    """A visitor may name a file in place of an upload: only uploads are read."""
    private = str(root.parent / "secret" / "private.png")
    config = json.loads(answer(address, "/config")[1])
    names = next(each for each in config["dependencies"] if len(each["inputs"]) == 3)
    file = {"path": private, "meta": {"_type": "gradio.FileData"}}
    call = {
        "data": [[file], "an owl\na cat", False],
        "fn_index": names["id"],
        "session_hash": "visitor",
    }
    status, _ = answer(address, "/gradio_api/queue/join", call)
    assert status == 200
    _, said = answer(address, "/gradio_api/queue/data?session_hash=visitor")
    assert '"success":false' in said.replace(" ", "")
    assert "private.png" not in said.replace(private, "")
    assert "pe-card" not in said


def test_the_space_serves_the_same_page(browser, tmp_path):
    with served([str(ROOT / "deploy" / "space" / "app.py")], tmp_path / "log") as found:
        opened = browser.new_page()
        opened.set_default_timeout(MILLISECONDS)
        opened.goto(found)
        opened.get_by_role("tab", name="Similarity").wait_for()
        opened.get_by_text("pe_core_emoji_patch8_64").first.wait_for()
        opened.close()
