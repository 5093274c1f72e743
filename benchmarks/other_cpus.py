"""How far scores, cosine similarities and decisions move between kinds of CPUs.

    python benchmarks/other_cpus.py IMAGES... --head HEAD

Scores the images with `synood score` as this CPU does it, then as others do: torch and the two libraries under it
(oneDNN: convolutions; MKL: products of matrices) choose their instructions by the CPU, and each has a switch, which
MKL heeds on Intel's CPUs only. Prints the largest differences from this CPU's own, of one thread.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess

SWITCHES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
CPUS = {
    "this CPU": ("", "", "", 1),
    "this CPU, 2 threads": ("", "", "", 2),
    "AVX-512": ("avx512", "AVX512_CORE", "AVX512", 1),
    "AVX2": ("avx2", "AVX2", "AVX2", 1),
    "SSE4": ("default", "SSE41", "SSE4_2", 1),
    "SSE4, 2 threads": ("default", "SSE41", "SSE4_2", 2),
}

Rows = dict[str, dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--head", required=True)
    arguments = parser.parse_args()
    command = ["synood", "score", *arguments.images]
    command += ["--head", arguments.head, "--device", "cpu", "--format", "csv"]
    own: Rows = {}
    for name, (*levels, threads) in CPUS.items():
        found = scored(command, dict(zip(SWITCHES, levels, strict=True)), threads)
        own = own or found
        print(f"{name:20} {described(own, found)}", flush=True)


def scored(command: list[str], switches: dict[str, str], threads: int) -> Rows:
    """Rows by path, as `command` prints them under these switches; an empty one is off."""
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    environment |= {name: value for name, value in switches.items() if value}
    environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {row["path"]: row for row in csv.DictReader(done.stdout.splitlines())}


def described(own: Rows, found: Rows) -> str:
    pairs = [(row, found[path]) for path, row in own.items()]
    score, similarity = (
        max(abs(float(one[column]) - float(other[column])) for one, other in pairs)
        for column in ("score", "nearest_similarity")
    )
    equal = sum(one["score"] == other["score"] for one, other in pairs)
    words = ("decision", "predicted_class", "nearest_negative")
    changed = ", ".join(f"{sum(one[word] != other[word] for one, other in pairs)} {word}" for word in words)
    return f"scores {score:.1e}, equal in {equal} of {len(pairs)}; similarities {similarity:.1e}; otherwise: {changed}"


if __name__ == "__main__":
    main()
