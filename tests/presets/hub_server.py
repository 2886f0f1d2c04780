"""A small Hugging Face Hub on 127.0.0.1: the protocol that its client speaks.

Two servers, as there: the Hub answers with metadata and redirects large files to a
second address, from which ranges of them can be fetched. Faults are switched on per
test.
"""

import contextlib
import hashlib
import http.server
import json
import re
import socket
import threading
from typing import Any
from urllib.parse import unquote

LARGE = (".h5", ".safetensors", ".pt")  # stored by SHA-256 and served from the CDN
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")


class HubServer:
    """Holds repositories, and what goes wrong with them.

    Attributes:
        cut: names of files whose first transfer breaks off half-way.
        wrong: bytes to send instead of a file's own, by name.
        gated: repositories whose files nobody may fetch.
        private: repositories that look absent.
        down: names of files that give HTTP status 500.
        etags: what to say instead of the hash of a small file, by name.
        packed: gzip streams to send instead of a small file, by name.
        moved: new names of repositories that were renamed.
        requests: (method, path, Range header) of every request.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.cut: set[str] = set()
        self.wrong: dict[str, bytes] = {}
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.down: set[str] = set()
        self.etags: dict[str, str] = {}
        self.packed: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.connections: list[socket.socket] = []
        self._blobs: dict[str, tuple[str, bytes]] = {}
        self._servers = [_server(self) for _ in range(2)]
        self.url, self.cdn_url = (
            f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers
        )

    def add(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Commits files to a branch; returns the commit."""
        digest = hashlib.sha1(repr(sorted(files.items())).encode())
        commit = digest.hexdigest()
        self.commits.setdefault(repo, {})[commit] = dict(files)
        self.branches.setdefault(repo, {})[branch] = commit
        for name, content in files.items():
            self._blobs[hashlib.sha256(content).hexdigest()] = (name, content)
        return commit

    def fetched(self) -> list[str]:
        """Returns the paths whose content was asked for, in order."""
        return [path for method, path, _ in self.requests if method == "GET"]

    def stop(self) -> None:
        """Stops answering: open connections end, new ones are refused."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers = []
        for connection in self.connections:
            with contextlib.suppress(OSError):  # the other side was faster
                connection.shutdown(socket.SHUT_RDWR)

    # === What the handler asks ===
    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Returns commit and files of a revision."""
        commit = self.branches[repo].get(revision, revision)
        files = self.commits[repo].get(commit)
        return None if files is None else (commit, files)

    def blob(self, digest: str) -> tuple[str, bytes]:
        """Returns name and content of a large file."""
        return self._blobs[digest]


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Keeps the test output clean."""

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if path.startswith("/cdn/"):
            return self._send_blob(path.removeprefix("/cdn/"))
        if match := INFO.fullmatch(path):
            return self._info(match[1], unquote(match[2] or "main"))
        if match := RESOLVE.fullmatch(path):
            return self._resolve(match[1], unquote(match[2]), unquote(match[3]))
        return self._error(404, "RepoNotFound")

    def _lookup(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if repo not in self.hub.commits or repo in self.hub.private:
            self._error(401, "RepoNotFound")
            return None
        found = self.hub.find(repo, revision)
        if found is None:
            self._error(404, "RevisionNotFound")
        return found

    def _info(self, repo: str, revision: str) -> None:
        repo = self.hub.moved.get(repo, repo)
        found = self._lookup(repo, revision)
        if found is None:
            return
        commit, files = found
        siblings = [{"rfilename": name} for name in sorted(files)]
        content = {"id": repo, "sha": commit, "siblings": siblings, "tags": []}
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if repo in self.hub.moved:
            place = f"/{self.hub.moved[repo]}/resolve/{revision}/{name}"
            return self._redirect(307, place, {})
        found = self._lookup(repo, revision)
        if found is None:
            return None
        commit, files = found
        if repo in self.hub.gated:
            return self._error(403, "GatedRepo")
        if name in self.hub.down:
            return self._error(500, "")
        if name not in files:
            return self._error(404, "EntryNotFound", commit)
        content = files[name]
        headers = {"X-Repo-Commit": commit}
        if name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            headers["X-Linked-Etag"] = f'"{digest}"'
            headers["X-Linked-Size"] = str(len(content))
            return self._redirect(302, f"{self.hub.cdn_url}/cdn/{digest}", headers)
        named = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        headers["ETag"] = f'"{self.hub.etags.get(name, named)}"'
        if self.command == "GET" and name in self.hub.packed:
            headers["Content-Encoding"] = "gzip"
            return self._send(self.hub.packed[name], headers)
        return self._send(self.hub.wrong.get(name, content), headers)

    def _send_blob(self, digest: str) -> None:
        name, content = self.hub.blob(digest)
        content = self.hub.wrong.get(name, content)
        start = 0
        headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted:
            start = int(wanted[1])
            last = len(content) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
        if self.command == "GET" and name in self.hub.cut:
            self.hub.cut.remove(name)
            self._send(content[start:], headers, 206 if wanted else 200, cut=True)
        else:
            self._send(content[start:], headers, 206 if wanted else 200)

    # === Responses ===
    def _send(
        self,
        content: bytes,
        headers: dict[str, str],
        status: int = 200,
        cut: bool = False,
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:  # promised more than it sends
            self.close_connection = True

    def _redirect(self, status: int, place: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Location": place, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def _error(self, status: int, code: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "Content-Length": "0"}
        if commit:
            headers["X-Repo-Commit"] = commit
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()


def _server(hub: HubServer) -> http.server.ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    # A client that keeps its connection open must not keep the server from stopping.
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server
