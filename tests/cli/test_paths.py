"""Paths on the command line that the system refuses: told before anything is done, shortened, exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_line import run_synood

from synood_cli.errors import UsageError
from synood_cli.paths import require_possible

if TYPE_CHECKING:
    from playground_study import PlaygroundStudy

TOO_LONG = "file name too long"
REFUSED = {
    "./" + "a" * 300: TOO_LONG,
    "./" + "b/" * 2500 + "c": TOO_LONG,
    "./loop/x": "symbolic link loop",
    "./file/x": "a part of the path is a file, not a folder",
}
COMMANDS = {
    "init PATH",
    "select PATH -w WS",
    "select IND -w WS --data-root PATH",
    "log -w PATH",
    "caption -w WS --captions PATH",
    "caption -w WS --captioner clip-tags --vocabulary PATH",
    "caption -w WS --captioner PATH",
    "synthesize -w WS --inpainter PATH",
    "mine-labels -w WS --candidates PATH",
    "mine-labels -w WS --clip PATH",
    "eval -w WS --ind PATH",
    "eval -w WS --ind IND --ood x=PATH",
    "eval -w WS --suite PATH",
    "eval -w WS --ind IND --ood x=IND --head PATH",
    "sweep PATH -w WS --ind IND --ood x=IND",
    "score PATH --head HEAD",
    "score PATH.txt --head HEAD",
    "score PATH -w WS",
    "score PATH --head HEAD --watch",
    "score IND --head PATH",
    "score IND --head HEAD --clip PATH",
    "score IND --head HEAD -o PATH",
    "score IND --head HEAD --move-ood PATH",
    "score IND --head HEAD --copy-ood PATH",
    "calibrate head@1 PATH -w WS",
    "export onnx HEAD PATH",
    "export onnx HEAD out --check PATH",
    "suites check PATH --data-root .",
    "push head@1 PATH -w WS",
    "pull PATH -w WS",
    "report -o PATH -w WS",
    "demo PATH",
    "playground export PATH",
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_path_that_is_refused_is_a_usage_error(
    tmp_path: Path, playground_study: PlaygroundStudy, command: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    places = {"WS": playground_study.workspace, "HEAD": playground_study.head, "IND": playground_study.ind}
    for path, reason in REFUSED.items():
        words = [str(places.get(word, word)).replace("PATH", path) for word in command.split()]
        ended = run_synood(*words)
        assert (ended.code, ended.out) == (2, b"")
        assert reason in ended.err
        assert max(map(len, ended.err.splitlines())) < 250
    assert sorted(tmp_path.rglob("*")) == before


def test_what_may_be_no_path_is_refused_only_where_it_can_be_no_name(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("")
    require_possible("user/repository@revision")
    for path in ("./user/repository", Path("user/repository"), "a" * 300, "user\0"):
        with pytest.raises(UsageError):
            require_possible(path)


def test_a_name_that_leaves_no_room_for_what_stands_beside_it(
    tmp_path: Path, playground_study: PlaygroundStudy
) -> None:
    for name in ("o" * 251 + ".csv", "o" * 244 + ".csv"):
        ended = run_synood("score", playground_study.far, "--head", playground_study.head, "-o", name)
        assert ended.code == 2
        assert TOO_LONG in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_long_line_of_a_list_is_the_failure_of_that_line(tmp_path: Path, playground_study: PlaygroundStudy) -> None:
    image = playground_study.far / "anchor/0.png"
    (tmp_path / "list.txt").write_text(f"{image} 0\n" + "a" * 300 + " 0\n" + "b/" * 2500 + "c.png 0\n")
    ended = run_synood("score", "list.txt", "--head", playground_study.head, "--format", "csv")
    assert ended.code == 3
    assert [line.endswith(TOO_LONG) for line in ended.text.splitlines()] == [False, False, True, True]
