"""Captions from a server that speaks OpenAI's chat completions (vLLM, Ollama, …)."""

from __future__ import annotations

import asyncio
import base64
import math
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any

import httpx
from PIL import Image

from synood_cli.errors import ItemError, ModelError, UsageError
from synood_cli.models.protocols import Captioner
from synood_cli.records import Description, ModelSpec, printable

API_KEY_VARIABLES = ("SYNOOD_CAPTIONER_API_KEY", "OPENAI_API_KEY")
JPEG_QUALITY = 95
"""High enough that no caption depends on it; PNG would send five times the bytes."""
MAX_RETRY_AFTER = 60.0
"""Seconds: the longest wait that a server may ask for."""
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

    `instruction` is p_in, with `{class_name}` where the main object's name goes. The API key comes from the first of
    $SYNOOD_CAPTIONER_API_KEY and $OPENAI_API_KEY that is set; without one none is sent. Time-outs (after `timeout`
    seconds of silence), broken connections, answers that are no chat completion, and the statuses 408, 409, 429 and
    5xx are tried again, `attempts` requests in all, after a pause that starts at `backoff` seconds, doubles each time
    and varies by half (or after the server's Retry-After, capped at a minute).
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
        key = next((os.environ[name] for name in API_KEY_VARIABLES if os.environ.get(name)), None)
        self.timeout = timeout
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._certificates = httpx.create_ssl_context()

    def describe(self, images: Sequence[Image.Image], class_names: Sequence[str]) -> list[Description | Exception]:
        """One answer per image, in order.

        An image that stays without an answer yields an ItemError that says what came instead. Raises ModelError when
        no image can succeed: the server cannot be reached, refuses the key, or does not know the model. An interrupt
        (Ctrl-C) gives up the requests in flight.
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
                return Description(await self._ask(client, body), seconds=time.perf_counter() - started)
            except _PassingError as failure:
                error = failure.error
                if attempt + 1 < self.attempts:
                    pause = self.backoff * 2**attempt * random.uniform(0.5, 1.5)
                    await asyncio.sleep(pause if failure.after is None else failure.after)
            except (ItemError, ModelError) as permanent:
                return permanent
        return error

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, object]) -> str:
        """The answer to one request. Raises _PassingError for what may pass, ItemError or ModelError for the rest."""
        try:
            response = await client.post(self.endpoint, json=body)
        except httpx.ConnectError as error:
            hint = "is the server running, and the URL right?"
            raise _PassingError(ModelError(f"cannot reach {self.endpoint}: {error}", hint=hint)) from error
        except httpx.TimeoutException as error:
            raise _PassingError(ItemError(f"{self.endpoint} did not answer within {self.timeout:g} s")) from error
        except httpx.TransportError as error:
            raise _PassingError(ItemError(f"the connection to {self.endpoint} broke: {error}")) from error
        if response.is_success:
            return self._answer(response)
        problem = f"{self.endpoint} answered {response.status_code} {response.reason_phrase}: {excerpt(response.text)}"
        if response.status_code in (408, 409, 429) or response.is_server_error:
            raise _PassingError(ItemError(problem), retry_after(response.headers.get("Retry-After")))
        if response.status_code in (401, 403):
            raise ModelError(problem, hint=f"set ${API_KEY_VARIABLES[0]} to a key that the server accepts")
        if response.status_code == 404:
            raise ModelError(problem, hint=f"does the server know the model {self.spec.name!r}, and is the URL right?")
        raise ItemError(problem)

    def _answer(self, response: httpx.Response) -> str:
        """The text of a chat completion. Anything else is a passing failure: servers under load send such things."""
        try:
            content = response.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise _PassingError(ItemError(f"no chat completion but {excerpt(response.text)}")) from error
        if not isinstance(content, str) or not content.strip():
            raise _PassingError(ItemError(f"a chat completion without text: {excerpt(response.text)}"))
        return content.strip()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Silent on a signal that a task happened to be hit by: it ends the whole run, which says so once."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


def chat_completions_url(url: str) -> str:
    """The endpoint below a server's address, given with or without scheme, `/v1` or the whole path."""
    address = (url if "://" in url else f"http://{url}").rstrip("/")
    address = address.removesuffix("/chat/completions").removesuffix("/v1")
    return f"{address}/v1/chat/completions"


def data_url(image: Image.Image) -> str:
    """The image as a base64 JPEG `data:` URL."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def retry_after(header: str | None) -> float | None:
    """Seconds, at most MAX_RETRY_AFTER, that a Retry-After header (a number or a date) asks to wait; None if none."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def excerpt(text: str) -> str:
    """The beginning of what a server sent, fit for an error message."""
    return printable(text.strip()[:EXCERPT]) or "an empty body"
