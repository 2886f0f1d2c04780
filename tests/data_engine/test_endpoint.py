"""A model behind an address: what it is asked, and all that may go wrong."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from keras_pe.data_engine import (
    ChatEndpoint,
    EndpointCaptioner,
    Engine,
    FrameCaptions,
    RefinedCaption,
    StageFailure,
    Summary,
    VideoCaption,
    clips_of_folder,
    run_engine,
)
from tests.data_engine.chat_server import chat_server, completion, send
from tests.data_engine.parts import LOOSE, folder_of, lines, stages

pytestmark = [pytest.mark.quick, pytest.mark.once]
SECRET = "sk-secret0123456789"


def always(status, body, **headers):
    return lambda handler, number, asked: send(handler, status, body, **headers)


def endpoint(asked, **changes):
    settings = {"timeout": 5.0, "wait": 0.0, "tries": 3, **changes}
    return ChatEndpoint(asked.url, "llama", **settings)


def failure_of(asked, **changes):
    with pytest.raises(StageFailure) as caught:
        endpoint(asked, **changes).ask("what?")
    assert caught.value.lasting is False
    return caught.value


def test_it_asks_as_such_servers_expect_and_returns_the_answer():
    with chat_server(always(200, completion("an owl"))) as asked:
        model = endpoint(asked, max_tokens=7)
        assert model.answer(model.load(), "What?") == "an owl"
    assert asked.bodies == [
        {
            "model": "llama",
            "messages": [{"role": "user", "content": "What?"}],
            "temperature": 0,
            "max_tokens": 7,
        }
    ]
    assert "Authorization" not in asked.headers[0]


def test_frames_are_sent_as_png_in_their_order():
    frames = np.stack([np.full((4, 4, 3), value, "float32") for value in (-1, 0, 1)])
    with chat_server(always(200, completion("an owl"))) as asked:
        captioner = EndpointCaptioner(endpoint(asked), "frame?", "video?", 4, 3)
        assert captioner.of_video(captioner.load(), frames) == "an owl"
        assert captioner.of_frames(None, frames) == ["an owl"] * 3
    video, *single = [body["messages"][0]["content"] for body in asked.bodies]
    assert video[0] == {"type": "text", "text": "video?"}
    assert [content[0]["text"] for content in single] == ["frame?"] * 3
    values = []
    for part in [*video[1:], *(content[1] for content in single)]:
        kind, _, data = part["image_url"]["url"].partition(",")
        assert kind == "data:image/png;base64"
        values.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
    assert [int(value.mean()) for value in values] == [0, 128, 255] * 2
    assert values[0].shape == (4, 4, 3)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_asked_again(status):
    def respond(handler, number, asked):
        send(handler, *((200, completion("owl")) if number == 2 else (status, b"busy")))

    with chat_server(respond) as asked:
        assert endpoint(asked).ask("what?") == "owl"
        assert len(asked.bodies) == 3


def test_the_last_error_is_said_when_it_does_not_pass():
    with chat_server(always(503, b"busy")) as asked:
        failure = failure_of(asked)
    assert (failure.reason, failure.detail) == ("the endpoint refused", "503: busy")
    assert len(asked.bodies) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_asked_again(status):
    with chat_server(always(status, b"no")) as asked:
        failure = failure_of(asked)
    assert failure.detail == f"{status}: no"
    assert len(asked.bodies) == 1


def test_a_server_that_hangs_is_left_after_the_timeout():
    def respond(handler, number, asked):
        asked.end.wait(30)

    with chat_server(respond) as asked:
        failure = failure_of(asked, timeout=0.2, tries=2)
    assert failure.reason == "the endpoint did not answer"
    assert "timed out" in failure.detail
    assert len(asked.bodies) == 2


def test_a_server_that_sends_a_byte_now_and_then_is_left_too():
    def respond(handler, number, asked):
        handler.send_response(200)
        handler.end_headers()
        while not asked.end.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    with chat_server(respond) as asked:
        failure = failure_of(asked, timeout=0.3, tries=1)
    assert "did not end" in failure.detail


def test_no_server_and_no_http_are_no_answer():
    def respond(handler, number, asked):
        handler.wfile.write(b"nothing of HTTP\r\n\r\n")

    with chat_server(respond) as asked:
        assert failure_of(asked).reason == "the endpoint did not answer"
    assert failure_of(asked).reason == "the endpoint did not answer"  # it is gone


def test_an_answer_that_is_cut_off_is_none():
    def respond(handler, number, asked):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(completion("an owl")[:20])

    with chat_server(respond) as asked:
        assert failure_of(asked).reason in (
            "the endpoint did not answer",
            "the endpoint's answer is none",
        )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {}}]}',
        b'{"choices": [{"message": null}]}',
        b"\xff\xfe",
        b"[" * 100_000,
        completion(None),
        completion(3),
        completion(["owl"]),
    ],
)
def test_what_is_no_answer_is_refused(body):
    with chat_server(always(200, body)) as asked:
        failure = failure_of(asked)
    assert failure.reason == "the endpoint's answer is none"
    assert len(failure.detail) <= 300


def test_an_answer_that_is_too_large_is_not_read_to_its_end():
    with chat_server(always(200, b" " * (3 << 20))) as asked:
        failure = failure_of(asked)
    assert failure.detail == "More than 1,048,576 bytes."


def test_a_redirect_is_refused_and_no_key_goes_elsewhere(monkeypatch):
    monkeypatch.setenv("ENGINE_KEY", SECRET)
    with chat_server(always(200, completion("stolen"))) as other:
        location = f"{other.url}/chat/completions"
        for status in (301, 302, 307, 308):
            with chat_server(always(status, b"", Location=location)) as asked:
                failure = failure_of(asked, key_variable="ENGINE_KEY")
            assert failure.detail.startswith(f"{status}:")
    assert other.bodies == []


# === The key ===
def test_the_key_is_sent_and_is_nowhere_else(tmp_path, monkeypatch):
    """Not when it works, not when the server repeats it, not in any file."""
    monkeypatch.setenv("ENGINE_KEY", f" {SECRET}\n")

    def respond(handler, number, asked):
        said = completion(f"an owl {number} {SECRET}").decode()
        refused = f"Incorrect key: {SECRET} " + "x" * 280 + SECRET
        send(
            handler, *((200, said.encode()) if number % 5 else (401, refused.encode()))
        )

    found = clips_of_folder(folder_of(tmp_path / "clips", 4))
    with chat_server(respond) as asked:
        model = endpoint(asked, key_variable="ENGINE_KEY", tries=1)
        captioner = EndpointCaptioner(model, image_size=8, num_frames=2)
        captions = [VideoCaption(captioner), RefinedCaption({})]
        whole = Engine([*captions, FrameCaptions(captioner), Summary(model)])
        run_engine(found, whole, tmp_path / "output", LOOSE)
    assert {each["Authorization"] for each in asked.headers} == {f"Bearer {SECRET}"}
    files = [path for path in (tmp_path / "output").rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        assert SECRET[:10].encode() not in path.read_bytes(), path
    failures = lines(tmp_path / "output" / "failures.jsonl")
    assert failures
    assert all("Incorrect key: ***" in row["failure"]["detail"] for row in failures)
    rows = lines(tmp_path / "output" / "rows.jsonl")
    assert all("***" in row["caption"] for row in rows)


@pytest.mark.parametrize("key", [None, "", "two\nlines", "k\u00e9y"])
def test_a_key_that_is_none_ends_the_run_before_anything_is_asked(monkeypatch, key):
    if key is None:
        monkeypatch.delenv("ENGINE_KEY", raising=False)
    else:
        monkeypatch.setenv("ENGINE_KEY", key)
    model = ChatEndpoint("http://localhost:1/v1", "llama", key_variable="ENGINE_KEY")
    with pytest.raises(ValueError, match="ENGINE_KEY is") as caught:
        model.load()
    assert not key or key not in str(caught.value)
    with pytest.raises(ValueError, match="ENGINE_KEY is"):
        EndpointCaptioner(model).load()


def test_settings_know_neither_address_nor_key(monkeypatch):
    monkeypatch.setenv("ENGINE_KEY", SECRET)
    first = ChatEndpoint("http://a/v1", "llama", key_variable="ENGINE_KEY")
    second = ChatEndpoint("http://b/v1/", "llama")
    assert first.settings() == second.settings()
    assert first.settings() != ChatEndpoint("http://a/v1", "other").settings()
    assert second.address == "http://b/v1/chat/completions"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "file:///etc/passwd",
        "http://",
        "http://a b/",
        "http://a/\n",
        "http://a:x/",
        3,
        None,
        "http://user:word@a/v1",
        "http://user:word@a:x/v1",
        "user:word@a",
        "http://a/v1?key=secret",
        "http://a/v1#x",
    ],
)
def test_an_address_that_is_none_or_holds_a_key_is_refused(url):
    with pytest.raises(ValueError, match="expected") as caught:
        ChatEndpoint(url, "llama")
    for secret in ("word", "secret"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"timeout": 0}, {"timeout": "5"}, {"tries": 0}, {"wait": -1}]
)
def test_numbers_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ChatEndpoint("http://a/v1", "llama", **change)


def test_a_failure_of_the_endpoint_is_tried_again_by_the_next_run(tmp_path):
    found = clips_of_folder(folder_of(tmp_path / "clips", 1))

    def run(status):
        body = completion("an owl") if status == 200 else b"busy"
        with chat_server(always(status, body)) as asked:
            whole = Engine([*stages()[:3], Summary(endpoint(asked, tries=1))])
            said = run_engine(found, whole, tmp_path / "output", LOOSE)
        return said["captioned"], len(asked.bodies)

    from keras_pe.data_engine import ReceiptError

    with pytest.raises(ReceiptError, match="None of 1 clips has"):
        run(500)
    assert run(200) == (1, 1)
    assert run(500) == (1, 0)  # from the ledger
