"""Captions from a server that speaks OpenAI's chat completions (vLLM, Ollama, …)."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import logging
import math
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any, NoReturn

import httpx
from PIL import Image

from synood_cli.errors import ItemError, ModelError, SynoodError, UsageError
from synood_cli.models.protocols import Captioner
from synood_cli.records import Description, ModelSpec, printable

JPEG_QUALITY = 95
"""High enough that no caption depends on it; PNG would send five times the bytes."""
MAX_RETRY_AFTER = 60.0
"""Seconds: the longest wait that is granted to a server that asks for one."""
MAX_ANSWER_BYTES = 4 * 2**20
"""Largest answer that is read: a chat completion of a thousand tokens has some 5 kB."""
CUT = ("length", "max_tokens")
"""Values of finish_reason that say that an answer was cut off."""

FAILED = ("error", "abort")
"""Values of finish_reason that say that the server gave up."""

logger = logging.getLogger(__name__)
EXCERPT = 200
"""Characters of an unexpected answer that an error message quotes."""


class _PassingError(Exception):
    """The request failed in a way that may pass; `after` is the wait in seconds that the server asked for."""

    def __init__(self, error: ItemError | ModelError, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.after = after


class OpenAiServerCaptioner(Captioner):
    """φ of Eq. 3: the model `spec.name` of the server at `spec.url` (with or without `/v1`), asked for one image a
    request, at temperature 0, `concurrency` requests at a time.

    `instruction` is p_in, with `{class_name}` where the main object's name goes. `key_env` names the environment
    variable that holds the API key; without it none is sent, and never over plain http to another machine. No redirect
    is followed. Answers that are not complete after `timeout` seconds, broken connections, answers that are no chat
    completion, and the statuses 408, 409, 429 and 5xx are tried again, `attempts` requests in all, after a pause that
    starts at `backoff` seconds, doubles each time and varies by half (or after the server's Retry-After, which may be
    MAX_RETRY_AFTER).
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        instruction: str,
        max_new_tokens: int,
        concurrency: int,
        timeout: float,
        attempts: int,
        backoff: float,
        key_env: str | None = None,
    ) -> None:
        if not spec.url:
            raise UsageError("an OpenAI-compatible captioner needs the server's address", hint="give its URL")
        self.spec = spec
        self.instruction = instruction
        self.max_new_tokens = max_new_tokens
        self.concurrency = concurrency
        self.attempts = attempts
        self.backoff = backoff
        self.endpoint = chat_completions_url(spec.url)
        try:
            usable = httpx.URL(self.endpoint).scheme in ("http", "https")
        except httpx.InvalidURL:
            usable = False
        if not usable:
            raise UsageError(f"{spec.url!r} is no address of a server", hint="write http://HOST:PORT")
        self.timeout = timeout
        self._headers = {"Accept-Encoding": "identity"}
        if key_env is not None:
            self._headers["Authorization"] = f"Bearer {api_key(key_env, httpx.URL(self.endpoint))}"
        self._certificates = httpx.create_ssl_context()

    def prepared_bytes(self, width: int, height: int) -> int:  # noqa: ARG002
        """None: an image is sent in its own size."""
        return 0

    def describe(self, images: Sequence[Image.Image], class_names: Sequence[str]) -> list[Description | Exception]:
        """One answer per image, in order.

        An image that stays without an answer, or that the model refused, yields an ItemError that says what came
        instead. Raises ModelError when no image can succeed: the server cannot be reached, refuses the key, asks for a
        long wait, redirects, or does not know the model. An interrupt (Ctrl-C) gives up the requests in flight.
        """
        results = asyncio.run(self._describe_all(images, class_names))
        for result in results:
            if isinstance(result, ModelError):
                raise result
        return results

    # Tasks and not threads: an interrupt cancels a task that waits for a silent server; a thread would be waited for.
    async def _describe_all(
        self, images: Sequence[Image.Image], class_names: Sequence[str]
    ) -> list[Description | Exception]:
        asyncio.get_running_loop().set_exception_handler(_report)
        free = asyncio.Semaphore(self.concurrency)
        limits = httpx.Limits(max_connections=self.concurrency)
        async with httpx.AsyncClient(
            headers=self._headers, timeout=self.timeout, limits=limits, verify=self._certificates
        ) as client:

            async def in_turn(image: Image.Image, class_name: str) -> Description | Exception:
                async with free:
                    return await self._describe_one(client, image, class_name)

            return await asyncio.gather(*map(in_turn, images, class_names))

    async def _describe_one(
        self, client: httpx.AsyncClient, image: Image.Image, class_name: str
    ) -> Description | Exception:
        started = time.perf_counter()
        body = {
            "model": self.spec.name,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": data_url(image)}},
                        {"type": "text", "text": self.instruction.replace("{class_name}", class_name)},
                    ],
                }
            ],
            "max_tokens": self.max_new_tokens,
            "temperature": 0,
        }
        for attempt in range(self.attempts):
            try:
                answer = await self._ask(client, body)
                return answer._replace(seconds=time.perf_counter() - started)
            except _PassingError as failure:
                error = failure.error
                if attempt + 1 < self.attempts:
                    pause = self.backoff * 2**attempt * random.uniform(0.5, 1.5)
                    await asyncio.sleep(pause if failure.after is None else failure.after)
            except (ItemError, ModelError) as permanent:
                return permanent
        return error

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, object]) -> Description:
        """The answer to one request. Raises _PassingError for what may pass, ItemError or ModelError for the rest."""
        try:
            async with asyncio.timeout(self.timeout):
                response, text = await self._send(client, body)
            return self._answer(text) if response.is_success else self._refused(response, text)
        except (_PassingError, SynoodError):
            raise
        except httpx.ConnectError as error:
            hint = "is the server running, and the URL right?"
            raise _PassingError(ModelError(f"cannot reach {self.endpoint}: {error}", hint=hint)) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise _PassingError(ItemError(f"{self.endpoint} did not answer within {self.timeout:g} s")) from error
        except httpx.TransportError as error:
            raise _PassingError(
                ItemError(f"the connection to {self.endpoint} broke: {printable(str(error))}")
            ) from error
        except Exception as error:  # whatever a server sends costs one image, not the run
            logger.debug("the answer of %s", self.endpoint, exc_info=True)
            raise _PassingError(
                ItemError(f"{self.endpoint}: the answer cannot be read: {excerpt(str(error))}")
            ) from error

    async def _send(self, client: httpx.AsyncClient, body: dict[str, object]) -> tuple[httpx.Response, str]:
        """The response, and its body of at most MAX_ANSWER_BYTES."""
        content = bytearray()
        async with client.stream("POST", self.endpoint, json=body) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ItemError(f"{self.endpoint} sends compressed answers, which were not asked for")
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise ItemError(f"{self.endpoint} sends more than {MAX_ANSWER_BYTES:,} bytes: no chat completion")
        return response, content.decode("utf-8", "replace")

    def _refused(self, response: httpx.Response, text: str) -> NoReturn:
        status = response.status_code
        problem = f"{self.endpoint} answered {status} {printable(response.reason_phrase)}: {excerpt(text)}"
        if status in (408, 409, 429) or response.is_server_error:
            wait = retry_after(response.headers.get("Retry-After"))
            if wait is not None and wait > MAX_RETRY_AFTER:
                raise ModelError(
                    f"{problem}; it asks to wait {wait:.6g} s",
                    hint="run the same command again then: what was finished is kept",
                )
            raise _PassingError(ItemError(problem), wait)
        if response.is_redirect:
            where = printable(response.headers.get("Location", "nowhere")[:EXCERPT])
            raise ModelError(
                f"{self.endpoint} redirects to {where}, which is not followed", hint="if that is the server, name it"
            )
        if status in (401, 403):
            raise ModelError(problem, hint="--captioner-key-env NAME: the environment variable that holds its key")
        if status == 404:
            raise ModelError(problem, hint=f"does the server know the model {self.spec.name!r}, and is the URL right?")
        raise ItemError(problem)

    def _answer(self, text: str) -> Description:
        """What a chat completion says. Anything else is a passing failure: servers under load send such things. Raises
        ItemError where the model refuses, or had no tokens left for an answer."""
        try:
            choice = json.loads(text)["choices"][0]
            message, finished = choice["message"], choice.get("finish_reason")
            content = text_content(message.get("content"))
            refusal = message.get("refusal")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _PassingError(ItemError(f"no chat completion but {excerpt(text)}")) from error
        if (isinstance(refusal, str) and refusal.strip()) or finished == "content_filter":
            raise ItemError(f"the model refused: {excerpt(refusal if isinstance(refusal, str) else 'content_filter')}")
        cut = isinstance(finished, str) and finished.lower() in CUT
        if not content and cut:
            raise ItemError(
                f"no answer within {self.max_new_tokens} tokens, in which the model may have reasoned; "
                "--max-new-tokens allows more"
            )
        if not content or finished in FAILED:
            what = "a chat completion without text" if not content else "an answer that the server gave up"
            raise _PassingError(ItemError(f"{what}: {excerpt(text)}"))
        return Description(content, cut=cut)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Silent on a signal that a task happened to be hit by: it ends the whole run, which says so once."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


