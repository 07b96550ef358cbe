"""A box does what its vendor has signed for it, now, within what a vendor may choose; and nothing else."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import __version__, audit, health, settings
from appliance.box import Box
from appliance.cli import main
from appliance.errors import Refused
from appliance.fleet import consent, heartbeat, pulse, taking, wanted
from appliance.fleet.taking import Came
from appliance.fleet.wanted import Wanted
from tests.boxes import box_in
from tests.fleet.outposts import Vendor, agree, choose, vendor
from tests.replication.cloud import cloud

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
VENDOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
BOX = "0123456789abcdef"
LINE = (
    VENDOR.public_key()
    .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    .decode()
)


def order(**others: Any) -> Wanted:
    values: dict[str, Any] = {
        "box": BOX,
        "number": 7,
        "until_utc": NOW + timedelta(days=30),
        "software": "",
        "settings": {"health.disk_days": 45},
    }
    return Wanted(**(values | others))


@pytest.mark.parametrize(
    ("version", "running", "named"),
    [
        ("0.2.0", "0.1.0", "0.2.0"),
        ("0.2.0", "0.2.0", "0.2.0"),
        ("0.2.0", "0.3.0", "0.3.0"),
        ("0.9.0", "0.10.0", "0.10.0"),
        ("0.2.0", "0.3.0rc1", "0.3.0"),
        ("0.2", "", "0.2"),
        ("0.2.0", "unknown", "0.2.0"),
    ],
)
def test_to_a_box_that_went_ahead_nothing_older_is_named(version: str, running: str, named: str) -> None:
    assert wanted.later(version, running) == named
    wanted.admit(wanted.checked(order(software=named)), box=BOX, after=1, running=running or "0.1.0", now=NOW)


def test_what_was_signed_is_what_is_opened() -> None:
    assert wanted.opened(wanted.signed(order(), VENDOR), VENDOR.public_key()) == order()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b" " * (wanted.MOST_BYTES + 1),
        wanted.signed(order(), STRANGER),
        wanted.signed(order(), VENDOR).replace(b"45", b"46"),
    ],
)
def test_what_the_vendor_has_not_signed_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        wanted.opened(data, VENDOR.public_key())


@pytest.mark.parametrize(
    "others",
    [
        {"settings": {"support.host": "evil.example"}},
        {"settings": {"access.allowed_addresses": []}},
        {"settings": {"backup.keep_days": 7}},
        {"settings": {"heartbeat.authority": LINE}},
        {"software": "0.2.0; reboot"},
        {"number": 0},
        {"box": "../x"},
    ],
)
def test_a_vendor_cannot_sign_more_than_may_be_wanted_nor_a_box_open_it(others: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        wanted.signed(order(**others), VENDOR)
    text = json.dumps(order(**others).document())
    data = json.dumps({"document": text, "signature": VENDOR.sign(wanted.PURPOSE + text.encode()).hex()})
    with pytest.raises(Refused):
        wanted.opened(data.encode(), VENDOR.public_key())


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"box": "f" * 16}, "another box"),
        ({"number": 6}, "older than what was taken"),
        ({"until_utc": NOW}, "does not hold now"),
        ({"until_utc": NOW + timedelta(days=40)}, "does not hold now"),
        ({"software": "0.0.9"}, "older than the one that runs"),
    ],
)
def test_what_is_not_for_this_box_now_is_not_admitted(others: dict[str, Any], said: str) -> None:
    wanted.admit(order(), box=BOX, after=6, running="0.1.0", now=NOW)
    with pytest.raises(Refused, match=said):
        wanted.admit(order(**others), box=BOX, after=6, running="0.1.0", now=NOW)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Vendor]:
    with vendor(tmp_path / "vendor") as found:
        (found.folder / "wanted").mkdir()
        yield found


@pytest.fixture
def box(tmp_path: Path, there: Vendor) -> Iterator[Box]:
    with box_in(tmp_path / "box") as opened:
        choose(opened, there.settings() | {"heartbeat.authority": LINE}, NOW)
        agree(opened, NOW)
        yield opened


def beat(box: Box, there: Vendor, minutes: int, **others: Any) -> taking.Standing:
    """One heartbeat, answered with an order if there are `others`; what stands afterwards."""
    name = pulse.document(box, NOW)["box"]
    if others:
        data = wanted.signed(order(box=name, **others), VENDOR)
        (there.folder / "wanted" / f"{name}.json").write_bytes(data)
    pulse.send(box, NOW + timedelta(minutes=minutes))
    with box.catalog.reading() as conn:
        return taking.standing(conn)


def limit(box: Box) -> int:
    with box.catalog.reading() as conn:
        return int(settings.get(conn, "health.disk_days"))


def rows(box: Box) -> list[str]:
    with box.catalog.reading() as conn:
        return [row["action"] for row in audit.export(conn) if row["action"].startswith("fleet:")]


def test_it_is_taken_with_the_answer_once_and_told_with_the_next_heartbeat(box: Box, there: Vendor) -> None:
    assert beat(box, there, 0, number=1, software="9.0.0").came is Came.TAKEN
    assert limit(box) == 45
    assert beat(box, there, 15).software == "9.0.0"
    assert pulse.document(box, NOW)["wanted"] == {"number": 1, "came": "taken"}
    assert rows(box) == ["fleet:take"]


def test_an_order_that_ran_out_is_said_and_lets_nobody_go(box: Box, there: Vendor) -> None:
    def said() -> list[str]:
        facts = health.gather(box, NOW + timedelta(days=61))
        return [each.code for each in health.judge(facts) if each.code == "order-lapsed"]

    found = beat(box, there, 0, number=1, software="9.0.0")
    assert datetime.fromisoformat(found.until_utc) == NOW + timedelta(days=30)
    assert said() == ["order-lapsed"]
    with box.catalog.reading() as conn:
        assert taking.held_to(conn) == "9.0.0"
    assert beat(box, there, 15, number=1, software="8.0.0").until_utc == found.until_utc, "refused"
    beat(box, there, 30, number=2)
    assert not said(), "no version is named any more"
    beat(box, there, 45, number=3, software="9.0.0")
    assert said()
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, {"heartbeat.authority": ""}, actor="marie", now=NOW)
        assert taking.held_to(tx) == ""
    assert not said(), "without the vendor's key no order holds"
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, {"heartbeat.authority": LINE}, actor="marie", now=NOW)
    assert said()
    with box.catalog.transaction() as tx:
        consent.withdraw(tx)
    assert not said()


def test_since_when_a_version_is_named_outlasts_the_orders_that_name_it_again(
    box: Box, there: Vendor
) -> None:
    named = beat(box, there, 0, number=1, software="9.0.0").named_utc
    assert datetime.fromisoformat(named) == NOW
    assert beat(box, there, 15).named_utc == named
    assert beat(box, there, 30, number=2, software="9.0.0").named_utc == named
    assert beat(box, there, 45, number=2, software="8.0.0").named_utc == named, "refused"
    assert beat(box, there, 60, number=3, software="").named_utc == ""
    assert beat(box, there, 75, number=4, software="9.0.0").named_utc > named


def test_of_an_image_it_is_the_images_version_that_was_named(
    box: Box, there: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is a build's: the software in it may be the same as in the one before."""
    monkeypatch.setattr(pulse, "machine", lambda: heartbeat.Machine("debian 13", "0.1.5", "6.12.0"))
    assert pulse.running() == "0.1.5"
    assert beat(box, there, 0, number=1, software="0.1.4").came is Came.REFUSED, "it would go back"
    assert beat(box, there, 15, number=2, software="0.1.6").software == "0.1.6"
    monkeypatch.setattr(pulse, "machine", lambda: heartbeat.Machine("debian 13", "none", "6.12.0"))
    assert pulse.running() == __version__


