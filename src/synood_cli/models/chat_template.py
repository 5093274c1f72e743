"""The prompt that a captioner's chat template makes, rendered once, in a process with little time and memory; and its
processor, tried there on one image.

A chat template is a program of the model's author. transformers runs it in Jinja's sandbox, which keeps it from
Python's own objects, but not from counting for ever or filling the memory. All images are asked in the same form,
so the template is run once, with a placeholder for the instruction, and what it made is a text. A processor is no
program, but its settings may ask for images of a billion pixels or prompts of a billion tokens.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synood_cli.errors import ModelError
from synood_cli.records import printable

if TYPE_CHECKING:
    from PIL import Image

INSTRUCTION = "synood-instruction"
"""Stands for the instruction in the prompt."""

SECONDS = 10
MEMORY = 2**30
"""Bytes that a template and a processor may take, beside what Python and transformers take themselves."""
LONGEST = 2**16
"""Characters of a prompt, at most."""
STARTING = 120
"""Seconds that the process may take to start on a busy machine."""

LLAVA = f"USER: <image>\n{INSTRUCTION} ASSISTANT:"
"""LLaVA-1.5's prompt."""

CONVERSATION = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]}]


def rendered_prompt(
    template: str | None, special_tokens: Mapping[str, Any], *, folder: Path | None = None, seconds: int = SECONDS
) -> str:
    """The prompt of a conversation about one image, with INSTRUCTION in it; without a template LLaVA-1.5's. The
    processor in `folder` is tried with it.

    Raises ModelError for a template that fails or does not hold the instruction once, a processor that fails, and when
    both compute for longer than `seconds`.
    """
    where = None if folder is None else str(folder)
    question = {"template": template, "tokens": dict(special_tokens), "folder": where, "seconds": seconds}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "synood_cli.models.chat_template"],  # -P: no module of the current folder
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=STARTING + seconds,
            check=False,
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except (subprocess.TimeoutExpired, ValueError):
        answer = {}
    if "prompt" not in answer:
        reason = answer.get("error") or f"it takes more than {seconds} s, or more than {MEMORY >> 20} MiB"
        raise ModelError(
            f"the captioner's chat template or processor cannot be used: {printable(str(reason)[:300])}",
            hint="use another captioner, or serve this one by itself: --captioner-url",
        )
    if (times := answer["prompt"].count(INSTRUCTION)) != 1:
        said = f"repeats the instruction {times:,} times" if times else "leaves the instruction out"
        raise ModelError(f"the captioner's chat template {said}", hint="use another captioner")
    return str(answer["prompt"])


def chosen_template(folder_settings: Mapping[str, Any]) -> str | None:
    """The template in `chat_template`, which is a text, or a list of named ones of which "default" counts."""
    found = folder_settings.get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    return found if isinstance(found, str) and found else None


def prepared(processor: Any, prompt: str, images: Sequence[Image.Image], instructions: Sequence[str]) -> Any:
    """What the model is given for each image and its instruction, put into the prompt."""
    prompts = [prompt.replace(INSTRUCTION, instruction) for instruction in instructions]
    begin = processor.tokenizer.bos_token
    # As `apply_chat_template` does: a template that begins with the first token has written it itself.
    once = {"add_special_tokens": False} if begin and prompt.startswith(begin) else {}
    return processor(images=[[image] for image in images], text=prompts, padding=True, return_tensors="pt", **once)


def main() -> None:
    """In the process of its own: read the question from stdin, write the answer to stdout."""
    from transformers.utils.chat_template_utils import render_jinja_template

    question = json.load(sys.stdin)
    render_jinja_template([CONVERSATION], chat_template="")  # what is imported on the way counts for nobody
    processor = _processor(question["folder"]) if question["folder"] else None
    _limit(question["seconds"])
    try:
        [prompt], _ = (
            render_jinja_template(
                [CONVERSATION], chat_template=question["template"], add_generation_prompt=True, **question["tokens"]
            )
            if question["template"]
            else ([LLAVA], None)
        )
        answer = {"prompt": prompt} if len(prompt) <= LONGEST else {"error": f"it makes {len(prompt):,} characters"}
        if processor is not None and "prompt" in answer:
            _try(processor, prompt)
    except MemoryError:
        answer = {}
    except Exception as error:  # of a foreign program: whatever it raises is why it cannot be used
        no_memory = "can't allocate memory" in str(error)  # torch has no class of its own for it on the CPU
        answer = {} if no_memory else {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    json.dump(answer, sys.stdout)


def _processor(folder: str) -> Any:
    """The processor in `folder`, which the caller has loaded too."""
    import torch
    from transformers import AutoProcessor

    torch.set_num_threads(1)  # each thread would reserve memory
    return AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _try(processor: Any, prompt: str) -> None:
    """Prepare one photograph of an ordinary size."""
    from PIL import Image

    prepared(processor, prompt, [Image.new("RGB", (640, 480), "grey")], ["a"])


def _limit(seconds: int) -> None:
    """From here on this process may compute for `seconds` and take MEMORY more, where the system can limit that."""
    try:
        import resource
    except ImportError:  # not on Windows, where the time that the caller waits is the only limit
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime) + seconds,) * 2)
    try:
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY,) * 2)
    except OSError:  # no such file on macOS
        return


if __name__ == "__main__":
    main()
