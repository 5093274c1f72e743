"""docs/cli.md is what the commands say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from synood_cli.cli.app import COMMANDS
from synood_cli.cli.json_fields import JSON_FIELDS
from synood_cli.config import STAGES

ROOT = Path(__file__).parents[2]


def test_the_page_is_not_stale() -> None:
    command = [sys.executable, str(ROOT / "tools/build_cli_docs.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_command_has_a_section_and_its_fields() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert JSON_FIELDS.keys() == COMMANDS.keys() >= STAGES.keys()
    for name, fields in JSON_FIELDS.items():
        section = page.partition(f"## `synood {name}`")[2].partition("\n## ")[0]
        assert f"Usage: synood {name}" in section
        assert all(f"| `{field}` |" in section for field in fields), name