def test_what_is_refused_changes_nothing_and_is_said_once(box: Box, there: Vendor) -> None:
    beat(box, there, 0, number=5)
    beat(box, there, 15, number=5, settings={"health.disk_days": 50})
    found = beat(box, there, 30)
    assert (found.number, found.came, limit(box)) == (5, Came.REFUSED, 45)
    assert beat(box, there, 45, number=6, settings={"health.disk_days": -1}).came is Came.REFUSED
    assert beat(box, there, 60, number=6, settings={"health.nothing": 1}).came is Came.REFUSED
    assert limit(box) == 45
    assert rows(box) == ["fleet:take", "fleet:refuse", "fleet:refuse", "fleet:refuse"]


def test_the_page_of_a_proxy_changes_nothing_of_an_order_that_was_taken(box: Box, there: Vendor) -> None:
    beat(box, there, 0, number=3)
    name = pulse.document(box, NOW)["box"]
    path = there.folder / "wanted" / f"{name}.json"
    taken = path.read_bytes()
    for minutes in (15, 30, 45):
        path.write_bytes(b"<html>Sign in, it is %d" % minutes)
        found = beat(box, there, minutes)
        assert (found.number, found.came) == (3, Came.TAKEN)
    path.write_bytes(taken)
    assert beat(box, there, 60).came is Came.TAKEN
    assert rows(box) == ["fleet:take", "fleet:refuse"], "one row, however many pages"


