"""A stand-in for the Hugging Face Hub on 127.0.0.1: repositories, commits and files, answered as the hub answers its client.

Model info with siblings, trees, HEAD and GET of `resolve` with the hub's headers; a small file behind a relative redirect, a
large one behind a redirect to the storage, which gives ranges. A test breaks it with `Hub.faults`.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote, urlsplit

LARGE = (".bin", ".safetensors")  # what the hub keeps apart from git
ERROR_CODES = {401: "RepoNotFound", 404: "RepoNotFound", 403: "GatedRepo"}


@dataclass
class Fault:
    """What goes wrong with requests whose path matches `path`: as often as `times` says, then no more."""

    path: str
    status: int | None = None
    cut_after: int | None = None  # bytes of the body, then the connection ends
    page: bytes | None = None  # HTML in place of the file, with status 200
    times: int = 1_000


@dataclass
class Hub:
    url: str = ""
    storage_url: str = ""  # another port, so another origin: the client follows no redirect there to learn of a file
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)  # id -> commit -> name -> content
    branches: dict[str, dict[str, str]] = field(default_factory=dict)  # id -> branch or tag -> commit
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # "GET /path", in order
    sent: dict[str, int] = field(default_factory=dict)  # bytes of each large file's name, over all requests

    def commit(self, hub_id: str, files: Path | dict[str, bytes], branch: str = "main") -> str:
        """Commit the files of a folder, or these, and move `branch` there; the commit's hash."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()
            }
        history = self.commits.setdefault(hub_id, {})
        commit = hashlib.sha1(f"{hub_id} {len(history)}".encode()).hexdigest()
        history[commit] = dict(files)
        self.branches.setdefault(hub_id, {})[branch] = commit
        return commit

    def fetched(self) -> list[str]:
        """The names of the files whose content was sent, in order."""
        place = r"GET /(?:storage|api/resolve-cache/models)/[^/]+/[^/]+/[^/]+/(.+)"
        found = [re.fullmatch(place, request) for request in self.requests]
        return [match[1] for match in found if match]

    def resolve(self, hub_id: str, revision: str) -> str | None:
        """The commit that a revision means; None where there is none."""
        known = self.branches[hub_id] | {commit: commit for commit in self.commits[hub_id]}
        return known.get(revision)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub without repositories, while the context lasts."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.hub.requests.append(f"{self.command} {path}")
        self.fault = next((one for one in self.hub.faults if re.search(one.path, path) and one.times > 0), None)
        if self.fault:
            self.fault.times -= 1
            if self.fault.status:
                return self.answer(self.fault.status, b"", {"X-Error-Code": ERROR_CODES.get(self.fault.status, "")})
            if self.fault.page is not None:
                return self.answer(200, self.fault.page, {"Content-Type": "text/html"})
        for pattern, method in (
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.model_info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self.tree),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
            (r"/api/resolve-cache/models/([^/]+/[^/]+)/([^/]+)/(.+)", self.small),
            (r"/storage/([^/]+/[^/]+)/([^/]+)/(.+)", self.storage),
        ):
            if match := re.fullmatch(pattern, path):
                return method(*match.groups())
        self.answer(404, b"")

    do_HEAD = do_GET

    def model_info(self, hub_id, revision):
        if commit := self.commit_of(hub_id, revision or "main"):
            names = self.hub.commits[hub_id][commit]
            siblings = [{"rfilename": name} for name in names]
            self.answer_json({"_id": "0", "id": hub_id, "sha": commit, "siblings": siblings, "tags": []})

    def tree(self, hub_id, revision):
        if commit := self.commit_of(hub_id, revision):
            entries = []
            for name, content in self.hub.commits[hub_id][commit].items():
                entry = {"type": "file", "path": name, "size": len(content), "oid": _git_hash(content)}
                if name.endswith(LARGE):
                    sha256 = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
                entries.append(entry)
            self.answer_json(entries)

    def resolve(self, hub_id, revision, name):
        commit = self.commit_of(hub_id, revision)
        if not commit:
            return
        content = self.hub.commits[hub_id][commit].get(name)
        if content is None:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit}
        place = f"{hub_id}/{commit}/{quote(name)}"
        if name.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
            return self.answer(302, b"", headers | {"Location": f"{self.hub.storage_url}/storage/{place}"})
        self.answer(307, b"", headers | {"Location": f"/api/resolve-cache/models/{place}"})

    def small(self, hub_id, commit, name):
        content = self.hub.commits[hub_id][commit][name]
        self.answer(200, content, {"X-Repo-Commit": commit, "ETag": f'"{_git_hash(content)}"'})

    def storage(self, hub_id, commit, name):
        content = self.hub.commits[hub_id][commit][name]
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not begin:
            return self.answer(200, content, {"Accept-Ranges": "bytes"}, name)
        start = int(begin[1])
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.answer(206, content[start:], span, name)

    def commit_of(self, hub_id, revision) -> str | None:
        """The commit; None where an error was answered in its place."""
        if hub_id not in self.hub.commits:
            return self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})  # so the hub answers the unknown
        commit = self.hub.resolve(hub_id, revision)
        return commit or self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})

    def answer_json(self, content):
        self.answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def answer(self, status, body, headers=(), large=None):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.cut_after is not None:
            body = body[: self.fault.cut_after]
            self.close_connection = True
        if large:
            self.hub.sent[large] = self.hub.sent.get(large, 0) + len(body)
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
