"""What `tests.image.person` does before a machine, done before processes: a lost box comes back by its pages, and a wrong paper is found out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup.conftest import Clinic
from tests.image import person, runbooks
from tests.system.browser import Browser
from tests.system.running import Appliance, wait_for
from tests.web.conftest import kept_clinic
from tests.web.test_setup_browser import blank

__all__ = ["blank"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def lost(tmp_path: Path) -> Iterator[Clinic]:
    (tmp_path / "lost").mkdir()
    with kept_clinic(tmp_path / "lost", images=3) as clinic:
        clinic.back_up()
        yield clinic


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person, "LOOK_SECONDS", 0.2)


def test_a_lost_box_comes_back_by_the_pages_of_a_new_one(
    blank: Appliance, lost: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    code = person.claim_code(["  " + line for line in blank.log().splitlines()])
    path = str(lost.place.options["path"])
    person.restores(Browser(blank.web_port), code, path, str(lost.paper))
    assert "BROKEN" not in capsys.readouterr().out

    def whole() -> str:
        """While the restored box takes its place the command line says so, and fails."""
        return blank.command("verify", "--all").out

    wait_for(lambda: re.search(runbooks.HOME, whole(), re.MULTILINE), whole, seconds=300)
    assert "study_instance_uid" in blank.say("studies", "--json")


def test_a_paper_that_is_not_of_this_box_finds_nothing_and_the_code_still_claims(
    blank: Appliance, lost: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    code = person.claim_code(blank.log().splitlines())
    path, wrong = str(lost.place.options["path"]), blank.say("key", "show-recovery").strip()
    with pytest.raises(SystemExit):
        person.restores(Browser(blank.web_port), code, path, wrong)
    assert "BROKEN: on the first page" in capsys.readouterr().out
    Browser(blank.web_port).claim(code, login=person.LOGIN, name="Odile Roy", password=person.PASSWORD)


def test_a_disk_becomes_an_archive_that_is_tried_out_by_the_pages_of_the_console(
    blank: Appliance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner, disk = Browser(blank.web_port), tmp_path / "usb"
    code = person.claim_code(["  " + line for line in blank.log().splitlines()])
    owner.claim(code, login=person.LOGIN, name="Odile Roy", password=person.PASSWORD)
    with pytest.raises(SystemExit):
        person.adds_a_disk(owner, "usb", str(disk))
    assert "BROKEN" in capsys.readouterr().out, "nothing is plugged in there yet"
    disk.mkdir()
    person.adds_a_disk(owner, "usb", str(disk))
    person.backs_up(owner)
    person.drills(owner)
    assert "BROKEN" not in capsys.readouterr().out
    assert re.search(r"usb +any +any", blank.say("rule", "list")), "for everything that arrives"
    disk.rename(tmp_path / "taken out")
    for act in (person.backs_up, person.drills):
        with pytest.raises(SystemExit):
            act(owner)
        assert "BROKEN" in capsys.readouterr().out, "the one before was good, and this one was not"


def test_who_is_asked_who_she_is_says_so(blank: Appliance, capsys: pytest.CaptureFixture[str]) -> None:
    owner = Browser(blank.web_port)
    code = person.claim_code(["  " + line for line in blank.log().splitlines()])
    owner.claim(code, login=person.LOGIN, name="Odile Roy", password=person.PASSWORD)
    with blank.opened() as box, box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE web_sessions SET confirmed_utc = '2020-01-01T00:00:00.000000Z'")
    (blank.folder / "disk").mkdir()
    person.adds_a_disk(owner, "usb", str(blank.folder / "disk"))
    assert "BROKEN" not in capsys.readouterr().out
