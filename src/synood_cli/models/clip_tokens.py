"""How long a text is for CLIP's text encoder, which Stable Diffusion 1 and 2 share."""

from __future__ import annotations

from functools import cache

from open_clip.tokenizer import SimpleTokenizer


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def count_clip_tokens(text: str) -> int:
    """Tokens of `text` in CLIP's byte-pair encoding, begin and end tokens included, untruncated."""
    return len(_tokenizer().encode(text)) + 2
