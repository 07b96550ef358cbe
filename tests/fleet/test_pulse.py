"""Heartbeats leave after somebody has agreed and not before, say nothing of a patient, and disturb nothing."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, health, settings
from appliance.box import Box
from appliance.catalog import devices, identifying
from appliance.catalog import settings as kept_settings
from appliance.cli import main
from appliance.errors import NotAuthorised, OperatorNeeded, Refused, Transient
from appliance.fleet import consent, heartbeat, known, pulse, vocabulary, wanted
from appliance.fleet.pulse import Trouble
from appliance.model import AETitle, Device
from appliance.notify.kinds import kind_of
from tests.boxes import box_in
from tests.fleet.outposts import Vendor, agree, choose, said_in, vendor
from tests.notify.mail_room import authority
from tests.replication.cloud import Cloud, cloud
from tests.synthetic.patients import FRANCOIS, HELENE, ZOE
from tests.web.conftest import add_owner, fill

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
AUTHORITY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
SECRETS = ("a-secret-of-the-bucket", "a-secret-of-the-mail")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A clinic's box, with images, people, machines and secrets."""
    with box_in(tmp_path_factory.mktemp("box")) as opened:
        add_owner(opened)
        fill(opened)
        values = {
            "clinic.name": "Clinique du Lac",
            "clinic.privacy_officer_name": "Odile Roy",
            "mail.password": SECRETS[1],
            "heartbeat.secret": SECRETS[0],
        }
        choose(opened, values, NOW)
        with opened.catalog.transaction() as tx:
            devices.add_device(tx, Device(AETitle("PANO1"), "192.168.1.40"), NOW)
        yield opened


@pytest.fixture(scope="module")
def the_vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    with vendor(tmp_path_factory.mktemp("vendor")) as found:
        yield found


@pytest.fixture
def outpost(box: Box, the_vendor: Vendor) -> Iterator[Vendor]:
    """The vendor as the settings of the box name it; nobody has agreed, and nothing has been sent yet."""
    choose(box, the_vendor.settings(), NOW)
    the_vendor.came.clear()
    the_vendor.status = 200
    yield the_vendor
    with box.catalog.transaction() as tx:
        consent.withdraw(tx)
        kept_settings.remove(tx, pulse.KEPT)


def rows(box: Box) -> list[str]:
    with box.catalog.reading() as conn:
        return [row["action"] for row in audit.export(conn) if row["action"].startswith("heartbeat:")]


def state(box: Box) -> pulse.State:
    with box.catalog.reading() as conn:
        return pulse.state(conn)


def is_due_again(box: Box) -> bool:
    """Whether somebody has agreed, but to something else."""
    with box.catalog.reading() as conn:
        assert consent.given(conn) is not None
        return consent.standing(conn) is None


def test_nothing_leaves_before_somebody_has_agreed(box: Box, outpost: Vendor) -> None:
    pulse.beat(box, NOW)
    with pytest.raises(NotAuthorised):
        pulse.send(box, NOW)
    assert outpost.came == []
    agree(box, NOW)
    pulse.beat(box, NOW)
    assert len(outpost.came) == 1


def test_what_leaves_is_the_very_document_that_is_shown_signed_by_the_box(box: Box, outpost: Vendor) -> None:
    shown = pulse.document(box, NOW)
    agree(box, NOW)
    pulse.send(box, NOW)
    found = heartbeat.received(outpost.came[0])
    assert found.document == shown
    with box.catalog.transaction() as tx:
        assert found.key == consent.public(consent.key_of(tx, box, NOW))


def test_nothing_of_a_patient_a_person_a_machine_or_a_secret_is_in_what_leaves(
    box: Box, outpost: Vendor
) -> None:
    agree(box, NOW)
    pulse.send(box, NOW)
    text, document = said_in(outpost.came[0]), json.loads(outpost.came[0])["document"]
    with box.catalog.reading() as conn:
        markers = known.markers(conn, box)
        texts = {text for _, text in identifying.identifying(conn)}
    assert {each.name for each in (HELENE, FRANCOIS, ZOE)} <= texts
    assert markers.cut(document) == (document, {})
    for marker in (*texts, *SECRETS, "Clinique du Lac", "Odile", "PANO1", "192.168", "Marie"):
        assert marker.casefold() not in text.casefold(), marker


