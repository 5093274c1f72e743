"""`synood score` on anything, with rows that go out as they come."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Ended, run_synood
from pyarrow import parquet

from synood_cli.cli.json_fields import STREAM
from synood_cli.stages.score_rows import COLUMNS

if TYPE_CHECKING:
    from playground_study import PlaygroundStudy

SYNOOD = [sys.executable, "-c", "import sys; from synood_cli.cli.app import main; sys.exit(main())"]
THRESHOLD = 0.5


@pytest.fixture
def photos(tmp_path: Path, playground_study: PlaygroundStudy) -> Path:
    """in/… and out/…, four scenes of each, in the current folder, which has no workspace."""
    for name, folder in (("in", playground_study.ind / "penguin"), ("out", playground_study.far / "airplane")):
        for number in range(4):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"{number}.png", tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def score(photos: Path, playground_study: PlaygroundStudy) -> Any:
    def run(*arguments: str | Path, threshold: float = THRESHOLD) -> Ended:
        return run_synood("score", *arguments, "--head", playground_study.head, "--threshold", str(threshold))

    return run


def rows(text: str) -> dict[str, dict[str, str]]:
    return {row["path"]: row for row in csv.DictReader(io.StringIO(text))}


def scores_of(text: str) -> dict[str, float]:
    return {path: float(row["score"]) for path, row in rows(text).items()}


PATHS = {f"photos/{name}/{number}.png" for name in ("in", "out") for number in range(4)}


def test_folders_files_and_lists_give_the_same_rows(score: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = score("photos", "--format", "csv")
    assert (ended.code, "8 scored" in ended.err) == (0, True)
    whole = scores_of(ended.text)
    assert whole.keys() == PATHS
    Path("list.txt").write_text("".join(f"{path}\n" for path in sorted(PATHS)))
    assert scores_of(score("list.txt", "--format", "csv").text) == pytest.approx(whole, abs=1e-5)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/in/0.png\nphotos/out/1.png\n")))
    listed = scores_of(score("-", "photos/in/0.png", "photos/in/2.png", "--format", "csv").text)
    assert list(listed) == ["photos/in/0.png", "photos/out/1.png", "photos/in/2.png"]  # each path once
    assert listed == pytest.approx({path: whole[path] for path in listed}, abs=1e-5)


def test_scenes_of_the_classes_score_higher(score: Any) -> None:
    found = rows(score("photos", "--format", "csv").text)
    inside = [float(row["score"]) for path, row in found.items() if path.startswith("photos/in")]
    outside = [float(row["score"]) for path, row in found.items() if path.startswith("photos/out")]
    assert min(inside) > max(outside)
    assert found["photos/out/0.png"]["nearest_negative"] == "rocket"


def test_every_format(score: Any) -> None:
    lines = [json.loads(line) for line in score("photos", "--format", "jsonl").text.splitlines()]
    assert {line["path"] for line in lines} == PATHS
    header, *table = score("photos").text.splitlines()
    assert header.split() == list(COLUMNS)
    assert {line.split()[0] for line in table} == PATHS
    assert score("photos", "-o", "s.parquet").code == 0
    stored = parquet.read_table("s.parquet").to_pylist()
    assert [line.keys() for line in stored] == [dict.fromkeys([*COLUMNS, "path_bytes"]).keys()] * 8
    # By way of 32 bits either way: equal, not only near.
    assert {line["path"]: line["score"] for line in stored} == {line["path"]: line["score"] for line in lines}
    for arguments in (["photos", "--format", "parquet"], ["photos", "--json"], ["photos", "--dry-run"]):
        ended = score(*arguments)
        assert (ended.code, ended.out) == (2, b"")


def test_a_replaced_image_is_scored_again(score: Any, photos: Path) -> None:
    assert score("photos/in", "-o", "s.csv", "--fail-on-ood").code == 0
    before = rows(Path("s.csv").read_text())["photos/in/0.png"]
    path = photos / "in/0.png"
    times = path.stat()
    path.write_bytes((photos / "out/0.png").read_bytes())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = score("photos/in", "-o", "s.csv", "--fail-on-ood", "--json")
    assert (again.code, again.json["done"], again.json["skipped"], again.json["ood"]) == (4, 1, 3, 1)
    after = rows(Path("s.csv").read_text())["photos/in/0.png"]  # the last row of a path counts
    assert (before["decision"], after["decision"]) == ("ind", "ood")
    assert (after["sha256"], after["sha256"] == before["sha256"]) == (sha256(path.read_bytes()).hexdigest(), False)
    (photos / "in/1.png").write_bytes(b"broken")
    assert score("photos/in", "-o", "s.csv", "--json").json["failed"] == 1
    shutil.copy(photos / "in/2.png", photos / "in/1.png")
    assert score("photos/in", "-o", "s.csv", "--json").json["done"] == 1  # without --retry-failed
    assert rows(Path("s.csv").read_text())["photos/in/1.png"]["error"] == ""


def test_an_image_that_comes_after_one_of_its_name_was_moved_is_scored(score: Any, photos: Path) -> None:
    camera = photos / "camera.png"
    aside = ["--move-ood", "aside", "-o", "s.csv", "--json"]
    shutil.copy(photos / "out/0.png", camera)
    assert score(camera.relative_to(Path.cwd()), *aside).json["ood"] == 1
    assert not camera.exists()
    shutil.copy(photos / "in/0.png", camera)
    again = score("photos/camera.png", *aside)
    assert (again.code, again.json["done"], again.json["ood"], again.json["known_ood"]) == (0, 1, 0, 0)
    assert camera.is_file()
    shutil.copy(photos / "out/1.png", camera)  # another OOD image: its name is taken
    stuck = score("photos/camera.png", *aside)
    assert (stuck.code, stuck.json["ood"], stuck.json["stuck"]) == (3, 1, 1)
    assert camera.read_bytes() == (photos / "out/1.png").read_bytes()


def test_an_image_in_its_place_already_is_not_lost(score: Any, photos: Path) -> None:
    for arguments in (["photos/out/0.png"], ["photos/out"]):
        assert score(*arguments, "--move-ood", "photos/out" if arguments == ["photos/out"] else ".").code in (0, 2)
        assert (photos / "out/0.png").is_file()
    ended = score("photos", "-o", "list.txt", "--move-ood", "photos")
    assert (ended.code, "the images of photos are in photos already" in ended.err) == (2, True)


def test_an_input_is_not_overwritten(score: Any) -> None:
    Path("list.txt").write_text("photos/in/0.png\n")
    ended = score("list.txt", "-o", "list.txt", "--force")
    assert (ended.code, "is an input" in ended.err) == (2, True)
    assert Path("list.txt").read_text() == "photos/in/0.png\n"


def test_rows_go_to_open_files_and_devices(score: Any, tmp_path: Path) -> None:
    assert score("photos", "-o", "s.csv").code == 0
    with (tmp_path / "open.csv").open("ab") as file:
        assert score("photos", "-o", f"/dev/fd/{file.fileno()}").code == 0
    assert rows((tmp_path / "open.csv").read_text()).keys() == rows(Path("s.csv").read_text()).keys()
    assert score("photos", "-o", "/dev/null").code == 0
    assert score("photos", "-o", "/dev/null", "--format", "parquet").code == 2
    assert score("photos", "-o", "/dev/stdout", "--json").code == 2
    assert Path("/dev/null").is_char_device()
    full = score("photos", "-o", "/dev/full")
    assert (full.code, "cannot write /dev/full: the disk is full" in full.err) == (1, True)


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path: Path, photos: Path, playground_study: Any) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*SYNOOD, "score", "photos", "-o", f"/dev/fd/{write}", "--head", str(playground_study.head)]
    done = subprocess.run(command, check=False, cwd=tmp_path, stderr=subprocess.PIPE, text=True, pass_fds=[write])
    os.close(write)
    said = [line for line in done.stderr.splitlines() if "belongs to a CLIP" not in line]
    assert (done.returncode, said) == (1, [])


def test_a_file_is_gone_on_with(score: Any, photos: Path) -> None:
    first = score("photos/in", "-o", "s.csv", "--json")
    assert first.json.keys() == STREAM.keys()
    assert (first.json["done"], first.json["skipped"], first.json["output"]) == (4, 0, "s.csv")
    content = Path("s.csv").read_bytes()
    Path("s.csv").write_bytes(content[:-9])  # as a power cut leaves it
    again = score("photos", "-o", "s.csv", "--json").json
    assert (again["done"], again["skipped"]) == (5, 3)
    assert rows(Path("s.csv").read_text()).keys() == PATHS
    # Another threshold asks no CLIP: the images may be gone.
    shutil.rmtree(photos / "in")
    (photos / "in").mkdir()
    changed = score("photos", "-o", "s.csv", "--json", threshold=0.0).json
    assert (changed["done"], changed["skipped"], changed["known_ood"]) == (0, 4, 0)
    assert {row["decision"] for row in rows(Path("s.csv").read_text()).values()} == {"ind"}


def test_another_head_is_refused_and_force_begins_anew(score: Any, playground_study: PlaygroundStudy) -> None:
    assert score("photos/in", "-o", "s.csv").code == 0
    command = ["score", "photos/out", "-o", "s.csv", "--head", playground_study.projected]
    ended = run_synood(*command)
    assert ended.code == 2
    assert "holds the scores of another head" in ended.err
    assert run_synood(*command, "--force").code == 0
    assert {path.split("/")[1] for path in rows(Path("s.csv").read_text())} == {"out"}


def test_exit_codes(score: Any, photos: Path) -> None:
    assert score("photos/in", "--fail-on-ood").code == 0
    assert score("photos/out", "--fail-on-ood").code == 4
    (photos / "in/bad.png").write_bytes(b"no picture")
    for _ in range(2):  # the second time from the file
        ended = score("photos/in", "nowhere.png", "photos/out", "-o", "s.csv")
        assert ended.code == 2  # the command line says it: a slip
        assert score("photos/in", "-o", "s.csv", "--fail-on-ood").code == 3
        assert score("photos", "-o", "all.csv", "--fail-on-ood").code == 4
    bad = rows(Path("s.csv").read_text())["photos/in/bad.png"]
    assert bad["error"].startswith("not a picture that can be read")
    assert (bad["score"], bad["decision"]) == ("", "")
    shutil.copy(photos / "in/0.png", photos / "in/bad.png")
    assert score("photos/in", "-o", "s.csv", "--retry-failed").code == 0
    assert rows(Path("s.csv").read_text())["photos/in/bad.png"]["error"] == ""
    (photos / "empty").mkdir()
    assert score("photos/empty", "-o", "e.csv").code == 2
    Path("empty.txt").write_text("\n")
    assert score("empty.txt", "-o", "e.csv").code == 2


def test_ood_images_are_moved_and_none_is_lost(score: Any, photos: Path) -> None:
    (photos / "aside/out").mkdir(parents=True)
    (photos / "aside/out/1.png").write_bytes(b"something else")
    moved = score("photos", "-o", "s.csv", "--move-ood", "photos/aside", "--json")
    assert (moved.code, moved.json["ood"], moved.json["stuck"]) == (3, 4, 1)
    assert "photos/out/1.png is out-of-distribution and stays where it is: another file is at" in moved.err
    assert sorted(path.name for path in (photos / "out").iterdir()) == ["1.png"]
    assert sorted(path.name for path in (photos / "aside/out").iterdir()) == [f"{n}.png" for n in range(4)]
    assert (photos / "aside/out/1.png").read_bytes() == b"something else"
    assert len(list((photos / "in").iterdir())) == 4
    # Interrupted between row and move, as it were: the next run moves it, and scores nothing.
    (photos / "aside/out/1.png").unlink()
    again = score("photos", "-o", "s.csv", "--move-ood", "photos/aside", "--json")
    assert (again.code, again.json["done"], again.json["stuck"]) == (0, 0, 0)
    assert list((photos / "out").iterdir()) == []
    assert (photos / "aside/out/1.png").is_file()


def test_ood_images_are_copied(score: Any, photos: Path) -> None:
    for _ in range(2):
        assert score("photos", "-o", "s.csv", "--copy-ood", "aside").code == 0
        assert sorted(path.name for path in Path("aside").rglob("*.png")) == [f"{n}.png" for n in range(4)]
    assert len(list(photos.rglob("*.png"))) == 8
    assert score("photos", "--copy-ood", "a", "--move-ood", "b").code == 2
    inside = ["photos", "-o", "t.csv", "--copy-ood", "photos/aside"]  # is not looked into, also where it is new
    assert [score(*inside, "--json").json["done"] for _ in range(2)] == [8, 0]
    assert score("photos", "--move-ood", "s.csv/aside").code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_folder_that_grows_is_watched_until_interrupted(
    tmp_path: Path, photos: Path, playground_study: PlaygroundStudy, number: signal.Signals
) -> None:
    options = ["--head", str(playground_study.head), "--poll", "0.1", "--batch-size", "2", "--move-ood", "aside"]
    command = [*SYNOOD, "score", "photos", "--watch", "-o", "s.csv", *options]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_for_rows(tmp_path / "s.csv", 8)
        shutil.copy(playground_study.ind / "snail/0.png", photos / "new.png")
        wait_for_rows(tmp_path / "s.csv", 9)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; what is finished is kept" in err
    found = rows((tmp_path / "s.csv").read_text())
    assert found.keys() == {*PATHS, "photos/new.png"}
    assert found["photos/new.png"]["predicted_class"] == "snail"


def test_what_is_watched_is_counted_once_and_an_interrupted_move_is_finished(
    tmp_path: Path, photos: Path, playground_study: PlaygroundStudy, score: Any
) -> None:
    assert score("photos", "-o", "s.csv").code == 0
    (photos / "x.heic").write_bytes(b"x")
    (tmp_path / "aside/in").mkdir(parents=True)
    ood = [path for path, row in rows((tmp_path / "s.csv").read_text()).items() if row["decision"] == "ood"]
    blocked = Path(ood[0]).relative_to("photos")
    (tmp_path / "aside" / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / "aside" / blocked).write_bytes(b"another")
    head = ["--head", str(playground_study.head), "--threshold", str(THRESHOLD), "--json"]
    command = [*SYNOOD, "score", "photos", "--watch", "-o", "s.csv", "--poll", "0.05", "--move-ood", "aside", *head]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_rows(tmp_path / "s.csv", 9)
        shutil.copy(playground_study.ind / "snail/0.png", photos / "new.png")
        wait_for_rows(tmp_path / "s.csv", 10)
        time.sleep(0.5)  # some rounds more, in which nothing is counted again
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    said = json.loads(out)
    told = ("done", "failed", "stuck", "skipped", "known_ood", "known_failed")
    assert {name: said[name] for name in told} == dict(zip(told, (1, 1, 1, 8, len(ood), 0), strict=True))
    assert err.count("stays where it is") == 1
    assert [path for path in ood if (tmp_path / path).exists()] == ood[:1]


def wait_for_rows(path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < 1 + count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_heads_by_other_names(photos: Path, playground_study: PlaygroundStudy) -> None:
    by_name = run_synood("score", "photos/in", "photos/out", "-w", playground_study.workspace, "--head", "head@1")
    by_folder = run_synood("score", "photos", "--head", playground_study.head)
    assert by_name.code == by_folder.code == 0
    assert sorted(by_name.text.splitlines()[1:]) == sorted(by_folder.text.splitlines()[1:])
    for head, message in {
        "head@1": "head@1 is in a workspace, and there is none here or above",
        "./nowhere": "there is no folder ./nowhere",
        "./photos": "there is no head in photos",
        "selection@1": "selection@1 is in a workspace",
    }.items():
        ended = run_synood("score", "photos", "--head", head, "-o", "s.csv")
        assert message in ended.err
        assert ended.code in (1, 2)


def test_a_clip_that_lies_elsewhere_must_be_the_same(
    tmp_path: Path, photos: Path, playground_study: PlaygroundStudy, checkpoints: Any
) -> None:
    from playground_study import CLIP

    shutil.copytree(CLIP, tmp_path / "moved")
    arguments = ["score", "photos", "--head", playground_study.head, "--clip"]
    assert run_synood(*arguments, "moved").code == 0
    ended = run_synood(*arguments, checkpoints.clip)
    assert ended.code == 1
    assert "was made with another version of the CLIP" in ended.err


def test_what_was_not_looked_at_is_told(score: Any, photos: Path) -> None:
    (photos / "in/0.png").rename(photos / "in/0.JFIF")
    (photos / "in/1.png").rename(photos / "in/1")
    (photos / "in/2.heic").write_bytes(b"\0\0\0\x18ftypheic")
    ended = score("photos", "-o", "scores.csv", "--json")
    assert ended.code == 3
    document = ended.json
    assert (document["done"], document["failed"]) == (7, 1)
    assert document["passed_over"] == {"files": 1, "endings": {"": 1}, "names": ["photos/in/1"]}
    assert "1 other file was not looked at (without ending 1): photos/in/1\n" in ended.err
    assert rows(Path("scores.csv").read_text())["photos/in/2.heic"]["error"].startswith("pictures in the format .heic")
