"""Fetching the two files of a head from a hub that may lie.

The token goes to the endpoint alone, wherever the hub redirects to. A body is read up to its limit and no further,
uncompressed, into memory; nothing is written before it was checked. Whatever the hub does, the transfer ends within its
time limit. Of the headers of an answer only Location, Content-Length, Content-Range and the error's code are used.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import httpx

from synood_cli import __version__
from synood_cli.errors import HubError, SynoodError, UsageError
from synood_cli.hub.address import HubAddress
from synood_cli.hub.cache import MAIN, is_commit
from synood_cli.hub.client import NotReachedError, not_reached, reason_of, refused
from synood_cli.records import printable
from synood_cli.store.heads import INFO_FILE, TENSOR_FILE

TIME_LIMIT_VARIABLE = "SYNOOD_HUB_TIMEOUT"
TIME_LIMIT = 30.0
"""Seconds for all that is asked of a hub about one head, in addition to the time that its size takes at SLOWEST."""
SLOWEST = 128 * 2**10
"""Bytes a second: a connection of 1 Mbit/s has the time to fetch a head."""

MAX_ANSWER_BYTES = 8 * 2**20
"""Largest answer about a repository: the Hub lists its files in it, some 100 bytes each."""
MAX_REDIRECTS = 5
ATTEMPTS = 3
"""Requests for one file, when connections break or the hub is busy; each goes on where the last one broke."""
PAUSE = 0.25
"""Seconds before the second attempt, doubled before the third. A Retry-After is not obeyed."""
BUSY = (500, 502, 503, 504)
CHECK = "check HF_ENDPOINT: is it the hub that you mean?"

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Downloaded(NamedTuple):
    """The bytes of a head's files, and the commit that the hub says they are of."""

    commit: str
    info: bytes
    tensors: bytes


def ask_commit(address: HubAddress) -> str:
    """The commit that `address` means on the hub. Raises HubError, NotReachedError where the hub does not answer."""
    return _transfer(address, lambda hub: hub.commit())


def download(address: HubAddress, commit: str, max_info: int, tensor_bytes: Callable[[bytes], int]) -> Downloaded:
    """`head.json` of at most `max_info` bytes, then the `head.safetensors` of as many bytes as `tensor_bytes` reads off
    it, both of `commit`. `tensor_bytes` may raise, and nothing more is asked for.

    Raises HubError, NotReachedError where the hub does not answer.
    """

    async def both(hub: _Hub) -> Downloaded:
        info = await hub.file(commit, INFO_FILE, max_info)
        size = tensor_bytes(info)
        hub.allow(size)
        return Downloaded(commit, info, await hub.file(commit, TENSOR_FILE, size))

    return _transfer(address, both)


