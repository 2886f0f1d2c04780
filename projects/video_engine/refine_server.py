"""The server of the page: this machine alone, and the clips of its list alone."""

import json
import re
import secrets
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from projects.video_engine.refine_clips import Clips

PAGE = Path(__file__).with_name("refine.html")
HOST = "127.0.0.1"
LARGEST = 1 << 16  # bytes of what is sent here
PIECE = 1 << 20  # bytes of a clip that are sent at a time
TOKEN = "X-Page"  # header that other pages can't send without being asked
_PLACE = re.compile(r"/clips/([0-9]{1,12})(/next)?")
_FILE = re.compile(r"/files/([0-9a-f]{64})")
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")


class Refused(Exception):
    """A request that is not answered: the status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def make_server(clips: Clips, port: int) -> ThreadingHTTPServer:
    """Returns a server of the page; `serve_forever` begins.

    A name of another machine that leads here (DNS rebinding) is refused by its Host
    header; what other pages send by its Origin, and for want of the page's token.

    Args:
        clips: that are shown.
        port: of 127.0.0.1; 0 for one that is free.

    Raises:
        OSError: if the port is taken.
    """
    token = secrets.token_urlsafe(24)

    class Handler(_Handler):
        pass

    Handler.clips, Handler.token = clips, token
    server = ThreadingHTTPServer((HOST, port), Handler)
    server.daemon_threads = True
    names = [f"{name}:{server.server_port}" for name in (HOST, "localhost")]
    Handler.hosts = tuple(names)
    return server


def serve(clips: Clips, port: int, say: Callable[[str], None]) -> None:
    """Serves until the process is interrupted; `say` is told the address."""
    with make_server(clips, port) as server:
        say(f"http://{HOST}:{server.server_port}/")
        server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    clips: Clips
    token: str
    hosts: tuple[str, ...] = ()
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds without a byte

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def log_message(self, *_: Any) -> None:
        pass

    def _answered(self, respond: Callable[[], None]) -> None:
        try:
            self._check()
            respond()
        except Refused as refused:
            self.close_connection = True  # what else was sent is not read
            self._json(refused.status, {"error": str(refused)})
        except (KeyError, IndexError):
            self._json(404, {"error": "There is no such clip."})
        except ValueError as error:
            self._json(400, {"error": str(error)})
        except ConnectionError:
            self.close_connection = True
        except OSError as error:
            self._json(500, {"error": f"It is not saved: {error}."})

    def _check(self) -> None:
        """Refuses who does not ask as the page does."""
        if self.headers.get("Host") not in self.hosts:
            raise Refused(403, f"Expected the address http://{self.hosts[0]}/.")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in [f"http://{it}" for it in self.hosts]:
            raise Refused(403, "Another page asked.")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refused(403, "Another page asked.")

    def _get(self) -> None:
        path = urlsplit(self.path).path
        if path == "/":
            self._page()
        elif path == "/favicon.ico":  # browsers ask for one
            self._send(204, "image/x-icon", b"")
        elif found := _PLACE.fullmatch(path):
            place = int(found[1])
            if found[2]:
                place = self.clips.next_without_edit(place)
            self._json(200, self.clips.shown(place))
        elif found := _FILE.fullmatch(path):
            self._file(*self.clips.file_of(found[1]))
        else:
            raise Refused(404, "There is no such page.")

    def _post(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or len(size) > 9 or int(size) > LARGEST:
            raise Refused(413, f"Expected at most {LARGEST:,} bytes.")
        body = self.rfile.read(int(size))
        if not secrets.compare_digest(
            self.headers.get(TOKEN, "").encode(), self.token.encode()
        ):
            raise Refused(403, "The page is of an earlier start: load it again.")
        try:
            said = json.loads(body)
            content, caption = said["content"], said.get("caption")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Refused(400, "Expected content and caption as JSON.") from None
        if not isinstance(content, str) or not isinstance(caption, str | None):
            raise Refused(400, "Expected content and caption as texts.")
        if self.path == "/save":
            self._json(200, self.clips.save(content, caption))
        elif self.path == "/undo":
            self._json(200, self.clips.undo(content))
        else:
            raise Refused(404, "There is no such page.")

    # === Answers ===
    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        text = PAGE.read_text("utf-8")
        text = text.replace("{{nonce}}", nonce).replace("{{token}}", self.token)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src "
            f"'nonce-{nonce}'; img-src 'self'; media-src 'self'; connect-src 'self'; "
            f"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        more = {"Content-Security-Policy": policy}
        self._send(200, "text/html; charset=utf-8", text.encode(), more)

    def _json(self, status: int, value: Any) -> None:
        body = json.dumps(value, ensure_ascii=True).encode()
        self._send(status, "application/json", body)

    def _send(
        self, status: int, kind: str, body: bytes, more: dict[str, str] | None = None
    ) -> None:
        self._head(
            status, kind, len(body), {"Cache-Control": "no-store"} | (more or {})
        )
        self.wfile.write(body)

    def _head(self, status: int, kind: str, size: int, more: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()

    def _file(self, path: Path, kind: str) -> None:
        """Sends a clip, or the part of it that a player asks for."""
        try:
            file = open(path, "rb")  # noqa: SIM115
        except OSError:
            raise Refused(404, "The clip's file is gone.") from None
        with file:
            size = path.stat().st_size
            first, last, status = 0, size - 1, 200
            found = _RANGE.fullmatch(self.headers.get("Range", ""))
            more = {"Accept-Ranges": "bytes", "Cache-Control": "no-store"}
            if found and int(found[1]) < size:
                first, status = int(found[1]), 206
                last = min(last, int(found[2])) if found[2] else last
                more["Content-Range"] = f"bytes {first}-{last}/{size}"
            left = max(0, last - first + 1)
            self._head(status, kind, left, more)
            file.seek(first)
            while left and (piece := file.read(min(PIECE, left))):
                self.wfile.write(piece)
                left -= len(piece)
