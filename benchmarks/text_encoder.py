"""Labels per second through CLIP's text tower: padded to the whole context, and cut after the longest label.

    python benchmarks/text_encoder.py CLIP_FOLDER [--labels 512]

CLIP_FOLDER as scripts/build_real_size_models.py writes it. Prints both rates and the largest difference of a feature.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.nn.functional import normalize

from synood_cli.data.wordnet import wordnet_candidates
from synood_cli.models.open_clip_encoder import TEXT_BATCH, OpenClipEncoder
from synood_cli.records import ModelSpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--labels", type=int, default=512)
    arguments = parser.parse_args()
    encoder = OpenClipEncoder(ModelSpec(adapter="open_clip", name=arguments.clip), "cpu", "fp32")
    candidates = wordnet_candidates()
    step = len(candidates) // arguments.labels
    texts = [f"the nice {candidate.text}" for candidate in candidates[::step][: arguments.labels]]
    encoder.encode_texts(texts[:TEXT_BATCH])

    started = time.perf_counter()
    cut = encoder.encode_texts(texts)
    cut_seconds = time.perf_counter() - started

    started = time.perf_counter()
    with torch.no_grad():
        batches = [texts[first : first + TEXT_BATCH] for first in range(0, len(texts), TEXT_BATCH)]
        padded = torch.cat([encoder._model.encode_text(encoder._tokenizer(batch)) for batch in batches])
    padded_seconds = time.perf_counter() - started

    difference = (normalize(padded, dim=-1) - cut).abs().max().item()
    print(f"{len(texts)} labels, {torch.get_num_threads()} threads")
    print(f"padded to the context: {len(texts) / padded_seconds:8.1f} labels/s")
    print(f"cut after the longest: {len(texts) / cut_seconds:8.1f} labels/s")
    print(f"largest difference:    {difference:.1e}")


if __name__ == "__main__":
    main()
