"""The site for a look, from memory over HTTP: nothing but its pages can be asked for, whatever lies in the workspace."""

from __future__ import annotations

import errno
import gzip
import logging
import mimetypes
import os
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from unlearnable_bench.results import FileError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}  # as browsers call it
TYPES = {".md": "text/markdown", ".tex": "text/x-tex", ".bib": "text/x-bibtex", ".csv": "text/csv"}

log = logging.getLogger(__name__)
Files = Mapping[str, str | bytes]


class Server(ThreadingHTTPServer):
    """Serves what `render` returns. When a page is asked for after `folder` has changed, it is rendered anew beside that."""

    daemon_threads = True

    def __init__(self, host: str, port: int, folder: Path, render: Callable[[], Files]) -> None:
        self.folder, self.render, self.busy = folder, render, threading.Lock()
        self.state = self._stand()
        self.files: Files = {}
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                hint = "choose another by --port, or any free one by --port 0"
                raise FileError(f"port {port} of {host} is taken; {hint}") from None
            raise FileError(
                f"cannot listen at port {port} of {host}: {error.strerror or error}; choose others by --host and --port"
            ) from None
        try:
            self.files = render()
        except BaseException:
            self.server_close()
            raise

    @property
    def address(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/"

    def _stand(self) -> int:
        """Changes when a record comes, goes or is written anew."""
        if not self.folder.is_dir():
            return 0
        return hash(frozenset((e.name, e.stat().st_mtime_ns) for e in os.scandir(self.folder) if e.name.endswith(".json")))

    def refresh(self) -> None:
        """Render again in the background if records have changed; until that is done, the old pages are served."""
        if self.busy.acquire(blocking=False):
            threading.Thread(target=self._refresh, daemon=True).start()

    def _refresh(self) -> None:
        try:
            state = self._stand()
            if state != self.state:
                self.files, self.state = self.render(), state
        except (OSError, ValueError) as error:  # a record that vanished meanwhile, a table file half written
            log.warning("the pages stay as they were: %s", error)
        finally:
            self.busy.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no error."""
        log.debug("request of %s failed", client_address, exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the names of the site."""

    server: Server
    server_version, sys_version = "bench", ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        bound, asked = str(self.server.server_address[0]), self.headers.get("Host", "").rpartition(":")[0].strip("[]")
        if ip_address(bound).is_loopback and (asked or self.headers.get("Host", "")) not in LOOPBACK | {bound}:
            # a page of somebody else, whose name was made to lead here, must not read numbers that are not published yet
            return self._send(403, "text/plain", "this server answers at localhost alone; see --host", body)
        try:
            name = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        except ValueError:  # such as `http://[`
            return self._send(400, "text/plain", "this is not the address of a page", body)
        text = self.server.files.get(name)
        if text is None:
            return self._send(404, "text/plain", "there is no such page", body)
        self._send(200, TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "text/plain", text, body)
        if name.endswith(".html"):
            self.server.refresh()

    def _send(self, status: int, kind: str, text: str | bytes, body: bool) -> None:
        content = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        letters = isinstance(text, str) and kind != "application/json"
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if letters else kind)
        self.send_header("Vary", "Accept-Encoding")
        if isinstance(text, str) and "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content, compresslevel=5, mtime=0)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        log.info(format, *args)
