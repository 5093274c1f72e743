"""What is said about scenes, and the tokenizer that reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
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

SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def label(random: np.random.Generator, name: str) -> str:
    return str(random.choice(LABEL_TEMPLATES)).format(name)


def surroundings(random: np.random.Generator, scene: Scene) -> str:
    """Two of the context elements and the background, in any order."""
    first, second = random.permutation([*scene.elements, scene.background])[:2]
    return str(random.choice(PAIR_TEMPLATES)).format(first, second)


def words() -> list[str]:
    """Every word that captions and prompts are made of, in lower case."""
    said = [*LABEL_TEMPLATES, *PAIR_TEMPLATES, PROMPT_TEMPLATE, "a photo of an apple behind"]
    text = " ".join([*all_concepts(), *BACKGROUNDS, *said])
    return sorted(set(re.findall("[a-z]+", text.lower())))


def write_tokenizer(folder: Path, length: int) -> CLIPTokenizer:
    """A CLIPTokenizer folder whose byte pairs are learned from `words()`, each of which is one token.

    Any other word is spelled in pieces. Texts longer than `length` tokens are cut. The end token has the highest
    number, at which CLIP's text tower reads its output.
    """
    suffix = "</w>"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=1, end_of_word_suffix=suffix, show_progress=False, initial_alphabet=[]
    )
    learner.train_from_iterator(words(), trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    pieces = ["".join(pair) for pair in merges]
    tokens = [*alphabet, *(letter + suffix for letter in alphabet), *dict.fromkeys(pieces), *SPECIAL]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]))
    start, end = SPECIAL
    special = {"unk_token": end, "bos_token": start, "eos_token": end, "pad_token": end}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    return CLIPTokenizer.from_pretrained(folder)
