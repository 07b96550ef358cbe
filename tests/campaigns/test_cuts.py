"""The short form: a power cut or a kill before some of the steps of each operation, and the tool that says what is left."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.campaigns import cuts, reachability
from tests.campaigns.power import KINDS, State, watched


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", cuts.OPERATIONS)
def test_it_recovers_from_a_cut_before_any_step(tmp_path: Path, operation: str) -> None:
    with tempfile.TemporaryDirectory(dir=reachability.scratch(tmp_path)) as worlds:
        outcome = cuts.run(Path(worlds), operation=operation, most=5)
    assert outcome.states.total() == 5
    assert outcome.steps[f"{operation} (disk)"] > 10
    print(outcome)


ELSEWHERE = [("bucket", each, 1) for each in cuts.OPERATIONS] + [
    (each, "purge", 13) for each in ("sftp", "plain-sftp", "smb")
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("at", "operation", "every"), ELSEWHERE)
def test_it_recovers_from_a_cut_at_a_request_of_which_its_archive_knows(
    tmp_path: Path, at: str, operation: str, every: int
) -> None:
    """`python -m tests.campaigns cuts --at all` for all of them."""
    with tempfile.TemporaryDirectory(dir=reachability.scratch(tmp_path)) as worlds:
        outcome = cuts.run(Path(worlds), operation=operation, at=at, most=1, every=every)
    assert outcome.states.total() == 1
    print(outcome)


def contents(states: list[State], *kinds: str) -> list[dict[str, bytes]]:
    """What lies in each of the states of these kinds; of two that are alike only the first was kept."""
    return [
        {
            str(path.relative_to(each.folder)): path.read_bytes()
            for path in each.folder.rglob("*")
            if path.is_file()
        }
        for each in states
        if each.kind in kinds
    ]


def written(path: Path, data: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, data)
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


def synced(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_a_power_cut_leaves_what_was_synced_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "old").write_bytes(b"old")
    with watched(root, tmp_path / "states") as watch:
        written(root / "unsynced", b"1234", sync=False)
        written(root / "new", b"new", sync=True)
        (root / "new").replace(root / "old")  # before it: both files, one of them not synced
        synced(root)  # before it: the name is not durable
        (root / "old").unlink()  # before it: it is
    left = contents(watch.states, *KINDS)
    assert {"old": b"old", "unsynced": b"1234", "new": b"new"} in left, "killed before the new name"
    assert {"old": b"old"} in left, "cut: the names of new files were not synced"
    assert {"old": b"old", "unsynced": b"12", "new": b"new"} in left, "names before data"
    assert {"old": b"new", "unsynced": b""} in left, "cut after the folder was synced"
    assert {"unsynced": b"1234"} in left, "killed at the end"
    assert all(each.get("unsynced") in {None, b""} for each in contents(watch.states, "cut"))


def test_what_was_removed_comes_back_until_its_folder_is_synced(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "file").write_bytes(b"kept")
    with watched(root, tmp_path / "states") as watch:
        (root / "deep" / "file").unlink()
        (root / "deep").rmdir()
        written(root / "other", b"1234", sync=False)
        synced(root)
    assert contents(watch.states[:1], *KINDS) == [{"deep/file": b"kept"}]
    # Before the sync a cut leaves the very same, so that it was not kept again.
    assert [each.step for each in watch.states if each.kind == "cut"] == ["the end"]
