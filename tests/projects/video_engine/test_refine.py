"""The page of captions, over real HTTP: saved at once, and for this machine alone."""

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import threading

import pytest

from keras_pe.data_engine import clips_of_folder, read_edits, run_engine
from keras_pe.files import only_writer
from projects.video_engine import refine
from projects.video_engine.refine_clips import Clips
from projects.video_engine.refine_server import make_server
from tests.data_engine.parts import LOOSE, engine, folder_of, lines

pytestmark = [pytest.mark.quick, pytest.mark.once]
HOSTILE = "<img src=x onerror=alert(1)>\"'&\u2028"


class Page:
    """A client that asks as the page does."""

    def __init__(self, server, output):
        self.port, self.output = server.server_port, output
        self.rows = lines(output / "rows.jsonl")
        text = self.get("/")[2].decode()
        self.token = re.search(r'token = "([^"]+)"', text)[1]
        self.text = text

    def ask(self, method, path, body=None, **headers):
        """Returns status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, said, **headers):
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        headers = {"X_Page": self.token, **headers}
        status, _, answer = self.ask("POST", path, body, **headers)
        return status, json.loads(answer)

    def edits(self):
        return read_edits(self.output / "edits.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    found = clips_of_folder(folder_of(folder / "clips", 3))
    found[1]["key"] = HOSTILE
    run_engine(found, engine(), folder / "output", LOOSE)
    return folder / "output"


@pytest.fixture
def page(made, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    shutil.copy(made / "rows.jsonl", output)
    server = make_server(Clips(output / "rows.jsonl", output / "edits.jsonl"), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield Page(server, output)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_clip_is_shown_with_all_that_was_said_of_it(page):
    status, headers, body = page.get("/clips/0")
    said, row = json.loads(body), page.rows[0]
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert said["key"] == row["key"]
    assert said["model"] == row["video_caption"]
    assert said["frames"] == row["frame_captions"]
    assert (said["clips"], said["done"], said["edited"]) == (3, 0, False)
    assert said["kind"] == "image"
    assert "path" not in said


def test_an_edit_is_on_the_disk_when_it_is_answered_and_can_be_taken_back(page):
    content = page.rows[0]["content"]
    status, said = page.post("/save", {"content": content, "caption": " An\nowl. "})
    assert (status, said["edit"], said["done"]) == (200, "An owl.", 1)
    assert page.edits() == {content: "An owl."}
    status, said = page.post("/save", {"content": content, "caption": None})
    assert (said["edited"], said["edit"]) == (True, None)
    assert page.edits() == {content: None}
    for expected in ({content: "An owl."}, {}, {}):
        status, said = page.post("/undo", {"content": content})
        assert status == 200
        assert page.edits() == expected
    assert (said["edited"], said["done"]) == (False, 0)


def test_edits_of_before_are_there_again_and_the_next_without_one_is_found(page):
    for row in page.rows[:2]:
        page.post("/save", {"content": row["content"], "caption": "an owl"})
    said = json.loads(page.get("/clips/0/next")[2])
    assert said["place"] == 2
    again = Clips(page.output / "rows.jsonl", page.output / "edits.jsonl")
    assert again.counts() == {"clips": 3, "done": 2}
    assert again.next_without_edit(2) == 2


def test_edits_become_the_captions_of_the_next_run(page, made, tmp_path):
    contents = [row["content"] for row in page.rows]
    page.post("/save", {"content": contents[0], "caption": "An owl."})
    page.post("/save", {"content": contents[2], "caption": None})
    clips = clips_of_folder(made.parent / "clips")
    run_engine(clips, engine(page.edits()), tmp_path / "again", LOOSE)
    rows = lines(tmp_path / "again" / "rows.jsonl")
    assert [row["by_hand"] for row in rows] == [True, False]
    assert rows[0]["caption"] == "An owl."


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"caption": "owl"}, 400),
        ({"content": 3, "caption": "owl"}, 400),
        ({"content": "0" * 64, "caption": "owl"}, 404),
        ({"content": "KNOWN", "caption": ["owl"]}, 400),
        ({"content": "KNOWN", "caption": " "}, 400),
        ({"content": "KNOWN", "caption": "x" * 3000}, 400),
        ({"content": "KNOWN", "caption": "half \ud800"}, 400),
        ({"content": "KNOWN", "caption": "x" * 70_000}, 413),
        (b"[1]", 400),
        (b"{", 400),
        (b"", 400),
        (b"[" * 60_000, 400),
    ],
)
def test_what_is_no_edit_is_refused_and_not_written(page, said, status):
    if isinstance(said, dict) and said.get("content") == "KNOWN":
        said = {**said, "content": page.rows[0]["content"]}
    found, answer = page.post("/save", said)
    assert found == status
    assert answer["error"]
    assert page.edits() == {}
    assert page.get("/clips/0")[0] == 200  # it goes on


# === Who may ask ===
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:PORT"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_hosts_and_pages_get_and_write_nothing(page, headers):
    headers = {
        name: value.replace("PORT", str(page.port)) for name, value in headers.items()
    }
    content = page.rows[0]["content"]
    for path in ("/", "/clips/0", f"/files/{content}"):
        status, _, body = page.get(path, **headers)
        assert status == 403
        assert page.token.encode() not in body
    said = {"content": content, "caption": "owl"}
    assert page.post("/save", said, **headers)[0] == 403
    assert page.edits() == {}


@pytest.mark.parametrize("token", ["", "wrong", "\u00e9"])
def test_who_has_not_loaded_the_page_writes_nothing(page, token):
    said = {"content": page.rows[0]["content"], "caption": "owl"}
    for path in ("/save", "/undo"):
        status, answer = page.post(path, said, X_Page=token)
        assert status == 403
        assert "load it again" in answer["error"]
    assert page.edits() == {}


def test_the_page_itself_may(page):
    said = {"content": page.rows[0]["content"], "caption": "owl"}
    for name in ("127.0.0.1", "localhost"):
        host = f"{name}:{page.port}"
        more = {"Host": host, "Origin": f"http://{host}"}
        assert page.post("/save", said, **more, Sec_Fetch_Site="same-origin")[0] == 200


# === Files ===
def test_a_clip_is_sent_whole_or_in_parts(page):
    row = page.rows[0]
    with open(row["path"], "rb") as file:
        expected = file.read()
    path = f"/files/{row['content']}"
    status, headers, body = page.get(path)
    assert (status, headers["Content-Type"], body) == (200, "image/gif", expected)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    for asked, first, last in (
        ("bytes=3-9", 3, 9),
        ("bytes=5-", 5, len(expected) - 1),
        ("bytes=0-99999999", 0, len(expected) - 1),
    ):
        status, headers, body = page.get(path, Range=asked)
        assert status == 206
        assert body == expected[first : last + 1]
        assert headers["Content-Range"] == f"bytes {first}-{last}/{len(expected)}"
    for asked in ("bytes=-5", "bytes=9-3", "bytes=99999999-", "x"):
        status, _, body = page.get(path, Range=asked)
        assert status in (200, 206)
        assert body in (expected, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/files/../../etc/passwd",
        "/files//etc/passwd",
        "/files/%2e%2e%2frows.jsonl",
        "/files/rows.jsonl",
        "/files/" + "0" * 64,
        "/clips/3",
        "/clips/-1",
        "/clips/999999999999",
        "/refine_server.py",
        "//evil.example/",
        "/etc/passwd",
    ],
)
def test_nothing_but_the_clips_of_the_list_is_sent(page, path):
    status, _, body = page.get(path)
    assert status == 404
    assert "error" in json.loads(body)


def test_a_clip_that_is_gone_is_said(page, made):
    rows = [{**row, "path": str(page.output / "gone.gif")} for row in page.rows]
    clips = Clips(page.output / "rows.jsonl", page.output / "edits.jsonl")
    clips._rows[:] = rows
    server = make_server(clips, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(server.server_close)
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        other = Page(server, page.output)
        status, _, body = other.get(f"/files/{rows[0]['content']}")
    assert status == 404
    assert b"gone" in body


# === The page ===
def test_nothing_of_a_file_is_in_the_page_and_no_script_of_others_runs(page):
    status, headers, body = page.get("/")
    policy = headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)[1]
    assert status == 200
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert f'<script nonce="{nonce}">'.encode() in body
    assert b"{{" not in body
    assert page.get("/")[1]["Content-Security-Policy"] != policy
    for text in ("innerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert text not in page.text
    assert HOSTILE not in page.text
    assert json.loads(page.get("/clips/0")[2])["key"] in {HOSTILE, "00.gif"}


def test_the_script_of_the_page_can_be_read(page, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js to read the script with")
    script = re.search(r"<script[^>]*>(.*)</script>", page.text, re.DOTALL)[1]
    (tmp_path / "page.js").write_text(script)
    subprocess.run([node, "--check", str(tmp_path / "page.js")], check=True)


# === The command ===
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "rows.jsonl is missing"),
        ("", "has no clips"),
        ("{}\n", "line 1, is none of an engine"),
        ("[1]\n", "line 1, is none of an engine"),
    ],
)
def test_a_folder_without_rows_is_refused(tmp_path, rows, said):
    if rows is not None:
        (tmp_path / "rows.jsonl").write_text(rows)
    with pytest.raises(SystemExit, match=said):
        refine.main(["--output", str(tmp_path)])


def test_two_pages_of_one_file_are_refused(page):
    with (
        only_writer(page.output / "edits.jsonl.page"),
        pytest.raises(SystemExit, match="being edited by another page"),
    ):
        refine.main(["--output", str(page.output), "--port", "0"])