class _Hub:
    """What can be asked about one address, before the deadline."""

    def __init__(
        self, address: HubAddress, client: httpx.AsyncClient, seconds: float, deadline: asyncio.Timeout
    ) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils._headers import build_hf_headers

        self._address = address
        self._client = client
        self._silence = min(seconds, float(constants.HF_HUB_DOWNLOAD_TIMEOUT))
        self._client.timeout = httpx.Timeout(self._silence)
        self.seconds = seconds
        self._deadline = deadline
        self._endpoint = constants.ENDPOINT.rstrip("/")
        headers = build_hf_headers(library_name="synood", library_version=__version__)
        self._token = {name: headers.pop(name) for name in list(headers) if name.lower() == "authorization"}
        self._headers = {**headers, "Accept-Encoding": "identity"}

    def allow(self, size: int) -> None:
        """Move the deadline by the time that `size` bytes take."""
        self.seconds += size / SLOWEST
        self._deadline.reschedule((self._deadline.when() or 0) + size / SLOWEST)

    async def commit(self) -> str:
        revision = quote(self._address.revision or MAIN, safe="")
        url = f"{self._endpoint}/api/models/{self._address.repository}/revision/{revision}"
        found = json.loads(await self._read(url, MAX_ANSWER_BYTES, "its answer"))
        commit = found.get("sha") if isinstance(found, dict) else None
        if not is_commit(commit):
            raise HubError(
                f"{self._address}: the hub names no commit but {printable(repr(commit)[:100])}",
                hint="check HF_ENDPOINT: is it a model hub?",
            )
        return str(commit)

    async def file(self, commit: str, name: str, limit: int) -> bytes:
        return await self._read(f"{self._endpoint}/{self._address.repository}/resolve/{commit}/{name}", limit, name)

    async def _read(self, url: str, limit: int, what: str) -> bytes:
        """The body at `url`, of at most `limit` bytes."""
        content = bytearray()
        attempt = 1
        while True:
            try:
                status, headers = await self._request(httpx.URL(url), content, limit, what)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    silent = isinstance(error, httpx.TimeoutException)
                    reason = f"no answer within {self._silence:g} s" if silent else reason_of(error)
                    raise not_reached(str(self._address), reason) from error
            else:
                if status in (200, 206):
                    return bytes(content)
                if status not in BUSY or attempt == ATTEMPTS:
                    raise refused(str(self._address), status, headers)
            await asyncio.sleep(PAUSE * 2 ** (attempt - 1))
            attempt += 1

    async def _request(self, url: httpx.URL, content: bytearray, limit: int, what: str) -> tuple[int, httpx.Headers]:
        """Ask for what `content` still lacks, and append it. Returns the status and the headers."""
        home = _origin(httpx.URL(self._endpoint))
        for _ in range(MAX_REDIRECTS + 1):
            headers = {**self._headers, **(self._token if _origin(url) == home else {})}
            if content:
                headers["Range"] = f"bytes={len(content)}-"
            async with self._client.stream("GET", url, headers=headers) as response:
                if response.has_redirect_location:
                    url = self._redirected(url, response.headers["Location"])
                    continue
                if response.status_code in (200, 206):
                    await self._append(response, content, limit, what)
                return response.status_code, response.headers
        raise HubError(f"{self._address}: the hub redirects more than {MAX_REDIRECTS} times", hint=CHECK)

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        target = url.join(location)
        if target.scheme not in ("https", url.scheme) or target.scheme not in ("https", "http") or not target.host:
            raise HubError(
                f"{self._address}: the hub redirects to {printable(str(target)[:100])!r}, which is not followed",
                hint=CHECK,
            )
        return target

    async def _append(self, response: httpx.Response, content: bytearray, limit: int, what: str) -> None:
        start = response.headers.get("Content-Range", "").partition("-")[0] if response.status_code == 206 else ""
        if start != f"bytes {len(content)}":  # the whole file, and not what was asked for
            content.clear()
            if response.status_code == 206:
                raise httpx.RemoteProtocolError("another part of the file than was asked for")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise HubError(f"{self._address}: the hub sends {what} compressed, which was not asked for", hint=CHECK)
        announced = response.headers.get("Content-Length", "0")
        if len(announced) > 18 or len(content) + int(announced) > limit:
            raise self._too_large(what, limit)
        async for chunk in response.aiter_raw():
            if len(content) + len(chunk) > limit:
                raise self._too_large(what, limit)
            content += chunk

    def _too_large(self, what: str, limit: int) -> HubError:
        return HubError(
            f"{self._address}: the hub sends more than the {limit:,} bytes that {what} may have",
            hint="ask its author to publish it anew, and check HF_ENDPOINT",
        )


def _transfer(address: HubAddress, ask: Callable[[_Hub], Coroutine[Any, Any, T]]) -> T:
    """What `ask` gets from the hub, within the time limit; whatever else goes wrong is a HubError too."""
    limit = time_limit()

    async def run() -> T:
        seconds = limit
        try:
            async with asyncio.timeout(limit) as deadline, httpx.AsyncClient() as client:
                hub = _Hub(address, client, limit, deadline)
                try:
                    return await ask(hub)
                finally:
                    seconds = hub.seconds
        except TimeoutError as error:
            raise NotReachedError(
                f"{address}: the hub did not send it within the time limit of {seconds:.3g} s",
                hint=f"run it again later, or allow more seconds: {TIME_LIMIT_VARIABLE}={10 * limit:g}",
            ) from error

    try:
        return _run(run())
    except SynoodError:
        raise
    except Exception as error:  # an answer that no hub gives: whatever a server sends, it is a message
        logger.debug("what the hub answered about %s", address, exc_info=True)
        raise HubError(f"{address}: the hub's answer cannot be read: {reason_of(error)[:200]}", hint=CHECK) from error


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
