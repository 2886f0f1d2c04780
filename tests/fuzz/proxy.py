"""A server between the client and the small Hub of the tests that spoils answers."""

import http.client
import http.server
import threading
from typing import Any
from urllib.parse import urlsplit

from tests.presets.hub_server import HubServer

DROPPED = ("content-length", "connection", "transfer-encoding", "date", "server")


class SpoilingProxy:
    """Passes requests on and spoils the answers that `spoil` wants spoiled.

    Attributes:
        spoil: takes method, path, status, headers and body; returns status, headers,
            body and how many bytes less than promised are sent. None spoils nothing.
        url: where the client is to ask.
    """

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub
        self.spoil: Any = None
        handler = type("Handler", (_Handler,), {"proxy": self})
        # Two, as the Hub has: the client takes a redirect to the same host otherwise.
        self.url, self.cdn_url = (start(handler) for _ in range(2))


def start(handler: Any) -> str:
    """Starts a server on a free port; returns its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    proxy: SpoilingProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        proxy = self.proxy
        connection = http.client.HTTPConnection(urlsplit(proxy.hub.url).netloc)
        ranges = {"Range": self.headers["Range"]} if self.headers["Range"] else {}
        connection.request(self.command, self.path, headers=ranges)
        response = connection.getresponse()
        body, status = response.read(), response.status
        headers = {
            key: value
            for key, value in response.getheaders()
            if key.lower() not in DROPPED
        }
        length = response.getheader("Content-Length")
        connection.close()
        if "Location" in headers:  # large files come through here, too
            place = headers["Location"].replace(proxy.hub.cdn_url, proxy.cdn_url)
            headers["Location"] = place
        less = 0
        if proxy.spoil is not None:
            path = self.path.split("?")[0]
            spoiled = proxy.spoil(self.command, path, status, headers, body)
            status, headers, spoiled_body, less = spoiled
            if spoiled_body is not body:
                body, length = spoiled_body, str(len(spoiled_body))
            # What a spoiled answer leaves in the connection is no start of the next.
            headers.setdefault("Connection", "close")
            self.close_connection = True
        self.send_response(status)
        headers.setdefault("Content-Length", length or "0")
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) - less])
        if less:
            self.close_connection = True
