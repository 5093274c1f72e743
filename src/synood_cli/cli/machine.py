"""What the machine refuses: memory, files, streams. It is said in words; anything else that escapes is a bug."""

from __future__ import annotations

import os
import sys

from synood_cli.errors import SynoodError

_NO_MEMORY = (
    "allocate memory",
    "out of memory",
    "unable to allocate",
    "bad_alloc",
    "failed to map segment",  # a library that does not fit under `ulimit -v`
    "can't start new thread",
)


def refusal(error: BaseException) -> SynoodError | None:
    """`error` in words where it is the machine's answer; None where it is a bug's."""
    text = str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError) and any(sign in text.lower() for sign in _NO_MEMORY)
    ):
        return SynoodError(
            "not enough memory" + (f" ({text.splitlines()[0]:.200})" if text else ""),
            hint="what is finished is kept: try a smaller --batch-size or fewer --workers, or raise `ulimit -v`",
        )
    if isinstance(error, OSError):
        from synood_cli.paths import REASONS, refused, shown  # with pydantic, which takes longer than the help page

        if error.errno in REASONS and _is_path(error):
            return refused(os.fsdecode(error.filename), error)
        reason = error.strerror or text or type(error).__name__
        where = f": {shown(os.fsdecode(error.filename))}" if _is_path(error) else ""
        return SynoodError(f"{reason}{where}", hint="what is finished is kept; --verbose shows where it came from")
    if isinstance(error, RuntimeError) and "home directory" in text:  # Path.expanduser, Path.home
        return SynoodError("the home folder of that user is not known", hint="name the folder itself, without ~")
    return None


def _is_path(error: OSError) -> bool:
    return isinstance(error.filename, str | bytes | os.PathLike)


def check_current_folder() -> None:
    """Raise SynoodError when the current folder does not exist any more: nothing relative can be found then."""
    try:
        os.getcwd()  # noqa: PTH109  (Path.cwd is the same)
    except OSError as error:
        raise SynoodError(
            f"the current folder cannot be found: {error.strerror}", hint="cd to another folder"
        ) from error


def occupy_standard_streams() -> None:
    """Open the standard streams that the caller has closed, on /dev/null: the next file to be opened would get their
    number, and what a library prints would be written into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
