"""A server of OpenAI's chat completions on loopback, which misbehaves on demand, and a captioner that asks it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from synood_cli.models.openai_server import OpenAiServerCaptioner
from synood_cli.records import Description, ModelSpec

Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request as the next entry of `server.script` says, and normally once that is used up."""

    server: LoopbackServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(self)
            self.server.active += 1
            self.server.most_active = max(self.server.most_active, self.server.active)
            behaviour = self.server.script.pop(0) if self.server.script else say("grass, sky")
        try:
            behaviour(self)
        finally:
            with self.server.lock:
                self.server.active -= 1

    def reply(self, status: int, body: str, **headers: str) -> None:
        payload = body.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(payload))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments: object) -> None:
        pass


class LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Behaviour] = []
        self.requests: list[Handler] = []
        self.active = self.most_active = 0
        self.lock = threading.Lock()

    def handle_error(self, *arguments: object) -> None:
        """A client that hung up is part of the tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def completion(text: object, finish: object = "stop", **message: object) -> str:
    return json.dumps(
        {"choices": [{"finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}]}
    )


def say(text: object, after: float = 0.0) -> Behaviour:
    def behaviour(handler: Handler) -> None:
        time.sleep(after)
        handler.reply(200, completion(text))

    return behaviour


def status(code: int, body: str = "", **headers: str) -> Behaviour:
    return lambda handler: handler.reply(code, body, **headers)


def cut_connection(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def cut_in_the_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


@contextmanager
def serving() -> Iterator[LoopbackServer]:
    """A server that answers while the block runs."""
    with LoopbackServer() as loopback:
        thread = threading.Thread(target=loopback.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield loopback
        finally:
            loopback.shutdown()
            thread.join()


def captioner(
    url: str,
    *,
    concurrency: int = 1,
    timeout: float = 5.0,
    attempts: int = 3,
    backoff: float = 0.01,
    key_env: str | None = None,
) -> OpenAiServerCaptioner:
    return OpenAiServerCaptioner(
        ModelSpec(adapter="openai-server", name="llava", url=url),
        instruction="List all but the {class_name}.",
        max_new_tokens=32,
        concurrency=concurrency,
        timeout=timeout,
        attempts=attempts,
        backoff=backoff,
        key_env=key_env,
    )


def ask(server: LoopbackServer, **settings: Any) -> Description | Exception:
    (answer,) = captioner(server.url, **settings).describe([Image.new("RGB", (8, 8))], ["cat"])
    return answer
