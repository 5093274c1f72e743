"""How many steps a diffusion model can be run in, found out without loading it (nor torch)."""

from __future__ import annotations

from synood_cli.errors import UsageError
from synood_cli.models.model_files import existing, fetched, settings
from synood_cli.records import ModelSpec

_CONFIG = "scheduler/scheduler_config.json"
_USUAL = 1000
"""Steps that Stable Diffusion was trained with, and what diffusers takes where the settings do not say."""


def check_steps(spec: ModelSpec, steps: int) -> None:
    """Raise UsageError when the scheduler of `spec` has fewer steps. The hub is asked for a number that is unusual
    only."""
    if spec.folder is None and steps <= _USUAL:
        return
    known = _USUAL
    folder = fetched(spec, (_CONFIG,))
    if existing(folder, [_CONFIG]):
        said = settings(folder, _CONFIG).get("num_train_timesteps")
        known = said if type(said) is int else _USUAL
    if steps > known:
        raise too_many_steps(steps, known)


def too_many_steps(steps: int, known: int) -> UsageError:
    """What to say of `steps` where the scheduler has `known`."""
    return UsageError(
        f"--steps {steps}: the scheduler of this inpainter has {known} steps at most", hint=f"--steps {min(known, 50)}"
    )