def chat_completions_url(url: str) -> str:
    """The endpoint below a server's address, given with or without scheme, `/v1` or the whole path."""
    address = (url if "://" in url else f"http://{url}").rstrip("/")
    address = address.removesuffix("/chat/completions").removesuffix("/v1")
    return f"{address}/v1/chat/completions"


def api_key(variable: str, url: httpx.URL) -> str:
    """The key in the environment variable, to be sent to `url`. Raises UsageError when there is none, when no header
    can hold it, and when it would go over plain http to another machine."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment variable {printable(variable)} is not set", hint=f"export {variable}=KEY")
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the value of {printable(variable)} is no key: it holds other characters than ASCII's")
    if url.scheme != "https" and not is_loopback(url.host):
        raise UsageError(
            f"the key in {printable(variable)} is not sent to {url.host} over plain http",
            hint="write https://, or reach the server by a tunnel: ssh -L 8000:localhost:8000 HOST",
        )
    return key


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def text_content(content: object) -> str:
    """The text of a message: a string, or the parts of a list that are text (and not reasoning, or an image)."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text")]
        content = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    if not isinstance(content, str):
        return ""
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()  # halves of characters: �


def data_url(image: Image.Image) -> str:
    """The image as a base64 JPEG `data:` URL."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header (a number or a date) asks to wait; None if none."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def excerpt(text: str) -> str:
    """The beginning of what a server sent, fit for an error message."""
    return printable(text.strip()[:EXCERPT]) or "an empty body"
