"""The package that tools/train_playground.py is made of can be imported as the tool imports it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