def test_withdrawn_nothing_leaves_any_more_whatever_is_due(box: Box, outpost: Vendor) -> None:
    agree(box, NOW)
    with box.catalog.transaction() as tx:
        assert consent.withdraw(tx)
        assert not consent.withdraw(tx)
    pulse.beat(box, NOW + timedelta(days=1))
    assert outpost.came == []


def test_another_address_asks_for_another_agreement(box: Box, outpost: Vendor) -> None:
    agree(box, NOW)
    choose(box, {"heartbeat.address": outpost.address + "/elsewhere"}, NOW)
    pulse.beat(box, NOW)
    assert outpost.came == []
    choose(box, {"heartbeat.address": outpost.address}, NOW)
    pulse.beat(box, NOW)
    assert len(outpost.came) == 1


def test_who_agrees_must_have_seen_what_holds_now(box: Box, outpost: Vendor) -> None:
    with box.catalog.reading() as conn:
        seen = consent.terms(conn)
    choose(box, {"heartbeat.address": outpost.address + "/elsewhere"}, NOW)
    with box.catalog.transaction() as tx, pytest.raises(Refused):
        consent.agree(tx, seen, "tests", NOW)


def older(*fields: str, kinds: tuple[str, ...] = ()) -> dict[str, vocabulary.Allowed]:
    """What a version could say that has not got those fields and kinds of problems yet."""
    known, severities = vocabulary.FIELDS["problems"].words
    fewer = (tuple(each for each in known if each not in kinds), severities)
    problems = replace(vocabulary.FIELDS["problems"], words=fewer)
    return {
        name: problems if name == "problems" else allowed
        for name, allowed in vocabulary.FIELDS.items()
        if name not in fields
    }


