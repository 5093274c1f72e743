"""Asking a hub that may lie.

The token goes to the endpoint alone, wherever the hub redirects to. A body is read up to its limit and no further, and
uncompressed. Whatever the hub does, the transfer ends within its time limit. Of the headers of an answer only Location,
Content-Length, Content-Range and the error's code are used.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import math
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import httpx

from synood_cli import __version__
from synood_cli.errors import HubError, SynoodError, UsageError
from synood_cli.hub_client.wanted import MAIN, NotReachedError, Wanted, is_commit, not_reached, reason_of, refused
from synood_cli.records import printable

TIME_LIMIT_VARIABLE = "SYNOOD_HUB_TIMEOUT"
TIME_LIMIT = 30.0
"""Seconds for all that is asked of a hub about one head or model, in addition to the time that what has arrived of it
takes at SLOWEST."""
SLOWEST = 128 * 2**10
"""Bytes a second: a connection of 1 Mbit/s has the time to fetch what it asks for."""

MAX_ANSWER_BYTES = 8 * 2**20
"""Largest answer about a repository: the Hub lists its files in it, some 300 bytes each."""
MAX_REDIRECTS = 5
ATTEMPTS = 3
"""Requests for one file, when connections break or the hub is busy; each goes on where the last one broke."""
PROGRESS = 2**20
"""Bytes of one request after which the attempts are counted anew: large files outlast any number of broken
connections."""
PAUSE = 0.25
"""Seconds before the second attempt, doubled before the third. A Retry-After is not obeyed."""
BUSY = (500, 502, 503, 504)
CHECK = "check HF_ENDPOINT: is it the hub that you mean?"

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Transfer:
    """What can be asked of the hub about one repository, before the deadline."""

    def __init__(self, wanted: Wanted, client: httpx.AsyncClient, seconds: float, deadline: asyncio.Timeout) -> None:
        from huggingface_hub import constants

        self.wanted = wanted
        self._client = client
        self._silence = min(seconds, float(constants.HF_HUB_DOWNLOAD_TIMEOUT))
        self._client.timeout = httpx.Timeout(self._silence)
        self.seconds = seconds
        self.on_bytes: Callable[[int], object] = int
        """Called with the number of bytes of each piece that arrives."""
        self._deadline = deadline
        self._to_come = 0
        self._endpoint = constants.ENDPOINT.rstrip("/")
        self._token = _token()
        self._headers = {"User-Agent": f"synood/{__version__}", "Accept-Encoding": "identity"}

    def allow(self, size: int) -> None:
        """So many bytes are to come: the deadline moves by the time that they take, as they arrive and once only."""
        self._to_come += size

    def arrived(self, size: int) -> None:
        """Count `size` bytes that are here."""
        seconds = min(size, self._to_come) / SLOWEST
        self._to_come = max(self._to_come - size, 0)
        self.seconds += seconds
        self._deadline.reschedule((self._deadline.when() or 0) + seconds)
        self.on_bytes(size)

    async def repository(self, *, sizes: bool = False) -> tuple[str, dict[str, Any]]:
        """The commit that the revision means, and all that the hub says of the repository there; with `sizes`, also of
        its files."""
        wanted = self.wanted
        url = f"{self._endpoint}/api/models/{wanted.repository}/revision/{quote(wanted.revision or MAIN, safe='')}"
        content = io.BytesIO()
        await self.read(f"{url}?blobs=true" if sizes else url, content, MAX_ANSWER_BYTES, "its answer")
        found = json.loads(content.getvalue())
        commit = found.get("sha") if isinstance(found, dict) else None
        if not is_commit(commit):
            raise HubError(
                f"{wanted.name}: the hub names no commit but {printable(repr(commit)[:100])}",
                hint="check HF_ENDPOINT: is it a model hub?",
            )
        if is_commit(wanted.revision) and commit != wanted.revision:
            raise HubError(f"{wanted.name}: the hub answers for another commit, {commit}", hint=CHECK)
        return str(commit), found

    async def file(self, commit: str, name: str, content: BinaryIO, limit: int) -> None:
        """Write the file `name` of that commit into `content`, after what `content` holds of it already."""
        url = f"{self._endpoint}/{self.wanted.repository}/resolve/{commit}/{quote(name)}"
        await self.read(url, content, limit, name)

    async def read(self, url: str, content: BinaryIO, limit: int, what: str) -> None:
        """Write the body at `url`, of at most `limit` bytes, into `content`, which may hold its beginning."""
        attempt = 1
        while True:
            before = content.tell()
            try:
                status, headers = await self._request(httpx.URL(url), content, limit, what)
            except httpx.TransportError as error:
                if content.tell() >= before + PROGRESS:
                    attempt = 1
                elif attempt == ATTEMPTS:
                    silent = isinstance(error, httpx.TimeoutException)
                    reason = f"no answer within {self._silence:g} s" if silent else reason_of(error)
                    raise not_reached(self.wanted, reason) from error
            else:
                if status in (200, 206):
                    return
                if status not in BUSY or attempt == ATTEMPTS:
                    raise refused(self.wanted, status, headers)
            await asyncio.sleep(PAUSE * 2 ** (attempt - 1))
            attempt += 1

    async def _request(self, url: httpx.URL, content: BinaryIO, limit: int, what: str) -> tuple[int, httpx.Headers]:
        """Ask for what `content` still lacks, and append it. Returns the status and the headers."""
        home = _origin(httpx.URL(self._endpoint))
        for _ in range(MAX_REDIRECTS + 1):
            headers = {**self._headers, **(self._token if _origin(url) == home else {})}
            if content.tell():
                headers["Range"] = f"bytes={content.tell()}-"
            async with self._client.stream("GET", url, headers=headers) as response:
                if response.has_redirect_location:
                    url = self._redirected(url, response.headers["Location"])
                    continue
                if response.status_code in (200, 206):
                    await self._append(response, content, limit, what)
                return response.status_code, response.headers
        raise HubError(f"{self.wanted.name}: the hub redirects more than {MAX_REDIRECTS} times", hint=CHECK)

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        target = url.join(location)
        if target.scheme not in ("https", url.scheme) or target.scheme not in ("https", "http") or not target.host:
            raise HubError(
                f"{self.wanted.name}: the hub redirects to {printable(str(target)[:100])!r}, which is not followed",
                hint=CHECK,
            )
        return target

    async def _append(self, response: httpx.Response, content: BinaryIO, limit: int, what: str) -> None:
        start = response.headers.get("Content-Range", "").partition("-")[0] if response.status_code == 206 else ""
        if start != f"bytes {content.tell()}":  # the whole file, and not what was asked for
            content.seek(0)
            content.truncate()
            if response.status_code == 206:
                raise httpx.RemoteProtocolError("another part of the file than was asked for")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise HubError(f"{self.wanted.name}: the hub sends {what} compressed, which was not asked for", hint=CHECK)
        announced = response.headers.get("Content-Length", "0")
        if len(announced) > 18 or content.tell() + int(announced) > limit:
            raise self._too_large(what, limit)
        async for chunk in response.aiter_raw():
            if content.tell() + len(chunk) > limit:
                raise self._too_large(what, limit)
            content.write(chunk)
            self.arrived(len(chunk))

    def _too_large(self, what: str, limit: int) -> HubError:
        return HubError(
            f"{self.wanted.name}: the hub sends more than the {limit:,} bytes that {what} may have",
            hint="ask its author to publish it anew, and check HF_ENDPOINT",
        )


def transfer(wanted: Wanted, ask: Callable[[Transfer], Coroutine[Any, Any, T]], limit: float | None = None) -> T:
    """What `ask` gets from the hub, within `limit` seconds (default: `time_limit()`) and those that it allows itself.

    Raises HubError whatever goes wrong, NotReachedError where the hub does not answer.
    """
    limit = limit or time_limit()

    async def run() -> T:
        seconds = limit
        try:
            async with asyncio.timeout(limit) as deadline, httpx.AsyncClient() as client:
                hub = Transfer(wanted, client, limit, deadline)
                try:
                    return await ask(hub)
                finally:
                    seconds = hub.seconds
        except TimeoutError as error:
            raise NotReachedError(
                f"{wanted.name}: the hub did not send it within the time limit of {seconds:.3g} s",
                hint=f"run it again later, or allow more seconds: {TIME_LIMIT_VARIABLE}={10 * limit:g}",
            ) from error

    try:
        return _run(run())
    except SynoodError:
        raise
    except Exception as error:  # an answer that no hub gives: whatever a server sends, it is a message
        logger.debug("what the hub answered about %s", wanted.name, exc_info=True)
        raise HubError(
            f"{wanted.name}: the hub's answer cannot be read: {reason_of(error)[:200]}", hint=CHECK
        ) from error


def time_limit() -> float:
    """Seconds from $SYNOOD_HUB_TIMEOUT, or TIME_LIMIT. Raises UsageError for what is no number of seconds."""
    given = os.environ.get(TIME_LIMIT_VARIABLE)
    if not given:
        return TIME_LIMIT
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"{TIME_LIMIT_VARIABLE} must be a number of seconds above 0, not {given!r:.60}")
    return seconds


def _token() -> dict[str, str]:
    """The user's token as a header; empty where there is none, or where it must not be sent unasked. (The headers that
    huggingface_hub builds name the program that runs this one too, and it asks the hub which programs to look for.)"""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; in a thread of its own where this one runs an event loop already, as a notebook's does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
