"""The runbooks of the help walked as they stand: every command in its order, on a box with images, and what comes of it.

What a runbook does with a machine (playbook, units, a failed update) is walked by `make test-machine`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from html import unescape
from itertools import islice
from pathlib import Path

import pytest

from appliance.box import Box, open_box
from appliance.catalog import deliveries
from appliance.config import load_config
from appliance.replication import courier
from appliance.replication.delivery import State
from tests import synthetic
from tests.cli.conftest import Outcome, Say, account

pytestmark = pytest.mark.slow

HELP = Path(__file__).parents[2] / "web-ui/help/en/runbooks.html"
KEY = re.compile(r"\b[A-Z0-9]{5}(?:-[A-Z0-9]{5}){6,}\b")


def commands(section: str) -> list[str]:
    """What the section says to type at the appliance, in order."""
    (text,) = re.findall(rf'<h2 id="{section}">.*?(?=<h2|\Z)', HELP.read_text("utf-8"), re.DOTALL)
    return [unescape(each) for each in re.findall(r"<code>appliance (.*?)</code>", text)]


def walk(
    say: Say,
    section: str,
    disk: Path,
    *,
    typed: Mapping[str, str | Callable[[], str]] | None = None,
    after: Mapping[str, Callable[[Outcome], None]] | None = None,
    instead: Mapping[str, Sequence[object]] | None = None,
    without: Sequence[str] = (),
) -> list[Outcome]:
    """Type every command of `section` but those that begin with a word of `without`; each must come to a good end.

    ``/media/DISK`` is `disk`. `typed` is what a command is answered, by its first words; `instead` says what stands for the
    placeholders of a command.
    """
    told = []
    for line in commands(section):
        if line.startswith(tuple(without)):
            continue
        line, _, into = line.replace("/media/DISK", str(disk)).partition(" >")
        words = [*line.split(), *(instead or {}).get(line, ())]
        answer = (typed or {}).get(line.split(" --")[0].removesuffix(" folder"), "")
        outcome = say(*words, typed=answer() if callable(answer) else answer)
        assert outcome.code == 0, f"{line}: {outcome.err}"
        (after or {}).get(line, lambda _: None)(outcome)
        if into:
            Path(into).write_text(outcome.out, "utf-8")
        told.append(outcome)
    return told


def paper(outcome: Outcome) -> str:
    """The recovery key that a command has printed."""
    found = KEY.search(outcome.out)
    assert found is not None, outcome.out
    return found[0] + "\n"


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
        states = {each.state for each in deliveries.list_deliveries(conn, limit=10_000)}
        unwritten = conn.exec_driver_sql(
            "SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL"
        ).scalar()
    return states <= {State.CONFIRMED} and not unwritten


def test_a_box_is_installed_to_the_drill_that_passes(
    say: Say, full: str, disk: Path, eventually: Callable[..., object]
) -> None:
    deliver(say, eventually)
    _, drill = walk(say, "install", disk)
    assert "Passed." in drill.out


def test_a_disk_is_replaced_and_then_the_box_from_the_backup(
    say: Say,
    full: str,
    disk: Path,
    films: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    account(say, "olivia", role="owner")
    deliver(say, eventually)
    made, owed = walk(say, "replace-disk", disk)
    assert "3 images" in made.out
    states = {line.split()[2] for line in owed.out.splitlines()[1:] if line.split()[1:2] == ["DISK"]}
    assert states == {"CONFIRMED"}, "nothing is here alone"
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "new"))
    _, status, _ = walk(
        say,
        "replace-box",
        disk,
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
    walk(say, "lost-key", disk, typed=answers, after={"key rotate": keep})
    assert say("import", *films[3:]).code == 0
    deliver(say, eventually)
    assert say("backup", "now").code == 0
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "new"))
    assert say("restore", "folder", "--path", disk, typed=fresh).code == 0
    assert images(say) == 5
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "of a thief"))
    refused = say("restore", "folder", "--path", disk, typed=full)
    assert (refused.code, "not this box's" in refused.err) == (65, True)


def test_a_month_without_internet_leaves_what_comes_on_the_disk(
    say: Say,
    disk: Path,
    films: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    assert say("import", *films[:2]).code == 0
    walk(say, "offline", disk)
    assert say("import", *films[2:]).code == 0
    deliver(say, eventually)
    assert len(say("deliveries", "--json").rows) == 3, "of what came from then on"
    assert len(list((disk / "objects").rglob("*.sealed"))) == 3
    (kept,) = say("backup", "list", "--json").rows
    assert (kept["archive"], kept["instances"]) == ("DISK", 2)


def test_a_full_disk_says_what_takes_the_room_and_every_copy_is_whole(
    say: Say, full: str, disk: Path, films: list[Path]
) -> None:
    room, whole = walk(say, "full-disk", disk)
    assert "images" in room.out
    assert "whole" in whole.out


def test_after_an_attack_all_is_found_whole_and_every_secret_is_new(say: Say, full: str, disk: Path) -> None:
    account(say, "olivia", role="owner")
    chain, exported, whole, link, _ = walk(
        say, "ransomware", disk, typed={"key rotate-root": full}, instead={"user reset": ["olivia"]}
    )
    assert "user:invite" in exported.out
    assert "whole" in whole.out
    assert "rows are whole" in chain.out
    assert "/welcome#" in link.out
    refused = say("restore", "folder", "--path", disk, typed=full)
    assert refused.code != 0, "a box that is not blank is never written over"


def test_a_box_goes_for_good_with_its_audit_kept(
    say: Say, full: str, disk: Path, eventually: Callable[..., object]
) -> None:
    deliver(say, eventually)
    assert say("backup", "now").code == 0
    walk(say, "end-of-life", disk)
    assert "backup:make" in (disk / "audit.txt").read_text("utf-8")


def test_the_rest_is_walked_where_a_machine_is() -> None:
    assert commands("update-failed") == ["--version", "status"], "tests/provisioning walks it"
