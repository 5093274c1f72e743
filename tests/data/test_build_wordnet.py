"""tools/build_wordnet.py, run as its users run it on a dictionary of a few words."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "build_wordnet.py"

LICENCE = "  1 Be kind.  \n  2   \n  3 WordNet 9.9 Copyright 2099 by Nobody.  All rights reserved.  \n"
NOUNS = (
    "00000100 03 n 02 White_Shark 0 man-eater 1 001 @ 00000200 n 0000 | a large shark\n"
    "00000200 03 n 01 fish 0 000 | swims\n"
    "00000300 03 n 0b a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 A 1 000 | eleven words, two of them alike\n"
)
ADJECTIVES = "00000100 00 a 02 red 0 galore(ip) 0 000 | many\n00000200 00 s 01 Far-off(a) 0 000 | far\n"


def dictionary(folder: Path) -> Path:
    folder.mkdir()
    (folder / "data.noun").write_text(LICENCE + NOUNS)
    (folder / "data.adj").write_text(LICENCE + ADJECTIVES)
    nouns = [*"abcdefghij", "fish", "man-eater", "white_shark"]
    (folder / "index.noun").write_text(LICENCE + "".join(f"{noun} n 1 0 1 0 00000100  \n" for noun in nouns))
    (folder / "index.adj").write_text(
        LICENCE + "".join(f"{word} a 1 0 1 0 0  \n" for word in ("far-off", "galore", "red"))
    )
    return folder


def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, check=False)


def test_synsets_adjectives_and_licence_are_taken_over(tmp_path: Path) -> None:
    result = run(dictionary(tmp_path / "dict"), tmp_path / "out")
    assert result.returncode == 0, result.stderr
    nouns = gzip.decompress((tmp_path / "out/noun_synsets.txt.gz").read_bytes()).decode()
    assert nouns == "white shark\tman-eater\nfish\na\tb\tc\td\te\tf\tg\th\ti\tj\n"
    assert gzip.decompress((tmp_path / "out/adjectives.txt.gz").read_bytes()) == b"far-off\ngalore\nred\n"
    licence = "Be kind.\n\nWordNet 9.9 Copyright 2099 by Nobody.  All rights reserved.\n"
    assert (tmp_path / "out/LICENSE").read_text() == licence
    notice = (tmp_path / "out/NOTICE").read_text()
    assert "WordNet 9.9, Princeton University" in notice
    assert "3 noun synsets with 13 nouns; 3 adjectives" in notice


def test_the_same_dictionary_gives_the_same_bytes(tmp_path: Path) -> None:
    source = dictionary(tmp_path / "dict")
    for name in ("first", "second"):
        assert run(source, tmp_path / name).returncode == 0
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
        if file.suffix == ".gz":
            assert file.read_bytes()[4:8] == b"\0\0\0\0"  # gzip's time stamp


def test_data_that_its_own_index_contradicts_is_refused(tmp_path: Path) -> None:
    source = dictionary(tmp_path / "dict")
    with (source / "index.noun").open("a") as file:
        file.write("zebra n 1 0 1 0 0  \n")
    result = run(source, tmp_path / "out")
    assert result.returncode == 1
    assert "index.noun and its data file disagree, e.g. on ['zebra']" in result.stderr
    assert not (tmp_path / "out").exists()
