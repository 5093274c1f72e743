from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from contextlib import closing
from hashlib import sha256

import pytest
from pyarrow import parquet

from synood_cli.csv_text import FORMULA_STARTS, original
from synood_cli.data.identity import stamp_of
from synood_cli.errors import StoreError, UsageError
from synood_cli.stages.score_file import Known, Origin, Told, format_for, score_file
from synood_cli.stages.score_rows import COLUMNS, FILE_COLUMNS, as_csv, as_jsonl, text_writer

ORIGIN = Origin("digest", "head@1", 0.5)
EMPTY = dict.fromkeys(FILE_COLUMNS)
ODD = os.fsdecode(b'a,"\xff\n.jpg')


def row(path, score=None, error=None):
    decided = None if score is None else "ind" if score >= ORIGIN.threshold else "ood"
    return EMPTY | {"path": path, "score": score, "decision": decided, "error": error}


ROWS = [row("1.jpg", 0.1 + 0.2), row(ODD, 1e-9), row("bad.jpg", error="no picture, “really”")]


def written(path, rows, format_="csv", origin=ORIGIN, anew=False, retry_failed=False):
    """Write `rows` that are not known; returns what was known."""
    with closing(Known()) as known:
        with score_file(path, format_, origin, known, anew=anew, retry_failed=retry_failed) as write:
            before = {each["path"]: known.verdict(each["path"]).says for each in rows if known.verdict(each["path"])}
            write([each for each in rows if not known.verdict(each["path"])])
        return before


