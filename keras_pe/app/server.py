"""Serving the page: to this machine, without a network, nothing reported to anybody."""

import json
import os
from typing import Any

# Before Gradio is imported, which reads them then.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_RUN_HISTORY"] = "False"

import gradio as gr
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keras_pe.app.page import build_page
from keras_pe.app.settings import AppSettings

MOST_UPLOAD = 300 * 2**20  # bytes of one file
MOST_BODY = 4 * 2**20  # of a call, which names uploads and holds texts
# What a browser may load: nothing from another server.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'"
)
CSS = """
.pe-cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
.pe-small { grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); }
.pe-card { margin: 0; padding: .8rem; border-radius: .5rem;
  border: 1px solid var(--border-color-primary);
  background: var(--background-fill-secondary); }
.pe-card img { display: block; height: 6rem; width: auto; max-width: 100%;
  object-fit: contain; margin: 0 auto .4rem; background: #fff; border-radius: .3rem; }
.pe-card figcaption { text-align: center; overflow-wrap: anywhere;
  font-size: .85rem; opacity: .8; }
.pe-answer { text-align: center; font-weight: 600; overflow-wrap: anywhere;
  margin: 0 0 .2rem; }
ol.pe-bars { list-style: none; margin: .6rem 0 0; padding: 0; }
ol.pe-bars li { display: grid; grid-template-columns: 1fr auto; column-gap: .6rem;
  margin: 0 0 .45rem; padding: 0; font-size: .9rem; }
.pe-name { overflow-wrap: anywhere; }
.pe-share { font-weight: 600; font-variant-numeric: tabular-nums; }
.pe-cosine { grid-row: 3; grid-column: 1 / 3; font-size: .75rem; opacity: .75; }
.pe-bar { grid-column: 1 / 3; height: .5rem; border-radius: .25rem; overflow: hidden;
  background: var(--border-color-primary); }
.pe-bar > span { display: block; height: 100%; background: var(--color-accent); }
table.pe-table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table.pe-table td, table.pe-table th { text-align: right; padding: .15rem .8rem;
  border: 0; border-bottom: 1px solid var(--border-color-primary); }
.pe-samples .grid-wrap { min-height: 0 !important; max-height: none !important; }
.pe-samples .grid-container { gap: .3rem !important;
  grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
.pe-samples .thumbnail-item { width: 100% !important; min-width: 0 !important; }
.pe-samples .caption-label { max-width: 100%; font-size: .65rem; padding: 0 .2rem; }
@media (max-width: 500px) {
  .tab-container button { padding: 0 .15rem !important; font-size: .75rem !important; }
}
#similarity-picture img { cursor: crosshair; }
"""


class LocalOnly:
    """Keeps pages from loading, and the server from fetching, what is elsewhere.

    Gradio fetches a file for whoever gives an address in place of an upload. Here
    that is refused.

    Args:
        app: what is served.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if "/proxy=" in path or names_address(path.partition("/file=")[2]):
            await _refuse(send, "No address is fetched: upload the file.")
            return
        if scope["method"] == "POST" and _is_json(scope):
            body = await _read(receive)
            if body is None:
                await _refuse(send, f"Expected a call of at most {MOST_BODY} bytes.")
                return
            if holds_address(body):
                await _refuse(send, "No address is fetched: upload the file.")
                return
            receive = _again(body, receive)

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", [])]
                headers.append((b"content-security-policy", POLICY.encode()))
                headers.append((b"referrer-policy", b"no-referrer"))
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, with_policy)


def names_address(text: Any) -> bool:
    """Says whether a text is an address to fetch, rather than a path."""
    return isinstance(text, str) and text.strip().lower().startswith(
        ("http:", "https:", "ftp:", "data:", "//")
    )


def holds_address(body: bytes) -> bool:
    """Says whether a call names a file by an address.

    Args:
        body: JSON of the call; what is none is left to Gradio to refuse.
    """
    try:
        waiting = [json.loads(body)] if body.strip() else []
    except (ValueError, RecursionError):
        return False
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if names_address(value.get("path")):
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


def _is_json(scope: Scope) -> bool:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return not any(kind.startswith(b"multipart/form-data") for kind in kinds)


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Returns what gives a body once more, then waits for what comes after it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _refuse(send: Send, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})


def launch(
    settings: AppSettings,
    host: str | None,
    port: int | None,
) -> None:
    """Serves the page until it is stopped; see `serving.serve`.

    Args:
        settings: what the page works on.
        host: address to listen at.
        port: number of the port.

    Raises:
        OSError: if the port is taken.
    """
    page = build_page(settings)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        share=False,
        inbrowser=False,
        quiet=True,
        show_error=False,
        footer_links=[],
        max_file_size=MOST_UPLOAD,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["monospace"]
        ),
        css=CSS,
        app_kwargs={"middleware": [Middleware(LocalOnly)]},
    )
    print(f"The page is at {address}; Ctrl-C stops it.", flush=True)
    page.block_thread()
