"""`backup` and `restore`, as an administrator types them."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.audit.chain import CHAIN_BYTES
from appliance.backup import inventory, making, snapshot
from appliance.box import open_box
from appliance.catalog import destinations
from appliance.cli import main
from appliance.config import load_config
from tests.cli.conftest import Say


@pytest.fixture
def disk(say: Say, tmp_path: Path) -> Path:
    """A USB disk that is an archive, and the paper written down."""
    (tmp_path / "usb").mkdir()
    assert say("destination", "add", "vault", "usb", "--path", tmp_path / "usb").code == 0
    return tmp_path / "usb"


def paper_in(say: Say, tmp_path: Path) -> Path:
    paper = tmp_path / "paper.txt"
    paper.write_text(say("key", "show-recovery").out, "ascii")
    paper.chmod(0o600)
    return paper


def test_a_backup_is_made_listed_audited_and_restored(
    say: Say, disk: Path, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say("import", *films).code == 0
    made = say("backup", "now", "--to", "usb")
    assert made.code == 0, made.err
    assert f"{len(films)} images" in made.out
    (row,) = say("backup", "list", "--json").rows
    assert (row["archive"], row["instances"], row["proof"]) == ("usb", len(films), "untried")
    assert row["name"] in say("backup", "list", "--of", "usb").out
    assert "backup:make" in [each["action"] for each in say("audit", "export").rows]
    paper = paper_in(say, tmp_path)
    before = say("studies", "--json").rows
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "blank"))
    restored = main(["restore", "folder", "--path", str(disk), "--recovery-key-file", str(paper)])
    assert restored == 0
    after = say("studies", "--json").rows
    assert [each["study_instance_uid"] for each in after] == [each["study_instance_uid"] for each in before]
    assert [row["action"] for row in say("audit", "export").rows].count("backup:restore") == 1
    again = say("restore", "folder", "--path", disk, "--recovery-key-file", paper)
    assert (again.code, "not blank" in again.err) == (65, True)


def test_bad_input_gets_one_line(
    say: Say, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say("backup", "now", "--to", "nowhere").code == 66
    paper = paper_in(say, tmp_path)
    say("backup", "now")
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "blank"))
    mistyped = say("restore", "folder", "--path", disk, typed="AAAAA-BBBBB\n")
    assert mistyped.code == 65
    assert "characters" in mistyped.err
    paper.chmod(0o644)
    read_by_all = say("restore", "folder", "--path", disk, "--recovery-key-file", paper)
    assert (read_by_all.code, "chmod 600" in read_by_all.err) == (78, True)
    assert say("restore", "folder", "--path", tmp_path / "nowhere", typed="x").code == 75
    assert say("restore", "s3", "--bucket", "b", "--region", "us-east-1", typed="x").code == 65
    for outcome in (mistyped, read_by_all):
        assert len(outcome.err.splitlines()) == 1


def test_without_an_archive_it_is_said_what_to_do(say: Say) -> None:
    outcome = say("backup", "now")
    assert outcome.code == 78
    assert "destination add" in outcome.err


def test_a_backup_whose_key_is_damaged_is_told_to_programs(say: Say, disk: Path) -> None:
    for _ in range(2):
        assert say("backup", "now").code == 0
    assert [row["key_opens"] for row in say("backup", "list", "--json").rows] == [True, True]
    (key, _) = sorted(disk.glob("**/snapshots/*/key"))
    key.write_bytes(b"rotten")
    told = {row["name"]: row["key_opens"] for row in say("backup", "list", "--json").rows}
    assert told.pop(key.parent.name) is False
    assert [*told.values()] == [True]


def test_an_archive_that_is_away_hides_no_other(say: Say, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    assert say("destination", "add", "vault", "away", "--path", tmp_path / "first").code == 0
    (tmp_path / "first").rename(tmp_path / "unplugged")  # by name, it is asked before the other
    assert say("backup", "now", "--to", "usb").code == 0
    for verb in ("list", "drill"):
        told = say("backup", verb, "--json")
        assert told.code == 75, verb
        assert [row["archive"] for row in told.rows] == ["usb"], verb
        assert "away: " in told.err, verb
        assert " — " in told.err, "with its remedy"
        shown = say("backup", verb)
        assert (shown.code, "usb" in shown.out) == (75, True), verb
    alone = say("backup", "list", "--of", "away")
    assert (alone.code, alone.out) == (75, ""), "nobody says that there is no backup"
    assert alone.err.count("is not there") == 1, "and it is said once"
    (index,) = disk.glob("**/snapshots/*/index")
    index.write_bytes(b"rotten")
    assert say("backup", "drill").code == 76, "a damaged backup is worse than a disk that is away"


def test_more_backups_than_a_page_shows_are_listed_in_the_order_in_which_they_were_made(
    say: Say, disk: Path
) -> None:
    """By what no clock can falsify: their names say the contrary, and every tenth was made after the box had come back."""
    assert say("backup", "now").code == 0
    box = open_box(load_config(os.environ))
    try:
        with box.catalog.reading() as conn:
            (place,) = destinations.destinations(conn)
            (known,) = inventory.take(box, place).held
        archive = making.archive_at(box, place)
        assert known.index is not None
        expected = []
        for number in range(1, inventory.MOST + 11):
            named = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=number)
            name, lives = snapshot.new_name(named, f"{number:08x}"), int(number % 10 == 0)
            rows = 1_000 + number
            index = replace(
                known.index, name=name, made_utc=named, audit=f"{rows}:{'00' * CHAIN_BYTES}", lives=lives
            )
            sealed = box.root.seal(snapshot.encode(index), snapshot.context(name))
            archive.put_document(snapshot.index_key(name), sealed)
            expected.append((lives, rows, name))
    finally:
        box.close()
    told = [row["name"] for row in say("backup", "list", "--json").rows]
    assert told == [*(name for *_, name in sorted(expected, reverse=True)), known.name]


def test_a_backup_is_chosen_of_those_that_are_listed(
    say: Say, films: list[Path], disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say("import", films[0]).code == 0
    assert say("backup", "now").code == 0
    assert say("import", films[1]).code == 0
    assert say("backup", "now").code == 0
    paper = paper_in(say, tmp_path)
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "blank"))
    place = ("restore", "folder", "--path", disk, "--recovery-key-file", paper)
    listed = say(*place, "--list")
    assert listed.code == 0, listed.err
    names = re.findall(r"\d{8}T\d{6}Z-[0-9a-f]{8}", listed.out)
    assert len(names) == 2
    assert not (tmp_path / "blank" / "catalog.db").exists(), "nothing was restored"
    unknown = say(*place, "--backup", "yesterday")
    assert unknown.code != 0
    assert all(name in unknown.err for name in names)
    restored = say(*place, "--backup", names[1])
    assert restored.code == 0, restored.err
    assert f"Restored by the backup {names[1]}" in restored.out
