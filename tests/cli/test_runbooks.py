"""The runbooks of the help walked as they stand: every line in its order, on a box with images, and what comes of it.

`appliance` runs in this process; the rest is typed in a shell on scratch folders (`tests.cli.machine`). What a runbook does with the
playbook and with units that really run is walked by `make test-machine`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import closing
from html import unescape
from itertools import islice
from pathlib import Path

import pytest

from appliance.box import Box, open_box
from appliance.config import load_config
from appliance.replication import courier
from appliance.replication.delivery import State
from tests import synthetic
from tests.boxes import delivery_states
from tests.cli.conftest import Outcome, Say, account
from tests.cli.machine import ROOT, Machine
from tests.cli.walking import ELSEWHERE, HELP, SECTIONS, STOP, commands, lines, paper, walk

pytestmark = pytest.mark.slow


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """Five small images: three in the box, and two that come later."""
    return synthetic.write(islice(synthetic.dental_set(1, scale=0.05), 5), tmp_path / "films")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    made = tmp_path / "disk"
    made.mkdir()
    return made


@pytest.fixture
def machine(data_dir: Path, disk: Path, tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine", data_dir, disk)


@pytest.fixture
def full(say: Say, films: list[Path], disk: Path) -> str:
    """A box with images, whose archive on a disk has them; its recovery key, which was proven."""
    assert say("destination", "add", "vault", "DISK", "--path", disk).code == 0
    assert say("rule", "add", "--to", "DISK").code == 0
    assert say("import", *films[:3]).code == 0
    key = paper(say("key", "show-recovery"))
    assert say("key", "check-recovery", typed=key).code == 0
    return key


def images(say: Say) -> int:
    return sum(int(each["instances"]) for each in say("studies", "--json").rows)


def deliver(say: Say, eventually: Callable[..., object]) -> None:
    """Let the courier work until nothing is owed, as its process does while the box runs."""
    stop = threading.Event()
    with closing(open_box(load_config(os.environ))) as box:
        working = threading.Thread(target=courier.run, args=(box, stop))
        working.start()
        try:
            eventually(lambda: owes_nothing(box), within_seconds=120)
        finally:
            stop.set()
            working.join()


def owes_nothing(box: Box) -> bool:
    with box.catalog.reading() as conn:
        states = delivery_states(conn)
        unwritten = conn.exec_driver_sql(
            "SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL"
        ).scalar()
    return set(states) <= {State.CONFIRMED} and not unwritten


def test_a_box_is_installed_to_the_drill_that_passes(
    say: Say, full: str, disk: Path, machine: Machine, eventually: Callable[..., object]
) -> None:
    deliver(say, eventually)
    shown, _, drill = walk(say, "install", machine)
    assert "Claim code" in shown.out
    assert "Passed." in drill.out


def test_a_disk_is_replaced_and_then_the_box_from_the_backup(
    say: Say,
    full: str,
    disk: Path,
    machine: Machine,
    films: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    account(say, "olivia", role="owner")
    deliver(say, eventually)
    made, owed = walk(say, "replace-disk", machine)
    assert "3 images" in made.out
    assert machine.stopped
    states = {line.split()[2] for line in owed.out.splitlines()[1:] if line.split()[1:2] == ["DISK"]}
    assert states == {"CONFIRMED"}, "nothing is here alone"
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "new"))
    _, status, _ = walk(
        say,
        "replace-box",
        machine,
        typed={"restore": full, "key check-recovery": full},
        without=["restore s3", "key reseal"],  # another way to the same, and what is said not to be needed
    )
    assert images(say) == 3
    assert "olivia" in say("user", "list").out
    assert "recovery" not in status.out


def test_a_lost_paper_is_replaced_and_opens_nothing_that_comes_after(
    say: Say,
    full: str,
    disk: Path,
    machine: Machine,
    films: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    deliver(say, eventually)
    fresh = ""

    def keep(outcome: Outcome) -> None:
        nonlocal fresh
        fresh = paper(outcome)

    answers = {"key check-recovery": lambda: fresh, "key rotate-root": lambda: fresh}
    walk(say, "lost-key", machine, typed=answers, after={"key rotate": keep})
    assert say("import", *films[3:]).code == 0
    deliver(say, eventually)
    assert say("backup", "now").code == 0
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "new"))
    assert say("restore", "folder", "--path", disk, typed=fresh).code == 0
    assert images(say) == 5
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "of a thief"))
    refused = say("restore", "folder", "--path", disk, typed=full)
    assert (refused.code, "none that opens this archive" in refused.err) == (65, True)


def test_a_month_without_internet_leaves_what_comes_on_the_disk(
    say: Say,
    disk: Path,
    machine: Machine,
    films: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    assert say("import", *films[:2]).code == 0
    walk(say, "offline", machine)
    assert say("import", *films[2:]).code == 0
    deliver(say, eventually)
    assert len(say("deliveries", "--json").rows) == 3, "of what came from then on"
    assert len(list((disk / "objects").rglob("*.sealed"))) == 3
    (kept,) = say("backup", "list", "--json").rows
    assert (kept["archive"], kept["instances"]) == ("DISK", 2)


def test_a_full_disk_is_copied_whole_to_a_larger_one_which_takes_its_place(
    say: Say, full: str, machine: Machine, data_dir: Path, tmp_path: Path
) -> None:
    small, large = tmp_path / "small disk", machine.scratch / "larger-disk"

    def mount(_: Outcome) -> None:
        assert machine.stopped, "nothing is written meanwhile"
        data_dir.rename(small)
        large.rename(data_dir)

    room, whole = walk(
        say,
        "full-disk",
        machine,
        instead={"cp -a": [data_dir, large]},
        after={"cp -a": mount},
    )
    assert "images" in room.out
    assert "3 objects" in whole.out
    assert "whole" in whole.out
    assert not machine.stopped
    assert images(say) == 3
    assert machine.typed[:2] == ["df -h", "journalctl --vacuum-size=200M"]


def test_after_an_attack_all_is_found_whole_and_every_secret_is_new(
    say: Say, full: str, disk: Path, machine: Machine
) -> None:
    account(say, "olivia", role="owner")
    account(say, "pierre", role="technician")
    chain, exported, whole, _, link, _, _ = walk(
        say,
        "ransomware",
        machine,
        typed={"key rotate-root": full},
        instead={
            "user end-sessions": ["olivia"],
            "user reset": ["olivia"],
            "user deactivate": ["pierre"],
        },
        without=["restore"],  # for a box that is not whole
    )
    assert "user:invite" in exported.out
    assert "whole" in whole.out
    assert "rows are whole" in chain.out
    assert "/welcome#" in link.out
    refused = say("restore", "folder", "--path", disk, typed=full)
    assert refused.code != 0, "a box that is not blank is never written over"


def test_after_an_attack_that_left_nothing_whole_the_backup_from_before_is_taken(
    say: Say,
    full: str,
    disk: Path,
    machine: Machine,
    films: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    deliver(say, eventually)
    assert say("backup", "now").code == 0
    (before,) = say("backup", "list", "--json").rows
    account(say, "mallory", role="owner")
    assert say("import", *films[3:]).code == 0
    deliver(say, eventually)
    assert say("backup", "now").code == 0
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "new"))
    chosen = f"restore folder --path {disk} --backup BACKUP"
    listed, restored = walk(
        say,
        "ransomware",
        machine,
        typed={"restore": full},
        instead={chosen: ["--backup", before["name"]]},
        # what is for a box that is whole, and tests/cli/test_restore_from_a_bucket.py
        without=["audit", "verify", "user", "key", "restore s3"],
    )
    assert before["name"] in listed.out
    assert f"Restored by the backup {before['name']}" in restored.out
    assert images(say) == 5, "what came later came by its manifests"
    assert "mallory" not in say("user", "list").out


def test_a_box_goes_for_good_with_its_audit_kept_and_opens_no_more(
    say: Say,
    full: str,
    disk: Path,
    machine: Machine,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    deliver(say, eventually)
    assert say("backup", "now").code == 0
    (machine.seal / "seal").write_bytes(bytes(32))
    walk(say, "end-of-life", machine)
    assert "backup:make" in (disk / "audit.txt").read_text("utf-8")
    assert machine.stopped
    assert not machine.seal.exists()
    assert (data_dir / "catalog.db").exists(), "the rest lies there, closed"
    closed = say("studies")
    assert (closed.code, "keys are gone" in closed.err) == (78, True), closed.err
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "another"))
    assert say("restore", "folder", "--path", disk, typed=full).code == 0
    assert images(say) == 3, "what lies in an archive opens with the paper still"


def test_what_is_typed_when_an_update_failed_names_units_that_there_are(machine: Machine) -> None:
    assert commands("update-failed") == ["--version", "status"], "tests/provisioning walks it on a machine"
    for line in lines("update-failed"):
        if line not in ELSEWHERE and not line.startswith("appliance "):
            out = machine.type(line)
            if line.startswith("systemctl"):
                assert "appliance-web.service" in out
            else:
                (unit,) = re.findall(r"-u (\S+)", line)
                assert (ROOT / "systemd/system" / f"{unit}.service").exists()


@pytest.mark.parametrize("language", ["en", "fr"])
def test_who_stops_the_box_waits_until_nothing_of_it_runs(language: str) -> None:
    """systemctl waits for the units that it is told, and not for those that stop with them: a copy would begin while images come."""
    text = unescape((HELP.parents[1] / language / HELP.name).read_text("utf-8"))
    stops = re.findall(r"<code>(systemctl stop [^<]*)</code>", text)
    assert len(stops) == 3
    assert set(stops) == {STOP}


def test_nothing_stands_there_that_is_typed_nowhere() -> None:
    programs = {line.split()[0] for section in SECTIONS for line in lines(section) if line not in ELSEWHERE}
    assert programs == {"appliance", "cp", "df", "journalctl", "rm", "systemctl"}
    assert (ROOT / "provisioning/site.yml").exists()
    assert (ROOT / "image-build/oci").is_dir()


def test_a_unit_that_there_is_not_and_a_folder_of_the_machine_are_refused(machine: Machine) -> None:
    with pytest.raises(AssertionError, match=r"appliance\.targe could not be found"):
        machine.type("systemctl stop appliance.targe")
    with pytest.raises(AssertionError, match="/var/lib/other"):
        machine.type("rm -rf /var/lib/other")
    assert machine.typed == []
