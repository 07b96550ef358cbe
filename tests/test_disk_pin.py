"""The PIN of the disk: what may be one, how root is asked for it, and what of that is on record."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import audit, disk_pin
from appliance.audit import Entry
from appliance.box import Box, open_box
from appliance.cli.command import main
from appliance.config import Config, StoreConfig
from appliance.errors import OperatorNeeded, Refused
from tests.told_disk import Root, told_disk

NOW = datetime(2026, 3, 3, 10, 0, tzinfo=UTC)
KEY = "cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv"
CHOOSE = Entry("pin:choose", disk_pin.SUBJECT, "owner")
REMOVE = Entry("pin:remove", disk_pin.SUBJECT, "owner")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    opened = open_box(Config(data=tmp_path / "box", store=StoreConfig(reserve_bytes=0)))
    yield opened
    opened.close()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    with told_disk(tmp_path / "told") as told:
        yield told


def rows(box: Box) -> list[tuple[str, str, str, object]]:
    with box.catalog.reading() as conn:
        found = [row for row in audit.export(conn) if str(row["action"]).startswith("pin:")]
    return [(row["action"], row["actor"], row["outcome"], json.loads(str(row["details"]))) for row in found]


@pytest.mark.parametrize("pin", ["482709", "000001", "482709154821"])
def test_digits_that_nobody_tries_first_are_a_pin(pin: str) -> None:
    assert disk_pin.checked(pin) == pin


@pytest.mark.parametrize(
    "pin",
    ["", "48270", "4827091548210", "48270a", "4827 09", "٤٨٢٧٠٩", "000000", "123456", "987654", "567890"],
)
def test_what_is_too_short_too_long_or_tried_first_is_none(pin: str) -> None:
    with pytest.raises(Refused) as refused:
        disk_pin.checked(pin)
    assert "6 to 12 digits" in refused.value.hint
    assert not pin or pin not in str(refused.value)


@given(st.sampled_from([KEY, KEY.upper(), KEY.replace("-", " "), KEY.replace("-", ""), f" {KEY}\n"]))
def test_a_key_of_the_disk_is_read_however_it_was_typed(typed: str) -> None:
    assert disk_pin.recovery_key(typed) == KEY


@pytest.mark.parametrize("typed", ["", KEY[:-1], KEY + "c", KEY.replace("c", "a", 1)])
def test_what_is_no_key_of_a_disk_is_refused_and_not_repeated(typed: str) -> None:
    with pytest.raises(Refused) as refused:
        disk_pin.recovery_key(typed)
    assert not typed or typed not in str(refused.value)


def test_a_machine_without_such_a_disk_says_so(box: Box, root: Root) -> None:
    with pytest.raises(Refused, match="no disk that could ask"):
        disk_pin.choose(box, CHOOSE, "482709", KEY, NOW)
    with pytest.raises(Refused, match="no disk that could ask"):
        disk_pin.remove(box, REMOVE, NOW)
    assert (root.asked(), rows(box)) == ([], [])


def test_root_is_asked_in_a_file_of_the_appliances_alone_and_no_row_holds_the_pin(
    box: Box, root: Root
) -> None:
    root.says("none")
    disk_pin.choose(box, CHOOSE, "482709", KEY, NOW)
    attempt, *lines = root.asked()
    assert re.fullmatch("[0-9a-f]{16}", attempt)
    assert lines == ["choose", KEY, "482709"]
    assert (root.folder / disk_pin.ASKED).stat().st_mode & 0o777 == 0o600
    assert rows(box) == [("pin:choose", "owner", "done", {})]
    assert {each.name for each in root.folder.iterdir()} == {"pin", disk_pin.ASKED, disk_pin.LOCK}


def test_one_change_at_a_time(box: Box, root: Root) -> None:
    root.says("none")
    disk_pin.choose(box, CHOOSE, "482709", KEY, NOW)
    with pytest.raises(Refused, match="just being changed"):
        disk_pin.remove(box, REMOVE, NOW)
    root.does("none", "running")
    with pytest.raises(Refused, match="just being changed"):
        disk_pin.remove(box, REMOVE, NOW)
    root.says("wanted", "0123456789abcdef", "done")
    disk_pin.remove(box, REMOVE, NOW)
    assert root.asked()[1:] == ["remove", "", ""]


@pytest.mark.parametrize("name", [f"{disk_pin.ASKED}.new", disk_pin.LOCK])
def test_where_root_cannot_be_asked_a_person_hears_it_and_no_row_says_that_it_was(
    box: Box, root: Root, name: str
) -> None:
    root.says("none")
    (root.folder / name).mkdir()
    with pytest.raises(OperatorNeeded, match="cannot be asked") as failed:
        disk_pin.choose(box, CHOOSE, "482709", KEY, NOW)
    assert failed.value.hint == "try again; if it stays, call support"
    assert root.asked() == []
    assert rows(box) == [("pin:choose", "owner", "failed", {})]


def test_of_two_who_ask_at_once_one_is_refused_and_the_other_asked_for(box: Box, root: Root) -> None:
    root.says("none")
    with ThreadPoolExecutor() as people:
        with box.catalog.transaction():  # nobody gets further than to where it is put on record
            asked = {
                people.submit(disk_pin.choose, box, CHOOSE, pin, KEY, NOW): pin
                for pin in ("482709", "731846")
            }
            done, waits = wait(asked, return_when=FIRST_COMPLETED)
            assert [type(each.exception()) for each in done] == [Refused]
            assert root.asked() == [], "what is not on record is not asked"
        (other,) = waits
        other.result()
    assert root.asked()[3] == asked[other]
    assert rows(box) == [("pin:choose", "owner", "done", {})]


def test_what_a_process_left_that_ended_while_it_asked_is_in_nobodys_way(box: Box, root: Root) -> None:
    root.says("none")
    (root.folder / f"{disk_pin.ASKED}.new").write_text("0123456789abcdef\nchoo")
    (root.folder / disk_pin.LOCK).touch()
    disk_pin.remove(box, REMOVE, NOW)
    assert root.asked()[1:] == ["remove", "", ""]
    assert not (root.folder / f"{disk_pin.ASKED}.new").exists()


def test_what_root_has_done_is_on_record_once(box: Box, root: Root) -> None:
    disk_pin.note(box, NOW)
    root.says("none")
    disk_pin.note(box, NOW)
    assert rows(box) == [], "that a disk opens by itself is no news"
    disk_pin.choose(box, CHOOSE, "482709", KEY, NOW)
    root.does("none", "key")
    disk_pin.note(box, NOW)
    disk_pin.choose(box, CHOOSE, "482709", KEY, NOW)
    root.does("none", "running")
    disk_pin.note(box, NOW)
    root.says("wanted", "0123456789abcdef", "done")
    for _ in range(2):
        disk_pin.note(box, NOW)
    changes = [(outcome, details) for action, _, outcome, details in rows(box) if action == "pin:change"]
    assert changes == [
        ("failed", {"state": "none", "why": "key"}),
        ("done", {"state": "wanted"}),
    ]
    root.says("wanted")
    disk_pin.note(box, NOW)
    assert len(rows(box)) == 4, "the next start says the same without an attempt"
    root.says("none")
    disk_pin.note(box, NOW)
    assert rows(box)[-1] == ("pin:change", "jobs", "done", {"state": "none"}), "whoever did it"


@pytest.mark.parametrize(
    "told", ["", "what\n", "wanted\nx done\n", "wanted\n0123456789abcdef what\n", "\xff"]
)
def test_what_root_does_not_say_is_not_read(root: Root, told: str) -> None:
    (root.folder / "pin").write_text(told, encoding="latin-1")
    assert disk_pin.seen() == (disk_pin.Seen(disk_pin.State.WANTED) if "wanted" in told else None)


def test_the_command_line_asks_and_says(
    box: Box, root: Root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    assert main(["pin", "status"]) == 0
    assert "no disk that could ask" in capsys.readouterr().out
    root.says("none")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n482709\n"))
    assert main(["pin", "choose"]) == 0
    assert root.asked()[1:] == ["choose", KEY, "482709"]
    root.does("wanted")
    said = capsys.readouterr()
    assert "482709" not in said.out + said.err
    assert main(["pin", "status"]) == 0
    assert "asks for a PIN at each start" in capsys.readouterr().out
    assert main(["pin", "status", "--json"]) == 0
    assert '"wanted"' in capsys.readouterr().out
    assert main(["pin", "remove"]) == 0
    assert root.asked()[1] == "remove"
    assert [action for action, *_ in rows(box)] == ["pin:choose", "pin:remove"]
