"""Which CLIPs are known, and what is asked of the user for the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_cli.config import bundled
from synood_cli.errors import UsageError
from synood_cli.models.known_clips import publisher, require_trust
from synood_cli.records import ModelSpec

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def clip(name: str, pretrained: str | None = None, revision: str | None = None) -> ModelSpec:
    return ModelSpec(adapter="open_clip", name=name, pretrained=pretrained, revision=revision)


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        (clip("ViT-B-16", "openai"), "OpenAI"),
        (clip("ViT-B-16-quickgelu", "openai"), "OpenAI"),
        (clip("ViT-B-16", "laion2b_s34b_b88k"), "LAION"),
        (clip("ViT-B-16", "laion400m_e32"), "LAION"),
        (clip("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", revision=COMMIT), "LAION"),
        (clip("hf-hub:laion/CLIP-ViT-B-16-laion2B-s34B-b88K", revision=COMMIT), "LAION"),
        (clip("timm/vit_base_patch16_clip_224.openai", revision=COMMIT), "OpenAI"),
        (clip("ViT-B-16", "dfn2b"), "apple (listed by open_clip)"),
        (clip("ViT-B-16", "nonesuch"), None),
        (clip("ViT-B-16"), None),
        (clip("laion/CLIP-ViT-B-16-laion2B-s34B-b88K-evil", revision=COMMIT), None),
        (clip("laion"), None),
        (clip("user/laion", revision=COMMIT), None),
        (clip("sha256:0", revision="0"), None),
        (ModelSpec(adapter="timm", name="laion/CLIP-ViT-B-16-laion2B-s34B-b88K"), None),
    ],
)
def test_known_is_what_open_clip_lists(spec: ModelSpec, known: str | None) -> None:
    assert publisher(spec) == known


def test_a_known_clip_is_told_and_needs_nothing() -> None:
    told = require_trust(clip("ViT-B-16", "openai", "openai"), "user/head")
    assert told == "user/head belongs to the CLIP ViT-B-16 (openai), a known one: published by OpenAI"


def test_the_bundled_clip_and_files_that_the_user_must_bring_need_nothing(tmp_path: Path) -> None:
    for name in (str(bundled("clip")), "sha256:abc", str(tmp_path / "gone")):
        assert "known by its content" in require_trust(clip(name, revision="abc"), "user/head")


def test_a_folder_that_only_lies_here_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a known one"):
        require_trust(clip(str(tmp_path), revision="abc"), "./head")


def test_an_unknown_one_is_asked_about() -> None:
    spec = clip("user/clip", revision=COMMIT)
    with pytest.raises(UsageError, match=r"user/head belongs to the CLIP user/clip \(commit 0123456789ab\)") as refused:
        require_trust(spec, "user/head")
    assert "--trust-clip" in (refused.value.hint or "")
    for wrong in ("user/other", "user/clip@main", f"user/clip@{COMMIT[:12]}", "clip"):
        with pytest.raises(UsageError):
            require_trust(spec, "user/head", given=Path(wrong))
    for right in ("user/clip", f"user/clip@{COMMIT}"):
        assert "you chose it" in require_trust(spec, "user/head", given=Path(right))
    assert "you chose it" in require_trust(spec, "user/head", trust=True)
    assert "you chose it" in require_trust(spec, "user/head", trusted=[spec])
    other = spec.model_copy(update={"revision": "f" * 40})
    with pytest.raises(UsageError):
        require_trust(spec, "user/head", trusted=[other])


def test_a_name_is_made_printable_and_short() -> None:
    with pytest.raises(UsageError) as refused:
        require_trust(clip(f"user/\x1b[2J{'x' * 5000}", revision=COMMIT), "user/head")
    assert "\x1b" not in refused.value.message
    assert len(refused.value.message) < 400