def test_a_version_with_more_words_goes_on_under_what_was_agreed_to_and_says_no_more(
    box: Box, outpost: Vendor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    with box.catalog.reading() as conn:
        kinds = tuple({kind_of(each.code) for each in health.status(box, NOW).problems} - {"other"})
        assert kinds, "something is wrong with this box"
        now_there = consent.terms(conn)
    with monkeypatch.context() as before:
        before.setattr(vocabulary, "FIELDS", older("left", kinds=kinds))
        agree(box, NOW)
    pulse.beat(box, NOW)
    told = json.loads(json.loads(outpost.came[0])["document"])
    assert "left" not in told
    assert {each["kind"] for each in told["problems"]} == {"other"}
    assert heartbeat.received(outpost.came[0]).document["left"] == []
    assert told == pulse.document(box, NOW), "what is shown is what is sent"
    assert main(["heartbeat", "status"]) == 0
    assert "left out until somebody agrees to it:\n  problems: " in capsys.readouterr().out
    with box.catalog.transaction() as tx:
        assert set(consent.more(tx)) == {"left", "problems"}
        assert set(consent.more(tx)["problems"]) == set(kinds)
    assert main(["heartbeat", "show"]) == 0
    shown = capsys.readouterr()
    assert "left" not in json.loads(shown.out)
    assert all(each in shown.err for each in ("left out until somebody agrees", "  left: ", *kinds))
    assert main(["heartbeat", "agree"]) != 0, "nobody agrees to what was never shown"
    assert "agree --more" in capsys.readouterr().err
    with box.catalog.transaction() as tx:
        assert set(consent.more(tx)) == {"left", "problems"}
        consent.agree(tx, now_there, "tests", NOW)
        assert consent.more(tx) == {}
    assert "left" in pulse.document(box, NOW)


def test_a_version_with_fewer_words_goes_on_as_well(
    box: Box, outpost: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_there = vocabulary.FIELDS
    known, severities = now_there["problems"].words
    newer = replace(now_there["problems"], words=((*known, "of-tomorrow"), severities))
    with monkeypatch.context() as after:
        after.setattr(vocabulary, "FIELDS", {**now_there, "problems": newer, "tomorrow": now_there["left"]})
        agree(box, NOW)
    with box.catalog.reading() as conn:
        kept = consent.given(conn)
        assert kept is not None
        assert "tomorrow" in kept.words, "more was agreed to than this version can say"
        assert consent.more(conn) == {}
    assert not is_due_again(box)
    pulse.beat(box, NOW)
    assert len(outpost.came) == 1
    told = json.loads(json.loads(outpost.came[0])["document"])
    assert "tomorrow" not in told
    assert told == pulse.document(box, NOW)


def test_what_was_not_in_the_words_that_were_shown_cannot_be_agreed_to(
    box: Box, outpost: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before, box.catalog.reading() as conn:
        before.setattr(vocabulary, "FIELDS", older("left"))
        seen = consent.terms(conn)
    with box.catalog.transaction() as tx, pytest.raises(Refused):
        consent.agree(tx, seen, "tests", NOW)


def test_a_vendor_who_may_choose_more_asks_for_another_agreement(
    box: Box, outpost: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(box, NOW)
    monkeypatch.setattr(wanted, "CONFIGURABLE", "")
    assert is_due_again(box)


def test_that_none_is_sent_any_more_is_said_until_somebody_chooses(box: Box, outpost: Vendor) -> None:
    def is_said() -> bool:
        return "heartbeats-stopped" in {each.code for each in health.status(box, NOW).problems}

    pulse.beat(box, NOW)
    assert not is_said(), "nobody had ever agreed"
    agree(box, NOW)
    pulse.beat(box, NOW)
    assert not is_said()
    for settle in ("agree", "withdraw", "undo"):
        choose(box, {"heartbeat.address": outpost.address + "/elsewhere"}, NOW)
        pulse.beat(box, NOW)
        assert is_said()
        if settle == "agree":
            agree(box, NOW)
            assert not is_said()
        choose(box, {"heartbeat.address": outpost.address}, NOW)
        if settle == "withdraw":
            with box.catalog.transaction() as tx:
                consent.withdraw(tx)
            assert not is_said()
            agree(box, NOW)
        pulse.beat(box, NOW)
        assert is_said() is (settle == "agree")
        if settle == "agree":
            agree(box, NOW)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint_url", "https://s3.elsewhere.example"),
        ("region", "us-east-1"),
        ("ca", ""),
        ("on_lan", False),
        ("authority", AUTHORITY),
    ],
)
def test_another_place_or_another_voice_asks_for_another_agreement(
    box: Box, outpost: Vendor, name: str, value: object
) -> None:
    agree(box, NOW)
    with box.catalog.reading() as conn:
        before = settings.get(conn, f"heartbeat.{name}")
    choose(box, {f"heartbeat.{name}": value}, NOW)
    assert is_due_again(box)
    choose(box, {f"heartbeat.{name}": before}, NOW)
    assert not is_due_again(box), "what was agreed to holds again"


def test_one_every_quarter_of_an_hour(box: Box, outpost: Vendor) -> None:
    agree(box, NOW)
    for minutes in range(0, 60, 1):
        pulse.beat(box, NOW + timedelta(minutes=minutes))
    assert 4 <= len(outpost.came) <= 5
    assert rows(box)[-1:] == ["heartbeat:send"]


def test_what_is_not_taken_is_tried_again_later_and_later_even_after_a_restart(
    box: Box, outpost: Vendor
) -> None:
    agree(box, NOW)
    outpost.status = 503
    before = len(rows(box))
    for minutes in range(60):
        pulse.beat(box, NOW + timedelta(minutes=minutes))
    tries = len(outpost.came)
    assert 5 <= tries <= 9
    assert (state(box).failures, state(box).trouble, state(box).taken_utc) == (tries, Trouble.AWAY, None)
    outpost.status = 200
    pulse.beat(box, NOW + timedelta(hours=2))
    assert state(box).failures == 0
    assert rows(box)[before:] == ["heartbeat:fail", "heartbeat:send"], (
        "a row for each change, not for each try"
    )


def test_a_clock_that_was_set_back_does_not_silence_the_box(box: Box, outpost: Vendor) -> None:
    agree(box, NOW)
    pulse.beat(box, NOW + timedelta(days=400))
    pulse.beat(box, NOW)
    assert len(outpost.came) == 2


@pytest.mark.parametrize(
    ("status", "trouble"), [(401, Trouble.REFUSED), (302, Trouble.REFUSED), (429, Trouble.AWAY)]
)
def test_it_is_told_whether_a_person_must_look(
    box: Box, outpost: Vendor, status: int, trouble: Trouble
) -> None:
    agree(box, NOW)
    outpost.status = status
    pulse.beat(box, NOW)
    assert state(box).trouble is trouble


def test_who_cannot_prove_to_be_the_vendor_gets_nothing(box: Box, outpost: Vendor, tmp_path: Path) -> None:
    choose(box, {"heartbeat.ca": authority(tmp_path).ca}, NOW)
    agree(box, NOW)
    with pytest.raises(OperatorNeeded, match="cannot be trusted"):
        pulse.send(box, NOW)
    assert outpost.came == []


def test_an_address_within_the_clinic_must_be_marked_as_such(box: Box, outpost: Vendor) -> None:
    choose(box, {"heartbeat.on_lan": False}, NOW)
    agree(box, NOW)
    with pytest.raises(OperatorNeeded, match="may not go to the address"):
        pulse.send(box, NOW)
    assert outpost.came == []


def test_nobody_there_is_no_problem_of_the_box(box: Box, outpost: Vendor, free_port) -> None:
    choose(box, {"heartbeat.address": f"https://localhost:{free_port()}/"}, NOW)
    agree(box, NOW)
    pulse.beat(box, NOW)
    assert state(box).trouble is Trouble.AWAY
    with pytest.raises(Transient):
        pulse.send(box, NOW)


@pytest.mark.parametrize(
    "address",
    ["http://fleet.example.ca/", "https://a:b@fleet.example.ca/", "s3://B", "s3://bucket/../x y", "ftp://x"],
)
def test_what_is_no_outpost_cannot_be_entered(box: Box, address: str) -> None:
    with pytest.raises(settings.NotAccepted):
        choose(box, {"heartbeat.address": address}, NOW)


@pytest.mark.parametrize(
    "address", ["s3.example.ca", "ftp://s3.example.ca", "https://a:b@s3.example.ca", "http://s3.example.ca"]
)
def test_no_storage_can_be_entered_that_is_none_or_takes_heartbeats_in_the_clear(
    box: Box, address: str
) -> None:
    with pytest.raises(settings.NotAccepted):
        choose(box, {"heartbeat.on_lan": False, "heartbeat.endpoint_url": address}, NOW)


@pytest.mark.parametrize(
    ("address", "on_lan"),
    [
        ("https://127.0.0.1:9", False),
        ("https://169.254.169.254", False),
        ("https://169.254.169.254", True),
        ("https://8.8.8.8", True),
    ],
)
def test_storage_is_only_where_a_webhook_may_be(
    box: Box, outpost: Vendor, address: str, on_lan: bool
) -> None:
    values = {
        "heartbeat.address": "s3://bucket/clinics",
        "heartbeat.endpoint_url": address,
        "heartbeat.on_lan": on_lan,
        "heartbeat.access_key_id": "tests",
    }
    choose(box, values, NOW)
    agree(box, NOW)
    with pytest.raises(OperatorNeeded, match="may not go to the address"):
        pulse.send(box, NOW)
    choose(box, {"heartbeat.endpoint_url": ""}, NOW)


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


def test_a_bucket_has_the_last_heartbeat_of_each_box(box: Box, outpost: Vendor, the_cloud: Cloud) -> None:
    bucket = the_cloud.new_bucket()
    values = {
        "heartbeat.address": f"s3://{bucket}/clinics",
        "heartbeat.endpoint_url": the_cloud.url,
        "heartbeat.access_key_id": "tests",
    }
    choose(box, values, NOW)
    agree(box, NOW)
    for minutes in (0, 20):
        pulse.send(box, NOW + timedelta(minutes=minutes))
    (key,) = the_cloud.keys(bucket)
    found = heartbeat.received(the_cloud.get(bucket, key))
    assert key == f"clinics/boxes/{found.box}.json"
    assert found.sent_utc == NOW + timedelta(minutes=20)
