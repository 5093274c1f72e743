"""Bad pictures, words and settings through every command: each is named, the rest is done, nothing done is lost."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Ended, run_synood

from bad_images import OK, bad_image_folder
from checkpoints import tiny_classifier
from pipeline import photograph

if TYPE_CHECKING:
    from checkpoints import Checkpoints

UNCAPTIONED = "dog/1.jpg"


def write_settings(workspace: Path, checkpoints: Checkpoints) -> None:
    models = "\n".join(f'{role} = "{folder}"' for role, folder in checkpoints._asdict().items())
    settings = "[synthesize]\niterations = 2\nsteps = 2\nstrength = 1.0\n[mine-labels]\nshare = 0.5\ngroups = 2\n"
    (workspace / "synood.toml").write_text(f'[models]\n{models}\n[execution]\ndevice = "cpu"\n{settings}')


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """Photographs of which class cat holds every kind that goes wrong, class dog two, and class bird none."""
    root = tmp_path_factory.mktemp("study")
    expected = bad_image_folder(root / "photos/cat")
    for class_name in ("dog", "frog"):
        for number in range(2):
            photograph(root / "photos" / class_name / f"{number}.jpg", number)
    (root / "photos/bird").mkdir()
    (root / "expected.json").write_text(json.dumps(expected))
    photograph(root / "one/0.png", 7)
    names = [f"cat/{name}" for name in expected] + [f"{name}/{n}.jpg" for name in ("dog", "frog") for n in range(2)]
    lines = [{"image": name, "elements": ["grass", "sky"]} for name in names if name != UNCAPTIONED]
    (root / "captions.jsonl").write_text("junk\n" + "".join(json.dumps(line) + "\n" for line in lines))
    (root / "candidates.txt").write_text("\n".join(f"thing {number}" for number in range(12)))
    run_synood("init", root / "ws")
    write_settings(root / "ws", checkpoints)
    return root


def synood(study: Path, *arguments: str | Path) -> Ended:
    return run_synood(arguments[0], "-w", study / "ws", *arguments[1:])


@pytest.fixture(scope="module")
def made(study: Path) -> dict[str, Ended]:
    commands: dict[str, list[str | Path]] = {
        "select": [study / "photos"],
        "caption": ["--captions", study / "captions.jsonl"],
        "synthesize": ["--batch-size", "1000"],
        "mine-labels": ["--candidates", study / "candidates.txt", "--groups", "500"],
        "train-proj": [],
        "train-labels": [],
        "eval": ["--ind", study / "photos", "--ood", f"a b 🦈\n'={study / 'one'}", "--bootstrap", "2"],
        "score": [study / "photos/cat"],
    }
    return {name: synood(study, name, *arguments, "--json") for name, arguments in commands.items()}


@pytest.fixture(scope="module")
def kinds(study: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the pictures of class cat that can be used; and of the others, with a part of the reason why not."""
    expected = json.loads((study / "expected.json").read_text())
    return [name for name, reason in expected.items() if reason == OK], {
        name: reason for name, reason in expected.items() if reason != OK
    }


def failures(study: Path, name: str) -> dict[str, str]:
    return {failed["item"]: failed["reason"] for failed in synood(study, "show", name, "--failures", "--json").json}


def assert_named(found: dict[str, str], bad: dict[str, str], prefix: str) -> None:
    for name, reason in bad.items():
        assert reason in found[prefix + name]


def test_select_names_what_it_cannot_use_and_keeps_the_rest(study: Path, made, kinds) -> None:
    good, bad = kinds
    ended = made["select"]
    assert (ended.code, ended.json["done"], ended.json["failed"]) == (3, len(good) + 4, len(bad) + 1)
    found = failures(study, "selection@1")
    assert_named(found, bad, "cat/")
    assert found["bird"] == "a class folder without images"
    assert "3 of 3 classes have fewer than 50 images; the smallest is dog with 2" in ended.err
    assert "all of them: synood show selection@1 --failures" in ended.err


