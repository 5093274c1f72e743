"""What is said about scenes, and the tokenizer that reads it."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from synood_cli.playground.backgrounds import BACKGROUNDS
from synood_cli.playground.concepts import all_concepts
from synood_cli.playground.scenes import Scene

LABEL_TEMPLATES = ("the nice {}", "a nice {}", "a photo of a {}", "This is a {} photo", "a photo with {}")
"""How a main object is named: among them the prompts of labels, candidates and tags."""
PAIR_TEMPLATES = ("a photo with {} and {}", "a photo of {} and {}", "{} and {}")
"""How two of the things around it are."""
PROMPT_TEMPLATE = "A photo only remain {}."
"""The diffusion prompt of synthesis."""

EMPTY = 0.1
"""Share of empty diffusion prompts, which guidance needs."""

Pair = tuple[str, str]

END_OF_WORD = "</w>"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def label(random: np.random.Generator, name: str) -> str:
    return str(random.choice(LABEL_TEMPLATES)).format(name)


def surroundings(random: np.random.Generator, scene: Scene) -> str:
    """Two of the context elements and the background, in any order; of a texture, that it is one."""
    if not scene.elements:
        return label(random, scene.background)
    first, second = random.permutation([*scene.elements, scene.background])[:2]
    return str(random.choice(PAIR_TEMPLATES)).format(first, second)


def words() -> list[str]:
    """Every word that captions and prompts are made of, in lower case."""
    said = [*LABEL_TEMPLATES, *PAIR_TEMPLATES, PROMPT_TEMPLATE, "a photo of an apple behind"]
    text = " ".join([*all_concepts(), *BACKGROUNDS, *said])
    return sorted(set(re.findall("[a-z]+", text.lower())))


@cache
def byte_pairs() -> tuple[Pair, ...]:
    """The merges of a byte-pair encoding in which each of `words()` is one token: the most frequent pair first.

    Of equally frequent ones the first in the alphabet: the tokenizers library's own trainer takes any, and a training
    that goes on in another process would read other tokens.
    """
    spelled = [(*word[:-1], word[-1] + END_OF_WORD) for word in words()]
    merges: list[Pair] = []
    while pairs := Counter(pair for pieces in spelled for pair in pairwise(pieces)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merge(pieces, best) for pieces in spelled]
    return tuple(merges)


def _merge(pieces: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)


def write_tokenizer(folder: Path, length: int) -> CLIPTokenizer:
    """A CLIPTokenizer folder with these byte pairs: a word of the world is one token, any other is spelled in pieces.

    Texts longer than `length` tokens are cut. The end token has the highest number, at which CLIP's text tower reads
    its output.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = byte_pairs()
    pieces = dict.fromkeys("".join(pair) for pair in merges)
    tokens = [*alphabet, *(letter + END_OF_WORD for letter in alphabet), *pieces, *SPECIAL]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]))
    start, end = SPECIAL
    special = {"unk_token": end, "bos_token": start, "eos_token": end, "pad_token": end}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    return CLIPTokenizer.from_pretrained(folder)


def diffusion_prompt(random: np.random.Generator, scene: Scene) -> str:
    """What a diffusion model is told of a scene: nothing, now and then; else what there is to see.

    Without its main object: the elements and the background in synthesis' own words, one of them left out at times.
    With it: a caption, or the main object alone in the words of a label.
    """
    if random.uniform() < EMPTY:
        return ""
    if scene.main is None and scene.elements:
        things = [str(thing) for thing in random.permutation([*scene.elements, scene.background])]
        return PROMPT_TEMPLATE.format(", ".join(things[: len(things) - int(random.uniform() < 0.3)]))
    return scene.caption() if random.uniform() < 0.6 else label(random, scene.main or scene.background)