def read(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    text = os.fsdecode(path.read_bytes())
    return [
        {key: value or None for key, value in each.items()} for each in csv.DictReader(io.StringIO(text, newline=""))
    ]


def as_read(rows, path):
    return rows if path.suffix == ".jsonl" else [{k: v if v is None else str(v) for k, v in r.items()} for r in rows]


def test_csv_keeps_bytes_and_quotes_and_json_lines_escape():
    assert as_csv([row(ODD, 0.5)]) == b'"a,""\xff\n.jpg",0.5,ind,,,,\n'
    [line] = as_jsonl([row(ODD, 0.5)]).decode("ascii").splitlines()
    assert json.loads(line)["path"] == ODD


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_any_name_reads_back_exactly(tmp_path, format_):
    names = [
        "a\rb.jpg",
        "\r",
        "a\r\nb",
        "\n",
        '"',
        "'",
        "-1.jpg",
        "=cmd|'x'!A1",
        "\t=",
        "\x85\u2028\x1c",
        " a ",
        ODD,
        "＝1",
    ]
    rows = [row(name, 0.25) | {"nearest_negative": name if name != ODD else None} for name in names]
    path = tmp_path / f"s.{format_}"
    written(path, rows, format_)
    content = path.read_bytes()
    assert written(path, rows, format_) == dict.fromkeys(names, "ood")
    assert path.read_bytes() == content
    read_back = read(path)
    assert len(read_back) == len(names)
    if format_ == "jsonl":
        assert read_back == rows
        return
    for name, found in zip(names, read_back, strict=True):
        assert os.path.normpath(found["path"]) == os.path.normpath(name)
        assert original(found["nearest_negative"]) == (name if name != ODD else None)
        assert not any(found[column] and found[column][0] in FORMULA_STARTS for column in ("path", "nearest_negative"))


def test_json_lines_have_no_infinities():
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_jsonl([row("a.jpg", float("nan"))])


def test_files_of_an_older_version_are_told_from_others(tmp_path):
    old = {"s.csv": ",".join(COLUMNS) + "\n1.jpg,0.5,ind,,,,\n"}
    old["s.jsonl"] = json.dumps({name: row("1.jpg", 0.5)[name] for name in COLUMNS}) + "\n"
    for name, content in old.items():
        path = tmp_path / name
        written(path, [], name.split(".")[1])
        path.write_text(content)
        with pytest.raises(UsageError, match="by an older synood, and does not record the content"):
            written(path, ROWS, name.split(".")[1])
        assert path.read_text() == content


def image(path, content):
    """A row about the file at `path` as it is now."""
    path.write_bytes(content)
    return row(str(path), 0.25) | {"sha256": sha256(content).hexdigest(), "stamp": stamp_of(path)}


@pytest.fixture
def known(tmp_path):
    """What is known of one file, tmp_path/a.jpg, that was scored as b"one"."""
    with closing(Known()) as known:
        known.add([image(tmp_path / "a.jpg", b"one")], Told.ROW)
        yield known


def test_a_file_that_was_not_touched_is_known_unread(tmp_path, known):
    path = tmp_path / "a.jpg"
    assert known.is_done(str(path))
    assert known.current(str(path)).says == "ood"
    assert not known.is_done(str(tmp_path / "b.jpg"))
    assert known.current(str(tmp_path / "b.jpg")) is None


def test_a_file_of_the_same_content_is_known(tmp_path, known):
    path = tmp_path / "a.jpg"
    (tmp_path / "b.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg").replace(path)
    os.utime(path, (1, 1))
    assert not known.is_done(str(path))
    assert known.current(str(path)).says == "ood"


@pytest.mark.parametrize("content", [b"two", b"longer"])
def test_a_file_that_was_replaced_is_not_known_whatever_its_time_says(tmp_path, known, content):
    path = tmp_path / "a.jpg"
    before = path.stat()
    (tmp_path / "b.jpg").write_bytes(content)
    (tmp_path / "b.jpg").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not known.is_done(str(path))
    assert known.current(str(path)) is None
    known.add([image(path, content) | {"decision": "ind"}], Told.ROW)
    assert known.current(str(path)).says == "ind"  # the last row counts


def test_a_file_that_is_gone_keeps_its_row_and_one_that_has_come_is_new(tmp_path, known):
    path = tmp_path / "a.jpg"
    path.unlink()
    assert known.current(str(path)).says == "ood"
    missing = tmp_path / "b.jpg"
    known.add([row(str(missing), error="no such file") | {"stamp": stamp_of(missing)}], Told.ROW)
    assert known.current(str(missing)).says == "error"
    missing.write_bytes(b"here")
    assert known.current(str(missing)) is None


def test_a_file_that_could_not_be_read_is_new_when_it_has_changed(tmp_path, known):
    path = tmp_path / "a.jpg"
    known.add([row(str(path), error="truncated") | {"stamp": stamp_of(path)}], Told.ROW)
    assert known.current(str(path)).says == "error"
    os.utime(path, (1, 1))
    assert known.current(str(path)) is None


def test_one_process_at_a_time_writes_to_a_file(tmp_path):
    path = tmp_path / "s.csv"
    with (
        closing(Known()) as known,
        score_file(path, "csv", ORIGIN, known, anew=False, retry_failed=False) as write,
    ):
        write(ROWS[:1])
        for anew in (True, False):
            with pytest.raises(StoreError, match=r"s\.csv is being written by another process"):
                written(path, ROWS[1:], anew=anew)
        write(ROWS[1:])
    assert read(path) == as_read(ROWS, path)


def test_what_was_there_goes_only_when_there_is_something_new(tmp_path):
    path = tmp_path / "s.csv"
    written(path, ROWS)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}

    def fail():
        with (
            closing(Known()) as known,
            score_file(path, "csv", Origin("other", "head@2", 0.5), known, anew=True, retry_failed=False),
        ):
            raise KeyboardInterrupt  # before any row

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_rows_stay_when_the_disk_is_full_and_the_file_is_resumed(tmp_path):
    script = """
import resource, sys
from contextlib import closing
from pathlib import Path
from synood_cli.errors import StoreError
from synood_cli.stages.score_file import Known, Told, Origin, score_file
from synood_cli.stages.score_rows import FILE_COLUMNS
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
row = dict.fromkeys(FILE_COLUMNS) | {"score": 0.25, "decision": "ood"}
try:
    with closing(Known()) as known:
        with score_file(Path(sys.argv[1]), "csv", Origin("digest", "head@1", 0.5), known, anew=False,
                        retry_failed=False) as write:
            for number in range(300):
                write([row | {"path": f"{number}.jpg"}])
except StoreError as error:
    print(error.message)
"""
    path = tmp_path / "s.csv"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {path}: file too large\n"
    assert path.stat().st_size == 3000  # a part of a row is at the end
    rows = [row(f"{number}.jpg", 0.25) for number in range(300)]
    assert 100 < len(written(path, rows)) < 300
    assert [each["path"] for each in read(path)] == [each["path"] for each in rows]


def test_the_ending_chooses_the_format(tmp_path):
    for name, wanted in {"a.csv": "csv", "a.JSONL": "jsonl", "a.ndjson": "jsonl", "a.parquet": "parquet"}.items():
        assert format_for(tmp_path / name, None) == wanted
    assert format_for(tmp_path / "a.txt", None) == "csv"
    assert format_for(None, None) == "table"
    assert format_for(tmp_path / "a.csv", "jsonl") == "jsonl"