def test_an_image_without_a_caption_is_named_and_the_others_are_redrawn(study: Path, made, kinds) -> None:
    good, _ = kinds
    caption, synthesize = made["caption"], made["synthesize"]
    assert (caption.code, caption.json["done"]) == (3, len(good) + 3)
    assert list(failures(study, "captions@1")) == [UNCAPTIONED]
    assert "captions.jsonl, line 1: not JSON" in caption.err
    assert (synthesize.code, synthesize.json["done"], synthesize.json["failed"]) == (0, len(good) + 3, 0)


def test_every_later_command_goes_through(study: Path, made, kinds) -> None:
    good, bad = kinds
    assert [made[name].code for name in ("mine-labels", "train-proj", "train-labels")] == [0, 0, 0]
    assert (made["eval"].code, made["score"].code) == (3, 3)
    assert_named(failures(study, "eval@1"), bad, "ind/cat/")
    assert {row["dataset"] for row in made["eval"].json["rows"]} == {"a b 🦈\n'", "average"}
    assert made["eval"].json["done"] == len(good) + 4 + 1


def test_scores_have_a_row_for_every_file(study: Path, made, kinds) -> None:
    good, bad = kinds
    rows = {row["path"]: row for row in made["score"].json["rows"]}
    assert rows.keys() == {*good, *bad}
    assert all(rows[name]["error"] is None and 0 <= rows[name]["score"] <= 1 for name in good)
    assert_named({name: row["error"] or "" for name, row in rows.items()}, bad, "")
    again = synood(study, "score", study / "photos/cat", "--format", "csv")
    lines = list(csv.reader(io.StringIO(os.fsdecode(again.out))))
    paths = [line[0].removeprefix("./") for line in lines[1:]]  # before a name that begins like a formula
    assert paths == [*sorted(good, key=os.fsencode), *(row for row in rows if row in bad)]
    assert "reused" in again.err


def test_terminals_that_are_not_utf8_and_a_reader_of_bytes(study: Path, made) -> None:
    ended = run_synood("score", "-w", study / "ws", study / "photos/cat", encoding="ascii")
    assert ended.code == 3
    assert rb"shark \U0001f988.jpg" in ended.out
    assert rb"new\nline.jpg" in ended.out


def test_garbage_collection_keeps_the_features_that_the_newest_heads_were_made_from(study: Path, made) -> None:
    notes = [synood(study, "show", name, "--json").json["notes"]["features"] for name in ("head@1", "head@3", "eval@1")]
    leaving = synood(study, "gc", "--superseded", "--dry-run", "--json").json["removed"]
    assert {removal["what"] for removal in leaving}.isdisjoint(name for names in notes for name in names)


WRONG: list[tuple[list[str], int, list[str]]] = [
    (["select", "{nowhere}"], 2, ["{nowhere}: no such file or folder"]),
    (["select", "{captions}"], 2, ["{captions}: not a directory", "a folder of its own"]),
    (["select", "{one}"], 2, ["{one} has no class folders"]),
    (["select", "{photos}/bird"], 2, ["{photos}/bird has no class folders"]),
    (["select", "{photos}", "--per-class", "0"], 2, ["--per-class: Input should be greater than or equal to 1"]),
    (["caption", "--from", "head@1"], 2, ["head@1 is a head; this command reads a selection"]),
    (["caption", "--from", "selection@9"], 2, ["there is no selection@9", "selection@1"]),
    (["caption", "--captions", "{nowhere}"], 2, ["cannot read the captions file {nowhere}"]),
    (["caption", "--captions", "{candidates}"], 2, ["{candidates} has no caption; line 1: not JSON"]),
    (["caption", "--captioner", ""], 2, ["--captioner: String should have at least 1 character"]),
    (["caption", "--captioner", "{captions}"], 1, ["{captions} is a file, not a folder"]),
    (["caption", "--captioner-url", "ftp://host"], 2, ["'ftp://host' is no address of a server"]),
    (["caption", "--captioner-url", "http://a:b"], 2, ["'http://a:b' is no address of a server"]),
    (["caption", "--captioner-url", "https://me:word@host/v1"], 2, ["holds a user name or password"]),
    (["caption", "--captioner-url", "me@host"], 2, ["holds a user name or password"]),
    (["caption", "--template", "no place"], 2, ["'no place' has no {{elements}}"]),
    (["caption", "--tag-template", "no place"], 2, ["'no place' has no {{}}"]),
    (["synthesize", "--inpainter", "{clip}"], 1, ["{clip} is a folder in open_clip's format"]),
    (["synthesize", "--classifier", "{nowhere}"], 1, ["{nowhere} does not exist"]),
    (["synthesize", "--boundary", "inf"], 2, ["--boundary: Input should be 'auto' or Input should be a finite number"]),
    (["synthesize", "--seed", str(2**63)], 2, ["--seed must be a whole number from 0"]),
    (["mine-labels", "--candidates", "{captions}"], 2, ["captions.jsonl, line 2: not a candidate"]),
    (["mine-labels", "--candidates", "{nowhere}"], 2, ["there are no candidates '{nowhere}'"]),
    (["mine-labels", "--temperature", "inf"], 2, ["--temperature: Input should be a finite number"]),
    (["eval", "--ind", "{photos}", "--ood", "{one}"], 2, ["not NAME=IMAGES", "--ood textures="]),
    (["eval", "--ind", "{photos}", "--ood", "a={one}", "--ood", "a={one}"], 2, ["the name 'a' is taken"]),
    (["eval", "--ind", "{photos}", "--ood", "a={photos}/bird"], 2, ["there are no images in {photos}/bird"]),
    (["score", "{nowhere}"], 2, ["{nowhere}: no such file or folder"]),
    (["score", "{one}", "--head", "head@9"], 2, ["there is no head@9", "head@1, head@2, head@3"]),
    (["score", "{one}", "--threshold", "nan"], 2, ["--threshold: Input should be a finite number"]),
    (["score", "{one}", "--workers", "0"], 2, ["--workers: Input should be greater than or equal to 1"]),
    (["show", "scroll@1"], 2, ["'scroll@1' names no artifact"]),
]


