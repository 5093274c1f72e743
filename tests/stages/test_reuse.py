"""What is finished answers at once: without a model, and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline import Silent, photograph, redraw
from synood_cli.config import (
    EvalSettings,
    Execution,
    MineSettings,
    Models,
    ScoreSettings,
    SelectSettings,
    TrainLabelsSettings,
    TrainProjectionSettings,
)
from synood_cli.stages.evaluate import evaluate
from synood_cli.stages.mine_labels import mine_labels
from synood_cli.stages.run import Run
from synood_cli.stages.score import score
from synood_cli.stages.select import select
from synood_cli.stages.train_labels import train_labels
from synood_cli.stages.train_proj import train_projection
from synood_cli.store.store import Artifact, Store
from synood_cli.store.workspace import Workspace


def pipeline(folder: Path, clip: Path) -> list[Artifact]:
    """Every stage from the selection to the scores, in the workspace `folder`/ws."""
    photos, candidates = folder / "photos", folder / "candidates.txt"
    with Store.open(Workspace.create(folder / "ws"), write=True) as store:
        run = Run(store, Execution(device="cpu", workers=1), Silent(), 0)
        selection = select(run, SelectSettings(per_class=2), photos)
        head = mine_labels(run, MineSettings(share=0.5, groups=2), Models(clip=str(clip)), selection, candidates)
        made = store.artifacts("synthetic")
        synthetic = made[0] if made else redraw(store, selection)
        projected = train_projection(run, TrainProjectionSettings(epochs=1), head, synthetic)
        tuned = train_labels(run, TrainLabelsSettings(epochs=1), projected, synthetic)
        table = evaluate(run, EvalSettings(bootstrap=2), [tuned, projected, head], photos, {"other": folder / "other"})
        return [head, projected, tuned, table, score(run, ScoreSettings(), tuned, folder / "other")]


def test_a_second_run_of_every_stage_imports_no_torch(tmp_path, checkpoints):
    for number in range(4):
        photograph(tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
        photograph(tmp_path / "other" / f"{number}.jpg", 50 + number)
    (tmp_path / "candidates.txt").write_text("\n".join(f"thing {number}" for number in range(10)))
    first = pipeline(tmp_path, checkpoints.clip)
    assert not any(made.reused for made in first)
    code = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from pathlib import Path
from test_reuse import pipeline
made = pipeline(Path({str(tmp_path)!r}), Path({str(checkpoints.clip)!r}))
print([(artifact.name, artifact.reused) for artifact in made])
print(sorted({{"torch", "open_clip", "transformers", "sklearn"}} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, imported = answer.stdout.splitlines()
    assert names == str([(artifact.name, True) for artifact in first])
    assert imported == "[]"
