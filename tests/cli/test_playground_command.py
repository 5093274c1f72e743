"""`synood playground export`."""

from __future__ import annotations

from pathlib import Path

from command_line import run_synood

from synood_cli.cli.json_fields import JSON_FIELDS
from synood_cli.data.folders import scan_images
from synood_cli.store.outputs import output_lock


def test_export_tells_how_many_images_lie_where(tmp_path: Path) -> None:
    arguments = ["playground", "export", "world", "--train", "1", "--test", "1", "--seed", "3"]
    ended = run_synood(*arguments, "--diagnostics", "--json")
    assert ended.code == 0
    assert ended.json.keys() == JSON_FIELDS["playground"].keys()
    counts = ended.json["images"]
    assert set(counts.values()) == {40}
    assert {"train/ind", "val/ood/near", "test/ood/textures", "boundary"} <= counts.keys()
    for name, count in counts.items():
        assert len(scan_images(tmp_path / "world" / name).images) == count
    assert "next: synood select world/train/ind" in ended.err

    again = run_synood(*arguments)
    assert (again.code, again.out) == (2, b"")
    assert "not empty" in again.err


def test_export_into_a_table_without_diagnostics(tmp_path: Path) -> None:
    ended = run_synood("playground", "export", tmp_path / "world", "--train", "1", "--test", "1", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.text.splitlines()
    assert lines[0].split() == ["folder", "images"]
    assert lines[1].split() == ["train/ind", "40"]
    assert len(lines) == 12
    assert not (tmp_path / "world/boundary").exists()


def test_what_is_at_the_place_or_beside_it_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "world.unfinished"
    mine.symlink_to(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    small = ["--train", "1", "--test", "1", "--quiet"]
    for place in (tmp_path, tmp_path / "notes.txt"):
        ended = run_synood("playground", "export", place, *small)
        assert ended.code == 2
        assert "exists and is not empty" in ended.err
    (tmp_path / "world").write_bytes(b"")
    assert run_synood("playground", "export", tmp_path / "world" / "below", *small).code == 2
    (tmp_path / "world").unlink()
    with output_lock(tmp_path / "world"):
        ended = run_synood("playground", "export", tmp_path / "world", *small)
        assert ended.code == 1
        assert "is being written by another process" in ended.err
    assert run_synood("playground", "export", tmp_path / "world", *small).code == 0
    assert mine.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "world", "world.unfinished"]


def test_the_group_lists_its_commands() -> None:
    ended = run_synood("playground", "--help")
    assert ended.code == 0
    assert "export" in ended.text