@pytest.mark.parametrize(
    ("said", "code", "messages"),
    WRONG,
    ids=lambda value: " ".join(map(str, value))[:60] if isinstance(value, list) else "",
)
def test_wrong_words_are_named_and_leave_nothing_behind(study: Path, made, checkpoints, said, code, messages) -> None:
    places: dict[str, Any] = {"nowhere": study / "nowhere", "captions": study / "captions.jsonl", "one": study / "one"}
    places |= {"photos": study / "photos", "candidates": study / "candidates.txt", "clip": checkpoints.clip}
    before = synood(study, "log", "--json").json
    ended = synood(study, *(word.format(**places) for word in said))
    assert ended.code == code
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    for message in messages:
        assert message.format(**places) in ended.err
    assert synood(study, "log", "--json").json == before


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("seed = true", "seed must be a whole number from 0"),
        ("[select]\nper_class = true", "[select] per_class: cannot be true"),
        ("[models]\nclip = ''", "[models] clip: String should have at least 1 character"),
        ("recipe = 'papers'", "synood.toml: there is no recipe 'papers'"),
        ("[synthesize]\nstep_size = nan", "[synthesize] step_size: "),
    ],
)
def test_mistakes_in_synood_toml_name_the_file(tmp_path: Path, study: Path, made, toml: str, message: str) -> None:
    shutil.copytree(study / "ws", tmp_path / "ws")
    (tmp_path / "ws/synood.toml").write_text(toml)
    stage = ["select", study / "photos"] if "synthesize" not in toml else ["synthesize"]
    ended = run_synood(*stage, "-w", tmp_path / "ws")
    assert ended.code == 2
    assert f"{tmp_path}/ws/synood.toml" in ended.err
    assert message in ended.err


def test_a_classifier_of_other_classes_is_refused_and_the_right_one_goes_on(tmp_path, study, made, checkpoints) -> None:
    birds = tiny_classifier(tmp_path / "birds", ["cat", "dog", "bird"])
    wrong = synood(study, "synthesize", "--seed", "5", "--limit", "2", "--classifier", birds)
    assert wrong.code == 1
    assert "does not know 1 of 3 classes: frog" in wrong.err
    assert "its classes are cat, dog, bird" in wrong.err
    right = synood(study, "synthesize", "--seed", "5", "--limit", "2", "--json")
    assert (right.code, right.json["artifact"], right.json["done"]) == (0, "synthetic@2", 2)


