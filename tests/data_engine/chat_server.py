"""A server of chat completions on 127.0.0.1 that answers as a test says."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: Any) -> bytes:
    """Returns the body of an answer."""
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


class Asked:
    """What a server was asked: headers and bodies, in their order."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self.end = threading.Event()  # what hangs, hangs until then


@contextlib.contextmanager
def chat_server(respond: Callable[[Any, int, Asked], None]) -> Iterator[Asked]:
    """Serves `respond(handler, number of the request, asked)`."""
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.bodies.append(json.loads(body))
            asked.headers.append(dict(self.headers))
            assert self.path == "/v1/chat/completions"
            with contextlib.suppress(ConnectionError):
                respond(self, len(asked.bodies) - 1, asked)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    asked.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield asked
    finally:
        asked.end.set()
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler: Any, status: int, body: bytes, **headers: str) -> None:
    """Sends one answer."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
