"""What became of versions is kept and in the audit, and a person starts the one that waits."""

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit
from appliance.box import Box, open_box
from appliance.catalog import processes
from appliance.catalog.known_clock import Running
from appliance.cli.command import main
from appliance.cli.updates import LOOKED
from appliance.config import Config, StoreConfig
from appliance.health import gathering, judge, kernel_clock, looks
from appliance.health.checks.updates import UNTOLD
from appliance.health.looks import Looked
from appliance.updates import noting, restarting
from appliance.updates.history import Outcome, Seen
from tests.updates.image import Says
from tests.updates.image import image as an_image

NOW = datetime.now(UTC)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "box"))
    opened = open_box(Config(data=tmp_path / "box", store=StoreConfig(reserve_bytes=0)))
    yield opened
    opened.close()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Says]:
    """Lets the image say which version runs, waits and was left."""
    with an_image(tmp_path / "told") as says:
        yield says


def rows(box: Box) -> list[tuple[str, str]]:
    with box.catalog.reading() as conn:
        found = [row for row in audit.export(conn) if str(row["action"]).startswith("update:")]
    return [(str(row["action"]), str(row["subject"])) for row in found]


def test_each_change_is_kept_once_and_has_its_row(box: Box, image: Says) -> None:
    image("1.0.0")
    noting.note(box, NOW)
    noting.note(box, NOW)
    image("1.0.0", waiting="1.1.0\n")
    noting.note(box, NOW)
    image("1.0.0", left="1.1.0\n")
    noting.note(box, NOW)
    noting.note(box, NOW)
    with box.catalog.reading() as conn:
        latest, first = noting.history(conn)
    assert (latest.version, latest.outcome, latest.came_utc) == ("1.1.0", Outcome.LEFT, NOW)
    assert (first.version, first.outcome, first.came_utc) == ("1.0.0", Outcome.STARTED, None)
    assert rows(box) == [("update:start", "1.0.0"), ("update:arrive", "1.1.0"), ("update:return", "1.1.0")]
    image("1.0.0", left="1.1.0\n", chosen="1.0.0\n")
    noting.note(box, NOW)
    noting.note(box, NOW)
    assert rows(box)[3:] == [("update:choose", "1.0.0")]


def test_a_system_that_is_no_image_has_no_versions_and_one_that_has_not_said_yet_loses_none(
    box: Box, image: Says, tmp_path: Path
) -> None:
    assert noting.seen() is None
    noting.note(box, NOW)
    assert rows(box) == []
    image("1.0.0", waiting="1.1.0\n")
    noting.note(box, NOW)
    (tmp_path / "told" / gathering.WAITING).unlink()
    noting.note(box, NOW)
    with box.catalog.reading() as conn:
        assert noting.history(conn)[0].outcome is Outcome.WAITS


def test_what_is_no_version_is_told_nowhere(image: Says) -> None:
    image("1.0.0", waiting="../../etc\n", left="<b>\n", chosen="<b>\n")
    assert noting.seen() == Seen("1.0.0")