def test_one_of_everything(tmp_path: Path, study: Path, checkpoints: Checkpoints) -> None:
    photograph(tmp_path / "photos/cat/0.jpg", 0)
    (tmp_path / "candidates.txt").write_text("thing")
    run_synood("init", tmp_path / "ws")
    write_settings(tmp_path / "ws", checkpoints)
    (tmp_path / "captions.jsonl").write_text(json.dumps({"image": "cat/0.jpg", "caption": "grass"}))
    commands = [
        ["select", tmp_path / "photos", "--per-class", "1"],
        ["caption", "--captions", tmp_path / "captions.jsonl"],
        ["synthesize", "--limit", "1", "--classifier", tiny_classifier(tmp_path / "g", ["cat"])],
        ["mine-labels", "--candidates", tmp_path / "candidates.txt", "--share", "1", "--limit", "1"],
        ["train-proj"],
        ["train-labels"],
        ["eval", "--ind", tmp_path / "photos", "--ood", f"one={study / 'one'}", "--bootstrap", "2"],
        ["score", study / "one/0.png"],
    ]
    ended = [synood(tmp_path, *command, "--json") for command in commands]
    assert [(each.code, each.json["failed"]) for each in ended] == [(0, 0)] * len(commands)
    assert len(ended[-1].json["rows"]) == 1


class Answers(BaseHTTPRequestHandler):
    """Says the same of every image; once the server's patience is used up it hangs up and listens no more."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1  # type: ignore[attr-defined]
        if self.server.asked > self.server.patience:  # type: ignore[attr-defined]
            self.server.socket.close()
            return
        content = json.dumps({"choices": [{"message": {"content": "grass, sky"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """The tests' output stays clean."""


@pytest.fixture
def servers() -> Iterator[list[ThreadingHTTPServer]]:
    """A server that dies after two answers, and one that does not."""
    made = []
    for patience in (2, 1000):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.asked, server.patience = 0, patience  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        made.append(server)
    yield made
    made[1].shutdown()
    made[1].server_close()


def test_a_captioning_server_that_dies_costs_nothing_that_was_answered(study: Path, made, servers) -> None:
    def caption(server: ThreadingHTTPServer) -> Ended:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        options = ["--concurrency", "1", "--retries", "1", "--backoff", "0", "--limit", "5"]
        return synood(study, "caption", "--captioner-url", url, *options)

    dead = caption(servers[0])
    assert dead.code == 1
    assert "cannot reach http://127.0.0.1:" in dead.err
    assert "is the server running" in dead.err
    [entry] = [entry for entry in synood(study, "log", "--json").json if entry["status"] == "unfinished"]
    assert entry["done"] == 2
    alive = caption(servers[1])
    assert alive.code == 0
    assert servers[1].asked == 3  # type: ignore[attr-defined]
    assert f"{entry['artifact']}: 5 done" in alive.text


def test_when_everything_fails_the_stage_stays_open_and_the_same_command_goes_on(study: Path, made, tmp_path) -> None:
    photos = tmp_path / "photos"
    for number in range(3):
        photograph(photos / "cat" / f"{number}.jpg", 20 + number)
    shutil.copytree(study / "ws", tmp_path / "ws")
    assert synood(tmp_path, "select", photos).code == 0
    photos.rename(tmp_path / "away")
    caption = ["caption", "--captioner", "clip-tags", "--tag-z-score", "0", "--tag-class-similarity", "1"]
    lost = synood(tmp_path, *caption)
    assert lost.code == 1
    assert "all 3 images failed; the first: cat/" in lost.err
    assert ".jpg: no such file or folder" in lost.err
    left = synood(tmp_path, "log", "--kind", "captions", "--json").json[-1]
    assert (left["status"], left["done"], left["failed"]) == ("unfinished", 0, 3)
    assert synood(tmp_path, "show", "captions", "--json").json["artifact"] != left["artifact"]
    embedded = synood(tmp_path, "mine-labels", "--candidates", study / "candidates.txt")
    assert embedded.code == 1
    assert "none of the 3 images (selection@2) can be read" in embedded.err
    (tmp_path / "away").rename(photos)
    assert f"{left['artifact']}: 3 done" in synood(tmp_path, *caption).text
    assert synood(tmp_path, "mine-labels", "--candidates", study / "candidates.txt").code == 0
