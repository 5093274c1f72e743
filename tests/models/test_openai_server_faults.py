"""What servers of chat completions do that must not cost more than an image, nor a key."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from chat_server import Behaviour, Handler, LoopbackServer, ask, captioner, completion, say, serving, status
from synood_cli.errors import ItemError, ModelError, UsageError
from synood_cli.models.openai_server import MAX_ANSWER_BYTES, is_loopback
from synood_cli.records import Description

KEY = "MY_SERVERS_KEY"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with serving() as loopback:
        yield loopback


def reply(body: str, **headers: str) -> Behaviour:
    return lambda handler: handler.reply(200, body, **headers)


def refused(server: LoopbackServer, behaviour: Behaviour, attempts: int = 1, **settings: float) -> str:
    server.script = [behaviour] * attempts
    answer = ask(server, attempts=attempts, **settings)
    assert isinstance(answer, ItemError)
    assert len(server.requests) == attempts
    return answer.message


def drip(before: bytes, drop: bytes) -> Behaviour:
    """`before`, then `drop` again and again: never silent, never done."""

    def behaviour(handler: Handler) -> None:
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(before)
            while True:
                handler.wfile.write(drop)
                threading.Event().wait(0.02)

    return behaviour


def test_no_key_is_sent_unless_it_is_asked_for(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "SYNOOD_CAPTIONER_API_KEY", KEY):
        monkeypatch.setenv(name, f"value of {name}")
    ask(server)
    ask(server, key_env=KEY)
    said = [request.headers.get("Authorization") for request in server.requests]
    assert said == [None, f"Bearer value of {KEY}"]


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_key_does_not_follow_a_redirect(server: LoopbackServer, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    with serving() as elsewhere:
        server.script = [status(code, Location=f"{elsewhere.url}/v1/chat/completions")]
        with pytest.raises(ModelError, match=f"redirects to {elsewhere.url}/v1/chat/completions, which is not"):
            ask(server, key_env=KEY)
        assert elsewhere.requests == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "value", "message"),
    [
        ("http://captions.example.org", "secret", "is not sent to captions.example.org over plain http"),
        ("http://10.0.0.5:8000", "secret", r"is not sent to 10\.0\.0\.5 over plain http"),
        ("http://localhost.example.org", "secret", "over plain http"),
        ("http://localhost:8000", "", "the environment variable MY_SERVERS_KEY is not set"),
        ("http://localhost:8000", "a\nb", "is no key"),
        ("http://localhost:8000", "clé", "is no key"),
    ],
)
def test_a_key_that_cannot_be_sent_safely(url: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, value)
    with pytest.raises(UsageError, match=message):
        captioner(url, key_env=KEY)


def test_where_a_key_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    for url in ("https://api.example.org", "http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "127.1.2.3"):
        captioner(url, key_env=KEY)
    assert not is_loopback("127.0.0.1.example.org")


STUCK = {
    "a body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "headers": drip(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"),
    "early hints": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "an error": drip(b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("stuck", STUCK)
def test_what_drips_ends_with_the_time_limit(server: LoopbackServer, stuck: str) -> None:
    started = time.monotonic()
    assert "did not answer within 0.3 s" in refused(server, STUCK[stuck], timeout=0.3)
    assert time.monotonic() - started < 10


def test_what_sends_without_end_is_cut_off(server: LoopbackServer) -> None:
    sent = 0

    def endless(handler: Handler) -> None:
        nonlocal sent
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                handler.wfile.write(b" " * 2**16)
                sent += 2**16

    assert f"sends more than {MAX_ANSWER_BYTES:,} bytes" in refused(server, endless)
    assert sent < MAX_ANSWER_BYTES + 2**24


def test_a_wait_of_a_day_ends_the_run_in_words(server: LoopbackServer) -> None:
    server.script = [status(429, "slow down", Retry_After="86400")]
    with pytest.raises(ModelError, match="429 Too Many Requests: slow down; it asks to wait 86400 s") as caught:
        ask(server)
    assert "what was finished is kept" in str(caught.value.hint)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"choices": ' + "9" * 5000 + "}",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "null",
        '{"choices": {"0": 1}}',
        '{"choices": ["x"]}',
        '{"choices": [{"message": "x"}]}',
        '{"choices": [{"message": null}]}',
        completion(5),
        completion({"text": "sofa"}),
        completion([1, None, {"type": "image"}, {"type": "text", "text": 5}]),
    ],
)
def test_what_is_no_chat_completion_costs_one_image(server: LoopbackServer, body: str) -> None:
    server.script = [reply(body), say("sofa"), reply(body)]
    assert isinstance(ask(server, attempts=1), ItemError)
    assert isinstance(ask(server, attempts=2), Description)


def test_compressed_answers_are_not_unpacked(server: LoopbackServer) -> None:
    assert "compressed" in refused(server, reply("x", Content_Encoding="gzip"))


def test_text_may_come_in_parts(server: LoopbackServer) -> None:
    parts = [
        {"type": "reasoning", "text": "a list"},
        {"type": "text", "text": "sofa, "},
        "x",
        {"type": "text", "text": "lamp"},
    ]
    server.script = [reply(completion(parts))]
    answer = ask(server)
    assert isinstance(answer, Description)
    assert (answer.raw, answer.cut) == ("sofa, lamp", False)


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS"])
def test_a_cut_answer_says_so(server: LoopbackServer, finish: str) -> None:
    server.script = [reply(completion("sofa, lam", finish))]
    answer = ask(server)
    assert isinstance(answer, Description)
    assert (answer.raw, answer.cut) == ("sofa, lam", True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (completion(None, "length", reasoning_content="The user wants"), "no answer within 32 tokens"),
        (completion("", "length"), "--max-new-tokens allows more"),
        (completion(None, refusal="I can't help with that."), "the model refused: I can't help with that."),
        (completion(None, "content_filter"), "the model refused"),
        (completion("sofa, l", "content_filter"), "the model refused"),
    ],
)
def test_what_asking_again_would_not_change_is_not_asked_again(server: LoopbackServer, body: str, message: str) -> None:
    server.script = [reply(body)] * 3
    answer = ask(server, attempts=3)
    assert isinstance(answer, ItemError)
    assert message in answer.message
    assert len(server.requests) == 1


def test_halves_of_characters_are_replaced(server: LoopbackServer) -> None:
    server.script = [reply(completion("so\ud800fa, \ud83d\ude00 lamp"))]
    answer = ask(server)
    assert isinstance(answer, Description)
    assert answer.raw == "so\ufffdfa, \U0001f600 lamp"


@pytest.mark.parametrize("finish", ["error", "abort"])
def test_an_answer_that_the_server_gave_up_is_asked_for_again(server: LoopbackServer, finish: str) -> None:
    server.script = [reply(completion("sofa, l", finish)), say("sofa, lamp")]
    answer = ask(server, attempts=2)
    assert isinstance(answer, Description)
    assert answer.raw == "sofa, lamp"
    assert len(server.requests) == 2


FLOODS = {
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "a status line": b"HTTP/1.1 200 ",
    "the extension of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    "a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_cut_off(server: LoopbackServer, flood: str) -> None:
    sent = 0

    def behaviour(handler: Handler) -> None:
        nonlocal sent
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(FLOODS[flood])
            while True:
                handler.wfile.write(b"a" * 2**16)
                sent += 2**16

    message = refused(server, behaviour)
    assert "broke: Receive buffer too long" in message or "sends more than" in message
    assert sent < MAX_ANSWER_BYTES + 2**24
