"""Folders that grow, looked at without waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_cli.data.passed_over import PassedOver
from synood_cli.data.watching import Watch


def content(path: str) -> bytes:
    return Path(path).read_bytes() if Path(path).is_file() else b""


class Folder:
    """A folder that is watched; what was taken is known until it changes."""

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder = folder
        self._known: dict[str, bytes] = {}
        self.watch = Watch([str(folder)], None, self._is_known, PassedOver(), seconds=0, patience=patience)
        self._rounds = self.watch.rounds()

    def _is_known(self, path: str) -> bool:
        return path in self._known and self._known[path] == content(path)

    def taken(self, *broken: str) -> list[str]:
        """What the next round takes; `broken` cannot be read, and is given back."""
        taken = []
        for found in next(self._rounds):
            taken.append(found.name)
            if not (found.name in broken and self.watch.postpone(found.path)):
                self._known[found.path] = content(found.path)
        return taken


@pytest.fixture
def patient(tmp_path: Path) -> Folder:
    (tmp_path / "1.jpg").write_bytes(b"x")
    return Folder(tmp_path, patience=1e9)


def test_a_file_is_taken_once_it_has_stopped_growing(patient: Folder) -> None:
    assert patient.taken() == []
    (patient.folder / "2.jpg").write_bytes(b"x")
    assert patient.taken() == ["1.jpg"]
    (patient.folder / "2.jpg").write_bytes(b"more")
    assert patient.taken() == []
    assert patient.taken() == ["2.jpg"]
    (patient.folder / "2.jpg").unlink()
    assert [patient.taken(), patient.taken()] == [[], []]


def test_a_file_that_is_replaced_is_taken_again(patient: Folder) -> None:
    assert [patient.taken(), patient.taken(), patient.taken()] == [[], ["1.jpg"], []]
    (patient.folder / "1.jpg").write_bytes(b"another")
    assert [patient.taken(), patient.taken(), patient.taken()] == [[], ["1.jpg"], []]


def test_a_file_whose_writer_pauses_is_taken_again_when_it_has_changed(patient: Folder) -> None:
    assert [patient.taken("1.jpg") for _ in range(4)] == [[], ["1.jpg"], [], []]
    (patient.folder / "1.jpg").write_bytes(b"whole")
    assert [patient.taken(), patient.taken(), patient.taken()] == [[], ["1.jpg"], []]


def test_a_file_that_stays_broken_is_taken_a_last_time(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"x")
    impatient = Folder(tmp_path, patience=0)
    assert [impatient.taken("1.jpg") for _ in range(4)] == [[], ["1.jpg"], [], []]


def test_a_link_that_leads_nowhere_is_taken_and_taken_again_when_it_leads_somewhere(patient: Folder) -> None:
    (patient.folder / "2.jpg").symlink_to("later")
    assert [patient.taken("2.jpg") for _ in range(3)] == [[], ["1.jpg", "2.jpg"], []]
    (patient.folder / "later").write_bytes(b"x")
    assert [patient.taken() for _ in range(3)] == [[], ["2.jpg"], []]


def test_a_link_that_stays_broken_is_taken_a_last_time(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").symlink_to("1.jpg")
    impatient = Folder(tmp_path, patience=0)
    assert [impatient.taken("1.jpg") for _ in range(4)] == [[], ["1.jpg"], [], []]


def test_a_folder_that_is_gone_is_taken_once_and_looked_into_when_it_is_there_again(patient: Folder) -> None:
    away = patient.folder.with_name("away")
    patient.folder.rename(away)
    assert [patient.taken(), patient.taken()] == [[str(patient.folder)], []]
    away.rename(patient.folder)
    assert [patient.taken(), patient.taken(), patient.taken()] == [[], ["1.jpg"], []]
