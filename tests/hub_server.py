"""A model hub on loopback, for the unmodified huggingface_hub client: what it sends to create, commit, list and fetch.

    python tests/hub_server.py FILE       serve until killed; the address is written to FILE once it answers

Repositories live in memory. It has no xet, as the client finds out by itself. A test makes it misbehave by its fields.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

CHUNK = 4096
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits are trees of files by commit id; branches name commits."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})

    def commit(self, branch: str, files: Files) -> str:
        """Add files to a branch; returns the commit."""
        tree = {**self.commits[self.branches[branch]], **files}
        oid = hashlib.sha1(repr((self.branches[branch], sorted(tree.items()))).encode()).hexdigest()
        self.commits[oid] = tree
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """The state of the server, and its faults."""

    url: str = ""
    token: str = "hf_right"
    """What may write, and read what is private."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    lfs: bool = False
    """Ask for safetensors by way of git LFS, as the Hub does without xet; else everything goes into the commit."""
    objects: Files = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """METHOD PATH [RANGE] of everything that was asked."""
    cuts: int = 0
    """So many more downloads end in their middle."""
    pause: float = 0.0
    """Seconds before each chunk of a download."""
    stalled: bool = False
    """Downloads stop before their first byte, for a second."""
    claims: dict[str, int] = field(default_factory=dict)
    """Size in bytes that is told of a file, whatever it has."""
    swapped: Files = field(default_factory=dict)
    """Bytes that are sent instead of a file's own, under its name, size and ETag."""
    status: int | None = None
    """Answer everything with this status."""
    lies: dict[str, Callable[[Handler], None]] = field(default_factory=dict)
    """What to do for the paths that match a pattern, instead of what is right."""
    tokens: list[str] = field(default_factory=list)
    """The Authorization header of every request that had one."""

    def publish(self, repository: str, files: Files, **options: Any) -> str:
        """Put files into a repository by the server's own hand; returns the commit."""
        return self.repositories.setdefault(repository, Repository(**options)).commit("main", files)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._route()

    do_GET = do_POST = do_PUT = do_HEAD

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = f"{self.command} {path} {self.headers.get('Range', '')}".strip()
        self.hub.requests.append(asked)
        self._body = self._read()
        if said := self.headers.get("Authorization"):
            self.hub.tokens.append(said)
        for pattern, lie in self.hub.lies.items():
            if re.fullmatch(pattern, path):
                lie(self)
                return
        if self.hub.status is not None:
            self.answer(self.hub.status, {"error": "as the test wants it"})
            return
        for pattern, action in ROUTES:
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                action(self, **match.groupdict())
                return
        self.answer(404, {"error": f"no such route: {asked}"})

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status: int, content: object, **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self.answer(status, {"error": message or code}, X_Error_Code=code, X_Error_Message=message or code)

    @property
    def _told(self) -> str | None:
        said = self.headers.get("Authorization")
        return said.removeprefix("Bearer ") if said else None

    def _may_write(self) -> bool:
        if self._told == self.hub.token:
            return True
        self.answer(401, {"error": "Invalid"}, X_Error_Message="Invalid credentials in Authorization header")
        return False

    def _repository(self, name: str) -> Repository | None:
        """The repository, if whoever asks may see it; else it is refused."""
        found = self.hub.repositories.get(name)
        if self._told not in (None, self.hub.token):
            self.answer(401, {"error": "Invalid"}, X_Error_Message="Invalid credentials in Authorization header")
        elif found is None or (found.private and self._told is None):
            self._refuse(401 if self._told is None else 404, "RepoNotFound", "Repository not found")
        elif found.gated:
            self._refuse(403, "GatedRepo")
        else:
            return found
        return None

    def create(self) -> None:
        if not self._may_write():
            return
        wanted = json.loads(self._body)
        name = "/".join(part for part in (wanted.get("organization"), wanted["name"]) if part)
        if name in self.hub.repositories:
            self.answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            return
        self.hub.repositories[name] = Repository(
            private=wanted.get("visibility") == "private" or bool(wanted.get("private"))
        )
        self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def validate_yaml(self) -> None:
        self.answer(200, {"warnings": [], "errors": []})

    def info(self, repository: str, revision: str | None) -> None:
        if found := self._repository(repository):
            oid = found.resolve(revision or "main")
            if oid is None:
                self._refuse(404, "RevisionNotFound")
                return
            sizes = "blobs=true" in urlsplit(self.path).query
            siblings = [described(path, content, sizes) for path, content in found.commits[oid].items()]
            self.answer(200, {"id": repository, "sha": oid, "private": found.private, "siblings": siblings})

    def branch(self, repository: str, branch: str) -> None:
        if self._may_write() and (found := self._repository(repository)):
            known = branch in found.branches
            found.branches.setdefault(branch, found.branches["main"])
            self.answer(409 if known else 200, {"error": "Reference already exists"} if known else {})

    def preupload(self, repository: str, revision: str) -> None:
        if self._may_write() and self._repository(repository):
            paths = [file["path"] for file in json.loads(self._body)["files"]]
            large = {path: self.hub.lfs and path.endswith(".safetensors") for path in paths}
            modes = [
                {"path": path, "uploadMode": "lfs" if large[path] else "regular", "shouldIgnore": False}
                for path in paths
            ]
            self.answer(200, {"files": modes})

    def lfs_batch(self, repository: str) -> None:
        if self._may_write():
            objects = json.loads(self._body)["objects"]
            upload = [{**o, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}"}}} for o in objects]
            self.answer(200, {"transfer": "basic", "objects": upload})

    def lfs_put(self, oid: str) -> None:
        self.hub.objects[oid] = self._body
        self.answer(200, {})

    def commit(self, repository: str, revision: str) -> None:
        if not (self._may_write() and (found := self._repository(repository))):
            return
        files = {}
        for line in self._body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        oid = found.commit(revision, files)
        self.answer(200, {"commitOid": oid, "commitUrl": f"{self.hub.url}/{repository}/commit/{oid}"})

    def tree(self, repository: str, revision: str) -> None:
        if found := self._repository(repository):
            files = found.commits[found.resolve(revision) or "0" * 40]
            rows = [{"type": "file", "path": p, "size": len(c), "oid": _etag(c)} for p, c in sorted(files.items())]
            self.answer(200, rows)

    def file(self, repository: str, revision: str, path: str) -> None:
        """Content with its ETag, whole or from the byte that is asked for; on HEAD its size alone."""
        if (found := self._repository(repository)) is None:
            return
        oid = found.resolve(revision)
        content = found.commits[oid].get(path) if oid else None
        if oid is None or content is None:
            self._refuse(404, "EntryNotFound" if oid else "RevisionNotFound")
            return
        start = int(re.sub(r"\D", "", self.headers.get("Range", "")) or 0)
        size = self.hub.claims.get(path, len(content))
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_etag(content)}"')
        self.send_header("X-Repo-Commit", oid)
        self.send_header("Content-Length", str(size - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if self.command == "GET":
            self._send(self.hub.swapped.get(path, content)[start:])

    def _send(self, content: bytes) -> None:
        cut = self.hub.cuts > 0
        self.hub.cuts -= cut
        content = content[: len(content) // 2] if cut else content
        wait = threading.Event().wait  # a test may have put time.sleep out of action
        wait(1 if self.hub.stalled else 0)
        for start in range(0, len(content), CHUNK):
            wait(self.hub.pause)
            self.wfile.write(content[start : start + CHUNK])
        self.close_connection = cut


def described(path: str, content: bytes, sizes: bool = True) -> dict[str, Any]:
    """How the hub lists a file: weights by their SHA-256, as git LFS keeps them, others by their git blob."""
    if not sizes:
        return {"rfilename": path}
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    large = {"lfs": lfs} if path.endswith(".safetensors") else {}
    return {"rfilename": path, "size": len(content), "blobId": blob, **large}


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
ROUTES = [
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate_yaml),
    (rf"POST /api/models/{REPOSITORY}/branch/(?P<branch>.+)", Handler.branch),
    (rf"POST /api/models/{REPOSITORY}/preupload/(?P<revision>.+)", Handler.preupload),
    (rf"POST /api/models/{REPOSITORY}/commit/(?P<revision>.+)", Handler.commit),
    (rf"GET /api/models/{REPOSITORY}/tree/(?P<revision>[^/]+)", Handler.tree),
    (rf"GET /api/models/{REPOSITORY}(?:/revision/(?P<revision>.+))?", Handler.info),
    (rf"POST /{REPOSITORY}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (r"PUT /lfs/(?P<oid>[0-9a-f]{64})", Handler.lfs_put),
    (rf"(?:HEAD|GET) /{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.file),
]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    hub = Hub()
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with serving() as running:
        Path(sys.argv[1]).write_text(running.url, encoding="utf-8")
        threading.Event().wait()
