"""OpenAiServerCaptioner against a real HTTP server on the loopback that misbehaves on demand."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO

import pytest
from PIL import Image

from chat_server import (
    Behaviour,
    LoopbackServer,
    ask,
    captioner,
    cut_connection,
    cut_in_the_body,
    say,
    serving,
    status,
)
from synood_cli.errors import ItemError, ModelError, UsageError
from synood_cli.models.openai_server import (
    OpenAiServerCaptioner,
    chat_completions_url,
    excerpt,
    retry_after,
)
from synood_cli.records import Description, ModelSpec


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with serving() as loopback:
        yield loopback


def test_the_request_is_an_openai_chat_completion_with_the_image_in_it(server: LoopbackServer) -> None:
    (answer,) = captioner(server.url).describe([Image.new("RGB", (20, 10), "red")], ["tabby cat"])
    assert isinstance(answer, Description)
    assert (answer.raw, answer.elements) == ("grass, sky", None)
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert "Authorization" not in request.headers
    assert (request.body["model"], request.body["max_tokens"], request.body["temperature"]) == ("llava", 32, 0)
    picture, text = request.body["messages"][0]["content"]
    assert text == {"type": "text", "text": "List all but the tabby cat."}
    header, _, data = picture["image_url"]["url"].partition(",")
    assert header == "data:image/jpeg;base64"
    sent = Image.open(BytesIO(base64.b64decode(data)))
    assert (sent.format, sent.size) == ("JPEG", (20, 10))
    red, green, blue = sent.getpixel((5, 5))
    assert red > 250
    assert max(green, blue) < 5


def test_answers_keep_the_order_of_images_and_requests_run_concurrently(server: LoopbackServer) -> None:
    server.script = [lambda handler: say(handler.body["messages"][0]["content"][1]["text"], after=0.1)(handler)] * 8
    names = [f"thing {i}" for i in range(8)]
    started = time.perf_counter()
    answers = captioner(server.url, concurrency=4).describe([Image.new("RGB", (8, 8))] * 8, names)
    assert [answer.raw for answer in answers if isinstance(answer, Description)] == [
        f"List all but the {name}." for name in names
    ]
    assert server.most_active == 4
    assert time.perf_counter() - started < 0.8


@pytest.mark.parametrize(
    "trouble",
    [
        status(500),
        status(503, "busy"),
        status(429),
        cut_connection,
        cut_in_the_body,
        status(200, "<html>try later</html>"),
        status(200, "{}"),
        status(200, '{"choices": []}'),
        status(200, "[1]"),
        say("  "),
        say(None),
    ],
)
def test_passing_trouble_is_tried_again(server: LoopbackServer, trouble: Behaviour) -> None:
    server.script = [trouble, trouble]
    answer = ask(server)
    assert isinstance(answer, Description)
    assert answer.raw == "grass, sky"
    assert len(server.requests) == 3


def test_a_slow_answer_is_given_up_and_asked_for_again(server: LoopbackServer) -> None:
    server.script = [say("too late", after=0.6)]
    answer = ask(server, timeout=0.2)
    assert isinstance(answer, Description)
    assert answer.raw == "grass, sky"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (status(500, "out of\nmemory"), r"answered 500 Internal Server Error: out of\\nmemory"),
        (say("late", after=0.5), r"did not answer within 0\.2 s"),
        (cut_connection, "the connection to .* broke"),
        (status(200, "<html>try later</html>"), "no chat completion but <html>try later</html>"),
        (status(200, '{"error": "no"}'), 'no chat completion but {"error": "no"}'),
        (status(200, ""), "no chat completion but an empty body"),
        (say(""), "a chat completion without text"),
    ],
)
def test_lasting_trouble_becomes_an_item_error_that_says_what_came(
    server: LoopbackServer, trouble: Behaviour, message: str
) -> None:
    server.script = [trouble] * 2
    answer = ask(server, attempts=2, timeout=0.2)
    assert isinstance(answer, ItemError)
    assert len(server.requests) == 2
    with pytest.raises(ItemError, match=message):
        raise answer


def test_one_bad_image_does_not_lose_its_batch(server: LoopbackServer) -> None:
    server.script = [say("one"), status(400, "image too small"), say("three")]
    first, second, third = captioner(server.url).describe([Image.new("RGB", (8, 8))] * 3, ["cat"] * 3)
    assert isinstance(first, Description)
    assert isinstance(third, Description)
    assert (first.raw, third.raw) == ("one", "three")
    assert isinstance(second, ItemError)
    assert "400 Bad Request: image too small" in second.message
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("code", "hint"), [(401, "--captioner-key-env NAME"), (403, "--captioner-key-env NAME"), (404, "'llava'")]
)
def test_what_no_image_can_get_past_stops_at_once(server: LoopbackServer, code: int, hint: str) -> None:
    server.script = [status(code, "refused")] * 3
    with pytest.raises(ModelError, match=f"answered {code}") as stopped:
        ask(server)
    assert hint in str(stopped.value.hint)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_a_model_error(server: LoopbackServer) -> None:
    server.server_close()
    with pytest.raises(ModelError, match="cannot reach http://127") as stopped:
        ask(server, attempts=2)
    assert "is the server running" in str(stopped.value.hint)


def test_retry_after_is_waited_for(server: LoopbackServer) -> None:
    server.script = [status(429, Retry_After="0.3")]
    started = time.perf_counter()
    answer = ask(server)
    assert isinstance(answer, Description)
    assert 0.3 <= time.perf_counter() - started < 2
    assert answer.seconds >= 0.3


def test_pauses_double_and_vary_by_half(server: LoopbackServer) -> None:
    server.script = [status(500)] * 4
    started = time.perf_counter()
    assert isinstance(ask(server, attempts=4, backoff=0.05), ItemError)
    assert 0.05 * 7 * 0.5 <= time.perf_counter() - started < 0.05 * 7 * 1.5 + 1


def test_retry_after_header_is_seconds_or_a_date() -> None:
    assert retry_after("2.5") == 2.5
    assert retry_after("100000") == 100_000
    assert retry_after("-3") == 0
    soon = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert soon is not None
    assert 28 < soon <= 30
    assert [retry_after(header) for header in (None, "soon", "nan", "")] == [None] * 4


@pytest.mark.parametrize(
    "url",
    [
        "localhost:11434",
        "http://localhost:11434",
        "http://localhost:11434/",
        "http://localhost:11434/v1",
        "http://localhost:11434/v1/",
        "http://localhost:11434/v1/chat/completions",
    ],
)
def test_urls_are_normalised(url: str) -> None:
    assert chat_completions_url(url) == "http://localhost:11434/v1/chat/completions"


def test_a_path_and_https_are_kept() -> None:
    assert chat_completions_url("https://api.example.org/llm/v1") == "https://api.example.org/llm/v1/chat/completions"


def test_an_address_is_needed() -> None:
    with pytest.raises(UsageError, match="needs the server's address"):
        OpenAiServerCaptioner(
            ModelSpec(adapter="openai-server", name="llava"),
            instruction="",
            max_new_tokens=1,
            concurrency=1,
            timeout=1,
            attempts=1,
            backoff=1,
        )


def test_excerpts_are_short_and_printable() -> None:
    assert excerpt("a\x1b[31mb\n") == "a\\x1b[31mb"
    assert len(excerpt("x" * 10_000)) == 200
