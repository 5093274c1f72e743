"""Heads from a hub that are on this machine already: in the assets cache of huggingface_hub (HF_HOME, HF_ASSETS_CACHE).

    synood/heads/KEY/COMMIT/head.json, head.safetensors
    synood/heads/KEY/refs/KEY                             the commit that a branch or tag meant when it was last asked

A KEY is a digest, and a COMMIT is 40 hexadecimal digits: no name that a hub or an address gives is part of a path.
"""

from __future__ import annotations

from pathlib import Path

from synood_cli.hub.address import HubAddress
from synood_cli.hub.verify import FILES
from synood_cli.hub_client.wanted import MAIN, is_commit
from synood_cli.store.files import sha256_bytes, write_atomic


def known_commit(address: HubAddress) -> str | None:
    """The commit that `address` meant when the hub was last asked; None if it never was."""
    if is_commit(address.revision):
        return address.revision
    try:
        commit = _reference(address).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return commit if is_commit(commit) else None


def remember(address: HubAddress, commit: str) -> None:
    """Note the commit that a branch or tag means now."""
    if known_commit(address) != commit:
        write_atomic(_reference(address), commit.encode())


def head_folder(address: HubAddress, commit: str) -> Path:
    """Where the head of that commit is, or will be. Raises ValueError for what is no commit."""
    if not is_commit(commit):
        raise ValueError(f"{commit!r} is no commit")
    return _place(address) / commit


def is_complete(folder: Path) -> bool:
    """Whether both files of a head are in `folder`."""
    return all((folder / name).is_file() for name in FILES)


def _reference(address: HubAddress) -> Path:
    return _place(address) / "refs" / sha256_bytes((address.revision or MAIN).encode())


def _place(address: HubAddress) -> Path:
    from huggingface_hub import constants

    key = sha256_bytes(f"{constants.ENDPOINT}\n{address.repository}".encode())
    return Path(constants.HF_ASSETS_CACHE).expanduser() / "synood" / "heads" / key
