"""The noise schedule of a diffusion model: its settings, and how many steps it can be run in, found out without loading
it (nor torch)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synood_cli.errors import ModelError, UsageError
from synood_cli.models.model_files import existing, fetched, settings
from synood_cli.records import ModelSpec, printable

_CONFIG = "scheduler/scheduler_config.json"
_USUAL = 1000
"""Steps that Stable Diffusion was trained with, and what diffusers takes where the settings do not say."""

MAX_STEPS = 10_000
"""Steps of a noise schedule, at most: tables of so many numbers are made from the settings."""

Noise = Annotated[float, Field(gt=0, lt=1)]


class Schedule(BaseModel):
    """What the schedulers that are run here (DDIM, PNDM) read of `scheduler_config.json`; they ignore the rest."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    num_train_timesteps: int = Field(_USUAL, ge=1, le=MAX_STEPS)
    beta_start: Noise = 0.0001
    beta_end: Noise = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    trained_betas: list[Noise] | None = None
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    timestep_spacing: Literal["linspace", "leading", "trailing"] = "leading"
    steps_offset: int = Field(0, ge=0, le=1)
    rescale_betas_zero_snr: bool = False
    set_alpha_to_one: bool = False
    skip_prk_steps: bool = True
    clip_sample: bool = False
    clip_sample_range: float = Field(1.0, gt=0, le=1000)
    thresholding: bool = False
    dynamic_thresholding_ratio: float = Field(0.995, ge=0, le=1)
    sample_max_value: float = Field(1.0, gt=0, le=1000)


def checked_schedule(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """The settings of `document`, the file `name`, that are a noise schedule's, as they are written there.

    Raises ModelError that names the first one that is none.
    """
    try:
        found = Schedule.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = printable(".".join(map(str, first["loc"]))[:80])
        raise ModelError(f"{name}: {place}: {first['msg']}", hint=_HINT) from error
    betas = found.trained_betas
    if betas is not None and len(betas) != found.num_train_timesteps:
        raise ModelError(f"{name}: {len(betas)} trained_betas are not {found.num_train_timesteps}", hint=_HINT)
    return {key: value for key, value in document.items() if key in Schedule.model_fields or key == "_class_name"}


_HINT = "use an inpainter with the noise schedule of Stable Diffusion"


def check_steps(spec: ModelSpec, steps: int) -> None:
    """Raise UsageError when the scheduler of `spec` has fewer steps. The hub is asked for a number that is unusual
    only."""
    if spec.folder is None and steps <= _USUAL:
        return
    known = _USUAL
    folder = fetched(spec, (_CONFIG,))
    if existing(folder, [_CONFIG]):
        known = checked_schedule(_CONFIG, settings(folder, _CONFIG)).get("num_train_timesteps", _USUAL)
    if steps > known:
        raise too_many_steps(steps, known)


def too_many_steps(steps: int, known: int) -> UsageError:
    """What to say of `steps` where the scheduler has `known`."""
    return UsageError(
        f"--steps {steps}: the scheduler of this inpainter has {known} steps at most", hint=f"--steps {min(known, 50)}"
    )
