"""No file of ours can run code that somebody else wrote into a file of theirs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import synood_cli

MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
FUNCTIONS = {"eval", "exec", "compile", "__import__"}
METHODS = {"torch.load", "yaml.load", "yaml.unsafe_load", "jit.load", "torch.jit.load", "pandas.read_pickle"}


def unsafe(source: str) -> list[int]:
    """The lines of a Python file that unpickle or evaluate something, or may."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt | ast.expr) and runs(node)]


def runs(node: ast.stmt | ast.expr) -> bool:
    match node:
        case ast.Import(names=names):
            return any(alias.name.partition(".")[0] in MODULES for alias in names)
        case ast.ImportFrom(module=str(module), names=names):
            imported = {alias.name for alias in names}
            if module == "torch":
                return "load" in imported
            return module.partition(".")[0] in MODULES and imported != {"UnpicklingError"}
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            return True
        case ast.Call(func=func, keywords=keywords):
            return ast.unparse(func) in METHODS or any(
                word.arg in ("allow_pickle", "trust_remote_code") and not is_false(word.value) for word in keywords
            )
    return False


def is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def test_nothing_is_unpickled_or_evaluated() -> None:
    root = Path(synood_cli.__file__).parent
    found = {str(path.relative_to(root)): unsafe(path.read_text(encoding="utf-8")) for path in root.rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, weights_only=False)",
        "from torch import load",
        "import pickle",
        "from joblib import load",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=trust)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_the_search_finds_what_it_is_for(line: str) -> None:
    assert unsafe(f"def read():\n    {line}") == [2]


def test_the_search_passes_over_what_runs_nothing() -> None:
    assert unsafe("'''A pickle, torch.load(path).'''\nmodel.eval()\nsafetensors.torch.load_file(path)") == []
