"""A web server on 127.0.0.1 for tests of downloads."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Page:
    body: bytes
    kind: str = "application/octet-stream"
    missing: int = 0  # bytes that are announced but not sent


@dataclass
class Server:
    url: str
    pages: dict[str, Page]
    requests: list[str] = field(default_factory=list)  # "GET /path", in order


@contextmanager
def serve(pages: dict[str, Page]) -> Iterator[Server]:
    """Serve `pages` (path -> page) while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            server.requests.append(f"{self.command} {self.path}")
            page = server.pages.get(self._place())
            if page is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(page.body) + page.missing))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            if self._place() in server.pages:
                self.wfile.write(server.pages[self._place()].body)

        def _place(self):
            return self.path.split("?")[0]

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{httpd.server_port}", pages)
    thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()


def closed_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