def test_old_orders_that_take_turns_are_said_once_each_and_the_one_taken_stands_again(
    box: Box, there: Vendor
) -> None:
    beat(box, there, 0, number=5)
    for minutes in range(15, 90, 15):
        found = beat(box, there, minutes, number=1 + minutes // 15 % 2)
        assert (found.number, found.came) == (5, Came.REFUSED)
    found = beat(box, there, 90, number=5)
    assert (found.number, found.came) == (5, Came.TAKEN)
    assert rows(box) == ["fleet:take", "fleet:refuse", "fleet:refuse"]


def test_an_order_that_a_wrong_clock_refused_is_taken_once_the_clock_is_right(
    box: Box, there: Vendor
) -> None:
    behind = -60 * 24 * 40
    assert beat(box, there, behind, number=1).came is Came.REFUSED
    assert beat(box, there, behind + 15).came is Came.REFUSED
    found = beat(box, there, 0)
    assert (found.number, found.came, limit(box)) == (1, Came.TAKEN, 45)
    assert rows(box) == ["fleet:refuse", "fleet:take"]


def test_without_the_vendors_key_no_answer_counts(box: Box, there: Vendor) -> None:
    choose(box, {"heartbeat.authority": ""}, NOW)
    agree(box, NOW)
    assert beat(box, there, 0, number=1).came is Came.NOTHING
    assert limit(box) != 45


def test_the_version_that_was_named_is_what_an_updater_is_told_for_as_long_as_the_clinic_agrees(
    box: Box, there: Vendor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))

    def told() -> str:
        assert main(["heartbeat", "wanted"]) == 0
        return capsys.readouterr().out

    assert told() == "", "nothing was named"
    beat(box, there, 0, number=1, software="9.0.0")
    assert told() == "9.0.0\n"
    beat(box, there, 15, number=1, software="9.9.0")
    assert told() == "9.0.0\n", "an order that was refused holds to nothing"
    beat(box, there, 30, number=2, software="")
    assert told() == "", "whoever names none leaves it to the box"
    beat(box, there, 45, number=3, software="9.1.0")
    with box.catalog.transaction() as tx:
        consent.withdraw(tx)
    assert told() == ""
    agree(box, NOW)
    assert told() == "9.1.0\n"
    choose(box, {"heartbeat.authority": ""}, NOW)
    agree(box, NOW)
    assert told() == "", "nobody may name one any more"


def test_a_box_whose_clinic_has_not_agreed_to_new_terms_yet_takes_no_version(
    box: Box, there: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held_to() -> str:
        with box.catalog.reading() as conn:
            return taking.held_to(conn)

    with monkeypatch.context() as newer:
        newer.setattr(wanted, "CONFIGURABLE", "more.")
        assert held_to() == "", "no ring ever held it"
    beat(box, there, 0, number=1, software="9.0.0")
    monkeypatch.setattr(wanted, "CONFIGURABLE", "more.")
    assert held_to() == taking.NO_VERSION, "or it would take the newest, past its ring"
    agree(box, NOW)
    assert held_to() == "9.0.0"
    choose(box, {"heartbeat.address": "https://elsewhere.example/"}, NOW)
    assert held_to() == taking.NO_VERSION
    with box.catalog.transaction() as tx:
        consent.withdraw(tx)
    assert held_to() == "", "whoever withdraws lets it go"


def test_a_bucket_serves_as_well(box: Box, there: Vendor) -> None:
    with cloud() as running:
        bucket = running.new_bucket()
        values = {
            "heartbeat.address": f"s3://{bucket}/clinics",
            "heartbeat.endpoint_url": running.url,
            "heartbeat.access_key_id": "tests",
            "heartbeat.secret": "tests",
        }
        choose(box, values, NOW)
        agree(box, NOW)
        assert beat(box, there, 0).came is Came.NOTHING
        name = pulse.document(box, NOW)["box"]
        data = wanted.signed(order(box=name), VENDOR)
        running.client().put_object(Bucket=bucket, Key=f"clinics/wanted/{name}.json", Body=data)
        assert beat(box, there, 15).came is Came.TAKEN
