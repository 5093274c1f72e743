"""`generation_config.json` of a captioner: what a greedy answer of one text needs of it, and nothing else.

transformers knows some eighty settings of generation, among them code of the hub, compilers, caches in other libraries,
assistants and searches that multiply the memory."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import GenerationConfig

from synood_cli.errors import ModelError
from synood_cli.records import printable

Token = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Field(max_length=2**18)]


class Generation(BaseModel):
    """The settings that are kept; others are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    bos_token_id: Token | Tokens | None = None
    eos_token_id: Token | Tokens | None = None
    pad_token_id: Token | None = None
    decoder_start_token_id: Token | Tokens | None = None
    forced_bos_token_id: Token | None = None
    forced_eos_token_id: Token | Tokens | None = None
    suppress_tokens: Tokens | None = None
    begin_suppress_tokens: Tokens | None = None
    bad_words_ids: Annotated[list[Tokens], Field(max_length=2**18)] | None = None
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    no_repeat_ngram_size: int | None = Field(None, ge=0, le=1024)


def plain_generation(found: GenerationConfig) -> GenerationConfig:
    """`found` without anything but what `Generation` has. Raises ModelError that names what is no such value."""
    try:
        kept = Generation.model_validate(found.to_dict())
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(
            f"generation_config.json: {printable(str(first['loc'][0])[:80])}: {first['msg']}",
            hint="use another captioner, or serve this one by itself: --captioner-url",
        ) from error
    return GenerationConfig(**kept.model_dump(exclude_none=True))
