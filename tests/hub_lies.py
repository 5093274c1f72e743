"""What a hub does instead of what is right."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from hub_server import Handler

Lie = Callable[[Handler], None]


def redirect(location: str, status: int = 302) -> Lie:
    return lambda handler: handler.answer(status, {}, Location=location, Link=f'<{location}>; rel="xet-auth"')


def body(content: bytes, **headers: str) -> Lie:
    """`content`, with headers that need not be true of it."""

    def lie(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(content)
        handler.close_connection = True

    return lie


class Endless:
    """Sends without end, until it is hung up on; `sent` counts the bytes."""

    def __init__(self, **headers: str) -> None:
        self.headers = headers
        self.sent = 0

    def __call__(self, handler: Handler) -> None:
        handler.send_response(200)
        for name, value in self.headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.close_connection = True
        chunk = b" " * 2**16
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self.headers else chunk)
                self.sent += len(chunk)


def silent(handler: Handler) -> None:
    """Nothing, until the client hangs up."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.recv(1)


def drip(before: bytes, drop: bytes) -> Lie:
    """`before`, then `drop` again and again, slowly enough to last and fast enough to never be silent."""

    def lie(handler: Handler) -> None:
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(before)
            while True:
                handler.wfile.write(drop)
                handler.wfile.flush()
                threading.Event().wait(0.02)

    return lie


STUCK: dict[str, Lie] = {
    "silence": silent,
    "a status line that does not end": drip(b"HTTP/1.1 200 ", b"O"),
    "headers that do not end": drip(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"),
    "early hints without end": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a body that drips": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "chunks that drip": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "redirects that drip": drip(b"HTTP/1.1 302 Found\r\nLocation: /\r\n", b"X: 1\r\n"),
}