def test_a_person_starts_what_waits_unless_a_machine_is_sending(
    box: Box, image: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = box.config.data / restarting.ASKED
    assert main(["update", "restart"]) == 65
    assert "no version waits" in capsys.readouterr().err
    image("1.0.0", waiting="1.1.0\n")
    for connections in (1, 0):
        with box.catalog.transaction() as tx:
            now = datetime.now(UTC)
            processes.beat(tx, "dicom-0", os.getpid(), now, now, {"open": connections})
        assert main(["update", "restart"]) == (65 if connections else 0)
        assert asked.exists() != bool(connections)
    said = capsys.readouterr()
    assert "images are being received" in said.err
    assert "version 1.1.0" in said.out
    assert rows(box) == [("update:restart", "1.1.0")], "one that was refused was not begun"


def test_nobody_is_told_that_the_machine_starts_again_while_another_version_is_written(
    box: Box, image: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image would not do it, and say so to its journal alone."""
    image("1.0.0", waiting="1.1.0\n")
    fetching = gathering.UPDATES / noting.FETCHING
    for began in (datetime.now(UTC), datetime.now(UTC) - noting.LONGEST_FETCHING):
        fetching.write_text(f"{int(began.timestamp())}\n1.2.0 41 310000000\n")
        is_written = noting.fetching(datetime.now(UTC)) is not None
        assert main(["update", "restart"]) == (65 if is_written else 0)
        assert (box.config.data / restarting.ASKED).exists() != is_written
    assert "a version is being looked for and fetched" in capsys.readouterr().err
    assert rows(box) == [("update:restart", "1.1.0")], "what was left behind by a cut holds nothing"


def test_what_looks_for_versions_is_heard_where_nothing_says_which_there_are(
    box: Box, image: Says, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where the partition that the machine starts from can't be read: each night's look fails, too."""

    def codes(on_for: timedelta) -> list[str]:
        monkeypatch.setattr(kernel_clock, "running", lambda: Running("a", on_for))
        return [each.code for each in judge(gathering.gather(box, NOW)) if each.code.startswith("update")]

    image("1.0.0", waiting="1.1.0\n")
    assert "updates-unseen" not in codes(UNTOLD)
    for name in (gathering.WAITING, gathering.LEFT, gathering.CHOSEN):
        (gathering.UPDATES / name).unlink()
    assert codes(UNTOLD - timedelta(seconds=1)) == []
    assert codes(UNTOLD) == ["updates-unseen"]
    noting.note(box, NOW - timedelta(days=15))
    (gathering.UPDATES / looks.FILE).write_text(f"{int(NOW.timestamp())} unfinished\n")
    noting.note(box, NOW)
    with box.catalog.reading() as conn:
        looked = noting.looked(conn)
    assert looked is not None
    assert (looked.came, looked.unseen_days(NOW)) == (looks.Came.UNFINISHED, 15)
    assert gathering.gather(box, NOW).looked == looked
    assert main(["update", "status"]) == 0
    said = capsys.readouterr().out
    assert "Version 1.0.0 runs." in said and "is no image" not in said
    assert "nothing could be taken" in said


def test_the_listings_say_what_there_is(box: Box, image: Says, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["update", "status"]) == 0
    assert "is no image" in capsys.readouterr().out
    image("1.0.0", waiting="1.1.0\n", left="0.9.9\n")
    noting.note(box, NOW)
    assert main(["update", "status"]) == 0
    said = capsys.readouterr().out
    assert "Version 1.0.0 runs." in said
    assert "Version 1.1.0 waits" in said
    assert "because the clock of the box is in doubt" in said
    assert main(["update", "status", "--json"]) == 0
    assert '"held": "clock"' in capsys.readouterr().out
    image("1.0.0", chosen="1.0.0\n")
    assert main(["update", "status"]) == 0
    assert "Version 1.0.0 was chosen at the machine for every start" in capsys.readouterr().out
    image("1.0.0", waiting="1.1.0\n", left="0.9.9\n")
    assert main(["update", "history"]) == 0
    listed = capsys.readouterr().out
    assert [listed.index(version) for version in ("1.1.0", "1.0.0")] == sorted(
        listed.index(version) for version in ("1.1.0", "1.0.0")
    )


def test_the_status_says_how_far_a_version_is_where_that_is_known(
    box: Box, image: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    image("1.0.0")
    fetching, began = gathering.UPDATES / noting.FETCHING, f"{int(datetime.now(UTC).timestamp())}\n"
    fetching.write_text(began)
    assert main(["update", "status"]) == 0
    assert "Another is being looked for and fetched since" in capsys.readouterr().out
    fetching.write_text(f"{began}1.1.0 41 310000000\n")
    assert main(["update", "status"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"Version 1\.1\.0 is being fetched since \d\d:\d\d UTC: 41% of 310\.0 MB\.", said), said
    assert main(["update", "status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    figures = [told[f"fetching_{each}"] for each in ("version", "percent", "size_bytes")]
    assert figures == ["1.1.0", 41, 310_000_000]


def test_what_came_of_each_look_is_counted_until_one_is_well(
    box: Box, image: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(night: int, word: str) -> Looked:
        at = NOW - timedelta(days=30 - night)
        (gathering.UPDATES / looks.FILE).write_text(f"{int(at.timestamp())} {word}\n")
        for minutes in (1, 2):  # the duty runs each minute, and one look is one
            noting.note(box, at + timedelta(minutes=minutes))
        with box.catalog.reading() as conn:
            found = noting.looked(conn)
        assert found is not None
        return found

    with box.catalog.reading() as conn:
        assert noting.looked(conn) is None
    image("1.0.0")
    noting.note(box, NOW - timedelta(days=30))
    assert told(1, "unreachable").well_utc == NOW - timedelta(days=30), "since it began to be noted"
    assert [told(night, "refused").refused for night in (2, 3, 4)] == [1, 2, 3]
    assert told(5, "unreachable").refused == 3
    assert told(5, "unreachable").failed == 5
    assert told(5, "what").came is looks.Came.UNREACHABLE, "nobody knows that word"
    with box.catalog.reading() as conn:
        facts = gathering.gather(box, NOW)
    assert [each.code for each in judge(facts)].count("updates-unseen")
    assert facts.runs_for, "the kernel says it here"
    assert main(["update", "status"]) == 0
    assert "no list of versions could be had at its address" in capsys.readouterr().out
    well = told(6, "none")
    assert (well.refused, well.failed) == (0, 0)
    assert told(29, "taken").came is looks.Came.TAKEN
    assert main(["update", "status", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["looked_came"] == "taken"
    assert datetime.fromisoformat(said["looked_utc"]) < NOW
    assert set(looks.Came) == set(LOOKED)
