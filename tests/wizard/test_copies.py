"""Where the copy goes, of every kind: kept, tried, fed by a rule only when it works, and the same again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import audit
from appliance.box import Box
from appliance.catalog import destinations, rules
from appliance.catalog.instances import InstanceRow
from appliance.errors import OperatorNeeded
from appliance.model import DestinationSettings
from appliance.wizard import answers, copies, headless, places
from appliance.wizard.steps import Step
from tests.boxes import box_in
from tests.replication.file_servers import proftpd
from tests.replication.shares import PASSWORD, SHARE, samba


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "box") as opened:
        yield opened


def no_picture(_: InstanceRow) -> bytes:
    raise AssertionError("nothing is drawn here")


def set_up(box: Box, text: str, secrets: dict[str, str]) -> headless.Outcome:
    """What the step of the copy came to, with the answers in `text`."""
    found = answers.parse(text)
    outcomes = headless.run(box, found, lambda _, path: secrets[path], no_picture, "tests")
    return next(each for each in outcomes if each.step == Step.STORAGE)


def kept(box: Box) -> DestinationSettings:
    with box.catalog.reading() as conn:
        (found,) = destinations.destinations(conn)
    return found


def is_fed(box: Box) -> bool:
    with box.catalog.reading() as conn:
        return [each.destination_id for each in rules.rules(conn)] == [kept(box).id]


def actions(box: Box) -> list[str]:
    with box.catalog.reading() as conn:
        return [row["action"] for row in audit.export(conn)]


def test_a_disk_is_marked_and_fed_and_the_same_again_changes_nothing(box: Box, tmp_path: Path) -> None:
    text = f'[disk]\npath = "{tmp_path / "usb"}"\n'
    missing = set_up(box, text, {})
    assert (missing.ending, "is not there" in missing.words) == (headless.Ending.FAILED, True)
    with box.catalog.reading() as conn:
        assert rules.rules(conn) == ()
    (tmp_path / "usb").mkdir()
    assert set_up(box, text, {}).ending is headless.Ending.DONE
    assert kept(box).options["mark"]
    assert is_fed(box)
    before = actions(box)
    assert set_up(box, text, {}).ending is headless.Ending.KEPT
    assert actions(box) == before


def test_a_file_server_is_known_by_the_fingerprint_of_the_answers(box: Box, tmp_path: Path) -> None:
    with proftpd(tmp_path / "nas") as server:
        shown = str(server.trusted(server.folder).options["host_key"])

        def text(fingerprint: str) -> str:
            return (
                f'[server]\naddress = "127.0.0.1"\nport = {server.port}\nfolder = "{server.folder}"\n'
                f'user = "{server.user}"\npassword_file = "p"\nfingerprint = "{fingerprint}"\n'
            )

        wrong = set_up(box, text("SHA256:AAAA"), {"p": server.secret})
        assert (wrong.ending, "not the one that was typed" in wrong.words) == (headless.Ending.FAILED, True)
        assert "host_key" not in kept(box).options
        assert set_up(box, text(shown), {"p": server.secret}).ending is headless.Ending.DONE
        assert kept(box).options["host_key"] == shown
        assert is_fed(box)
        assert set_up(box, text(shown), {"p": server.secret}).ending is headless.Ending.KEPT
        assert "destination:trust" in actions(box)
        other = set_up(box, text("SHA256:AAAA"), {"p": server.secret})
        assert other.ending is headless.Ending.FAILED, "another key is not passed over"


def test_a_share_is_let_in_and_what_it_calls_itself_is_kept(box: Box, tmp_path: Path) -> None:
    with samba(tmp_path / "nas") as server:
        text = (
            f'[share]\naddress = "127.0.0.1"\nport = {server.port}\nshare = "{SHARE}"\n'
            f'user = "{server.user}"\npassword_file = "p"\n'
        )
        closed = set_up(box, text, {"p": "another"})
        assert (closed.ending, "does not let" in closed.words) == (headless.Ending.FAILED, True)
        assert set_up(box, text, {"p": PASSWORD}).ending is headless.Ending.DONE
        assert kept(box).options["server_name"] == "testnas"
        assert is_fed(box)
        assert set_up(box, text, {"p": PASSWORD}).ending is headless.Ending.KEPT
        assert PASSWORD not in str([dict(row) for row in _rows(box)])


def test_a_copy_of_another_kind_stands_beside_the_first(box: Box, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    set_up(box, f'[disk]\npath = "{tmp_path / "usb"}"\n', {})
    first = kept(box)
    cloud = (
        '[cloud]\nbucket = "clinic"\nregion = "ca-central-1"\naccess_key_id = "AK"\nsecret_file = "s"\n'
        'endpoint_url = "http://127.0.0.1:9"\ncanadian = true\n'
    )
    assert set_up(box, cloud, {"s": "secret"}).ending is headless.Ending.FAILED
    with box.catalog.reading() as conn:
        found = {each.kind: each for each in destinations.destinations(conn)}
        assert found["vault"] == first
        assert found["s3"].options["bucket"] == "clinic"
        assert [each.destination_id for each in rules.rules(conn)] == [first.id]


def test_a_secret_is_for_one_place_and_what_the_place_has_shown_too(box: Box, tmp_path: Path) -> None:
    with samba(tmp_path / "nas") as server:
        wanted = places.share(
            address="127.0.0.1",
            port=server.port,
            share=SHARE,
            folder="",
            user=server.user,
            domain="",
            secret=PASSWORD,
        )
        with keeping(box, wanted) as place:
            assert copies.run(box, place, "tests").passed
        with keeping(box, replace(wanted, secret="")) as again:
            assert (again.secret, again.options["server_name"]) == (PASSWORD, "testnas")
        elsewhere = replace(wanted, options={**wanted.options, "address": "127.0.0.2"}, secret="")
        with pytest.raises(OperatorNeeded, match="has no password"), keeping(box, elsewhere):
            raise AssertionError("it was kept")
        with keeping(box, wanted) as typed:
            assert "server_name" not in typed.options, "whoever types the password may have another server"
            assert copies.run(box, typed, "tests").passed
        assert kept(box).options["server_name"] == "testnas"


@contextmanager
def keeping(box: Box, wanted: DestinationSettings) -> Iterator[DestinationSettings]:
    with box.catalog.transaction() as tx:
        place = copies.keep(tx, box, wanted, "", "tests", datetime.now(UTC))
    yield place


def _rows(box: Box) -> list[dict[str, object]]:
    with box.catalog.reading() as conn:
        return list(audit.export(conn))
