"""A head from elsewhere names a CLIP: which one it is, and whether it may be loaded.

A CLIP decides what every score means, and loading one reads files that somebody else wrote. A head that the user made
belongs to a CLIP that the user named. One that was pulled, or that is in a folder, belongs to one that its author
named: it must be known (open_clip lists its weights, or it comes with synood), or the user says that it is trusted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from synood_cli.config import bundled
from synood_cli.errors import UsageError
from synood_cli.models.revisions import by_content, named_by_content
from synood_cli.records import ModelSpec, local, printable


def described(spec: ModelSpec) -> str:
    """A CLIP in few words: its name, and its weights or its commit."""
    kind = "digest" if spec.folder is not None else "commit"
    which = spec.pretrained or (f"{kind} {spec.revision[:12]}" if spec.revision else None)
    return printable(f"{spec.name:.100} ({which:.100})" if which else f"{spec.name:.100}")


def publisher(spec: ModelSpec) -> str | None:
    """Who published the CLIP, when it is one of open_clip's own table of weights: by its name and weight tag, or by the
    repository that a tag stands for. None for every other one, and for local files, of which names say nothing.
    """
    if spec.adapter != "open_clip" or named_by_content(spec) or spec.folder is not None or spec.file is not None:
        return None
    from open_clip import get_pretrained_cfg, list_pretrained

    if "/" not in spec.name:
        if spec.pretrained is None or not get_pretrained_cfg(spec.name, spec.pretrained):
            return None
        return _named(spec.pretrained, str(get_pretrained_cfg(spec.name, spec.pretrained).get("hf_hub", "")))
    repository = spec.name.removeprefix("hf-hub:")
    for name, tag in list_pretrained():
        place = str(get_pretrained_cfg(name, tag).get("hf_hub", ""))
        if place.rpartition("/")[0] == repository:
            return _named(tag, place)
    return None


def chosen_by_name(spec: ModelSpec, given: Path | None) -> bool:
    """Whether --clip repeats the name of the CLIP (its commit or weight tag behind an @ or not), which says that it is
    wanted, instead of a place."""
    names = {spec.name, spec.name.removeprefix("hf-hub:")}
    names |= {f"{name}@{more}" for name in names for more in (spec.revision, spec.pretrained) if more}
    return given is not None and local(str(given), Path.exists) is None and str(given) in names


def require_trust(
    spec: ModelSpec, head: str, *, trusted: Iterable[ModelSpec] = (), given: Path | None = None, trust: bool = False
) -> str:
    """What to tell the user of the CLIP of the foreign head called `head`, before it is loaded.

    Raises UsageError when it is not known, and the user neither trusts it nor says which one is meant. Nothing is
    fetched to find out. Weights that are named by their content are the bundled CLIP's, or where the user said.
    """
    about = f"{head} belongs to the CLIP {described(spec)}"
    if _found_by_content(spec):
        return f"{head} belongs to a CLIP that is known by its content: the bundled one, or the files that you name"
    if (known := publisher(spec)) is not None:
        return f"{about}, a known one: published by {known}"
    chosen = trust or chosen_by_name(spec, given) or (given is not None and local(str(given), Path.exists) is not None)
    if chosen or by_content(spec) in set(trusted):
        return f"{about}, which is not a known one: it is loaded because you chose it"
    raise UsageError(
        f"{about}, which is not a known one: open_clip does not list its weights, and you have not named it yourself",
        hint="if you trust whoever published that CLIP, say so: --trust-clip, or --clip with its name, "
        f"{printable(spec.name[:100])}; once for a workspace: synood pull HEAD --trust-clip",
    )


def _found_by_content(spec: ModelSpec) -> bool:
    """Whether the CLIP is the bundled one, or is looked for by its digest: among the files that the user names."""
    here = spec.folder is not None or spec.file is not None
    return spec.folder == bundled("clip") if here else named_by_content(by_content(spec))


def _named(tag: str, place: str) -> str:
    organisation = place.partition("/")[0]
    if tag == "openai":
        return "OpenAI"
    return "LAION" if organisation == "laion" or tag.startswith("laion") else f"{organisation} (listed by open_clip)"
