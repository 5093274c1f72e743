"""A model is not larger than its weights: no memory is filled on the word of its settings."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.nn import Module, Parameter
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from synood_cli.errors import ModelError


@contextmanager
def bounded_by(weights: Iterable[Path]) -> Iterator[None]:
    """Within: the modules that this thread builds have no more parameters than the files `weights` have bytes.

    Raises ModelError at the first parameter that is too many, before it is initialised: the least that a parameter
    takes in a file is one byte.
    """
    limit, thread = sum(path.stat().st_size for path in weights), threading.get_ident()
    sizes: dict[tuple[int, str], int] = {}  # by module and name: loading registers a parameter again
    total = 0

    def count(module: Module, name: str, parameter: Parameter) -> None:
        nonlocal total
        if threading.get_ident() != thread or parameter is None or is_lazy(parameter):
            return
        size = parameter.numel()
        total += size - sizes.get((id(module), name), 0)
        sizes[id(module), name] = size
        if total > limit:
            raise ModelError(
                f"the settings describe a model of {total:,} parameters or more, but the weights have {limit:,} bytes",
                hint="settings and weights belong to different models: fetch both again",
            )

    registered = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        registered.remove()