def test_a_table_grows_wider_but_never_narrower():
    said: list[bytes] = []
    write = text_writer("table", said.append)
    write([row("a.jpg", 0.123456789)])
    write([row("a much longer name.jpg", 1.0)])
    write([row("b.jpg", 0.25)])
    header, short, long, last = b"".join(said).decode().splitlines()
    assert header.split() == list(COLUMNS)
    assert short.split() == ["a.jpg", "0.123457", "ood"]
    assert long.index("1  ") == last.index("0.25") > short.index("0.123457")


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl"])
def test_a_file_is_gone_on_with_wherever_it_was_cut(tmp_path, name):
    whole = tmp_path / f"whole-{name}"
    written(whole, ROWS, name.split(".")[1])
    content = whole.read_bytes()
    about = whole.with_name(whole.name + ".head.json").read_bytes()
    for length in range(len(content) + 1):
        path = tmp_path / name
        path.write_bytes(content[:length])
        path.with_name(path.name + ".head.json").write_bytes(about)
        before = written(path, ROWS, name.split(".")[1])
        assert path.read_bytes() == content, length
    assert before == {"1.jpg": "ood", ODD: "ood", "bad.jpg": "error"}
    assert read(path) == as_read(ROWS, path)


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl"])
def test_another_threshold_decides_anew_without_scoring(tmp_path, name):
    path, format_ = tmp_path / name, name.split(".")[1]
    written(path, ROWS, format_)
    before = written(path, ROWS, format_, ORIGIN._replace(threshold=0.2))
    assert before == {"1.jpg": "ind", ODD: "ood", "bad.jpg": "error"}
    assert [each["decision"] for each in read(path)] == ["ind", "ood", None]
    assert written(path, [], format_, ORIGIN._replace(threshold=0.0)) == {}
    assert [each["decision"] for each in read(path)] == ["ind", "ind", None]


def test_what_failed_is_tried_again_on_demand(tmp_path):
    path = tmp_path / "s.csv"
    written(path, ROWS)
    assert "bad.jpg" in written(path, ROWS)
    assert "bad.jpg" not in written(path, [*ROWS[:2], row("bad.jpg", 0.75)], retry_failed=True)
    assert [(each["path"], each["error"]) for each in read(path)] == [("1.jpg", None), (ODD, None), ("bad.jpg", None)]


def test_the_rows_of_two_heads_do_not_mix(tmp_path):
    path = tmp_path / "s.csv"
    written(path, ROWS)
    content = path.read_bytes()
    with pytest.raises(UsageError, match=r"holds the scores of another head \(head@1\)"):
        written(path, ROWS, origin=Origin("other", "head@2", 0.5))
    with pytest.raises(UsageError, match=r"scores of another version of synood, which reads some pictures differently"):
        written(path, ROWS, origin=ORIGIN._replace(algorithm=2))
    (tmp_path / "s.csv.head.json").unlink()
    with pytest.raises(UsageError, match=r"nothing says which head scored it \(no s.csv.head.json\)") as caught:
        written(path, ROWS)
    assert "--force" in str(caught.value.hint)
    assert path.read_bytes() == content
    written(path, ROWS[:1], origin=Origin("other", "head@2", 0.5), anew=True)
    assert len(read(path)) == 1


@pytest.mark.parametrize("content", [b"name,age\nx,1\n", ",".join(FILE_COLUMNS).encode() + b"\n1.jpg,high,ind,,,,,,\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "s.csv"
    written(path, [])
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"record \d is no row of scores"):
        written(path, ROWS)
    assert path.read_bytes() == content
    assert sorted(each.name for each in tmp_path.iterdir()) == ["s.csv", "s.csv.head.json"]


def test_parquet_has_typed_columns_and_is_whole_or_absent(tmp_path):
    path = tmp_path / "s.parquet"
    with closing(Known()) as known:
        with score_file(path, "parquet", ORIGIN, known, anew=False, retry_failed=False) as write:
            write(ROWS[:1])
            assert not path.exists()
            write(ROWS[1:])
        table = parquet.read_table(path)
        wanted = [{name: each[name] for name in COLUMNS} | {"path_bytes": None} for each in ROWS]
        wanted[1] |= {"path": 'a,"\\xff\n.jpg', "path_bytes": os.fsencode(ODD)}  # what is no UTF-8 is escaped
        assert table.to_pylist() == wanted
        types = ["string", "double", *["string"] * 3, "double", "string", "binary"]
        assert [str(field.type) for field in table.schema] == types
        with (
            pytest.raises(UsageError, match="parquet cannot be resumed"),
            score_file(path, "parquet", ORIGIN, known, anew=False, retry_failed=False),
        ):
            pass

        def interrupted():
            with score_file(path, "parquet", ORIGIN, known, anew=True, retry_failed=False) as write:
                write(ROWS[:1])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert parquet.read_table(path).num_rows == 1
    assert [each.name for each in tmp_path.iterdir()] == ["s.parquet"]


def test_what_was_told_of_an_image_is_told_once(tmp_path):
    path = tmp_path / "a.jpg"
    with closing(Known()) as known:
        known.add([image(path, b"one")], Told.NOTHING)
        assert not known.is_done(str(path))
        assert [known.first(str(path), Told.ROW) for _ in range(2)] == [True, False]
        assert [known.first(str(path), Told.STUCK) for _ in range(2)] == [True, False]
        assert not known.first(str(path), Told.ROW)
        assert not known.first(str(tmp_path / "b.jpg"), Told.ROW)
