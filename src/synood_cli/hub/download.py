"""Fetching the two files of a head: into memory, and nothing is written before it was checked."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

from synood_cli.hub.address import HubAddress
from synood_cli.hub_client.transfer import Transfer, transfer
from synood_cli.hub_client.wanted import Wanted
from synood_cli.store.heads import INFO_FILE, TENSOR_FILE


class Downloaded(NamedTuple):
    """The bytes of a head's files, and the commit that the hub says they are of."""

    commit: str
    info: bytes
    tensors: bytes


def wanted_head(address: HubAddress) -> Wanted:
    """The head at `address`, as it is asked for."""
    return Wanted(
        address.repository,
        address.revision,
        name=str(address),
        without_hub="bring the head as a folder: synood pull ./FOLDER",
        lacks_files="holds no head of synood (head.json and head.safetensors)",
    )


def ask_commit(address: HubAddress) -> str:
    """The commit that `address` means on the hub. Raises HubError, NotReachedError where the hub does not answer."""

    async def commit(hub: Transfer) -> str:
        return (await hub.repository())[0]

    return transfer(wanted_head(address), commit)


def download(address: HubAddress, commit: str, max_info: int, tensor_bytes: Callable[[bytes], int]) -> Downloaded:
    """`head.json` of at most `max_info` bytes, then the `head.safetensors` of as many bytes as `tensor_bytes` reads off
    it, both of `commit`. `tensor_bytes` may raise, and nothing more is asked for.

    Raises HubError, NotReachedError where the hub does not answer.
    """

    async def both(hub: Transfer) -> Downloaded:
        info, tensors = io.BytesIO(), io.BytesIO()
        await hub.file(commit, INFO_FILE, info, max_info)
        size = tensor_bytes(info.getvalue())
        hub.allow(size)
        await hub.file(commit, TENSOR_FILE, tensors, size)
        return Downloaded(commit, info.getvalue(), tensors.getvalue())

    return transfer(wanted_head(address), both)
