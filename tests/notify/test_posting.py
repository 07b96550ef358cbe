"""Webhooks: signed so that a receiver can tell, posted only where they may be, over HTTPS that is checked."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import settings
from appliance.box import Box
from appliance.catalog import outbox, webhooks
from appliance.catalog.webhooks import Webhook
from appliance.errors import ApplianceError, OperatorNeeded, Refused, Transient
from appliance.notify import hooks, posting, signing
from appliance.notify.hooks import News
from appliance.notify.kinds import Severity
from appliance.notify.posting import Place, check_address, place_of, post
from tests.notify.conftest import NOW
from tests.notify.mail_room import authority
from tests.notify.receiver import receiver

NEWS = News("raised", 0, "destination-down", Severity.WARNING, "delivery", "cloud & <more>")
INSIDE = ("127.0.0.1", "127.8.9.1", "::1", "169.254.1.1", "fe80::1", "10.0.0.1", "172.20.1.1", "192.168.1.40",
          "fd12::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "100.64.0.1")  # fmt: skip
NEVER = (
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fd00:ec2::254",
)


# --- signing ---------------------------------------------------------------------------------------------------------


def test_the_signature_is_the_one_that_is_documented() -> None:
    sent = signing.headers("whsec_x", "d1", b'{"a":1}', datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert sent["X-Appliance-Timestamp"] == "1772366400"
    by_hand = hmac.new(b"whsec_x", b'1772366400.{"a":1}', hashlib.sha256).hexdigest()
    assert sent["X-Appliance-Signature"] == f"v1={by_hand}"
    assert sent["X-Appliance-Delivery"] == "d1"


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(-2000, 2000))
def test_only_the_same_body_in_time_with_the_same_secret_is_believed(
    one: bytes, other: bytes, late: int
) -> None:
    sent = signing.headers("whsec_x", "d1", one, NOW)
    stamp, signed = sent["X-Appliance-Timestamp"], sent["X-Appliance-Signature"]
    moment = NOW + timedelta(seconds=late)
    assert signing.check("whsec_x", stamp, signed, other, moment) == (
        one == other and abs(late) <= signing.REPLAY_SECONDS
    )
    assert not signing.check("whsec_y", stamp, signed, one, NOW)
    assert not signing.check("whsec_x", str(int(stamp) + 1), signed, one, NOW)
    assert not signing.check("whsec_x", "now", signed, one, NOW)


def test_each_webhook_has_a_secret_of_its_own() -> None:
    assert len({signing.new_secret() for _ in range(100)}) == 100
    assert len(signing.new_secret()) > 40


# --- where it may go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*INSIDE, *NEVER])
def test_an_address_inside_is_refused_unless_it_is_marked(text: str) -> None:
    with pytest.raises(OperatorNeeded):
        check_address(ipaddress.ip_address(text), on_lan=False)


@pytest.mark.parametrize("text", [each for each in INSIDE if each != "100.64.0.1"])
def test_an_owner_may_mark_a_webhook_as_on_the_lan(text: str) -> None:
    check_address(ipaddress.ip_address(text), on_lan=True)


@pytest.mark.parametrize("text", [*NEVER, "8.8.8.8", "2001:4860:4860::8888"])
def test_the_mark_opens_the_lan_and_nothing_else(text: str) -> None:
    with pytest.raises(OperatorNeeded):
        check_address(ipaddress.ip_address(text), on_lan=True)


def test_public_addresses_are_where_webhooks_are() -> None:
    check_address(ipaddress.ip_address("8.8.8.8"), on_lan=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.ca/x",
        "ftp://hooks.example.ca/x",
        "https://",
        "https://user:secret@hooks.example.ca/",
        "https://hooks.example.ca:99999/",
        "https://hooks.example.ca/a b",
        "https://hooks.example.ca/\r\nHost: other",
        "https://[::1",
        "javascript:alert(1)",
        "",
    ],
)
def test_what_is_no_address_of_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        place_of(url, on_lan=False)


def test_the_parts_of_an_address() -> None:
    assert place_of("https://Hooks.Example.ca/a?b=c", on_lan=False) == Place(
        "https", "hooks.example.ca", 443, "/a?b=c"
    )
    assert place_of("http://192.168.1.5:8080", on_lan=True) == Place("http", "192.168.1.5", 8080, "/")


def test_a_name_that_points_inside_is_refused_before_anything_is_sent() -> None:
    """Nobody may aim the box at itself by a name: it is the address that counts, in every spelling."""
    with receiver() as found:
        for host in ("localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"):
            with pytest.raises(OperatorNeeded, match="not allowed"):
                post(Webhook("x", found.url("https", host=host), "json"), b"{}", {})
        assert found.bodies == []


# --- posting ---------------------------------------------------------------------------------------------------------


def test_what_arrives_can_be_checked_by_its_receiver() -> None:
    with receiver() as found:
        hook = Webhook("x", found.url(), "json", on_lan=True, secret="whsec_x")
        assert hooks.try_out(hook, "Clinique du Parc", NOW) == 204
        (body,), (headers,) = found.bodies, found.headers
        assert json.loads(body)["event"] == "test"
        stamp, signed = headers["X-Appliance-Timestamp"], headers["X-Appliance-Signature"]
        assert signing.check("whsec_x", stamp, signed, body, NOW)


def test_https_is_verified(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ours, other = authority(tmp_path), authority(tmp_path / "other")
    with receiver(ours.context()) as found:
        url = found.url("https", host="localhost")
        assert post(Webhook("x", url, "json", {"ca": ours.ca}, on_lan=True), b"{}", {}) == 204
        for options in ({}, {"ca": other.ca}):
            with pytest.raises(OperatorNeeded, match="cannot be trusted"):
                post(Webhook("x", url, "json", options, on_lan=True), b"{}", {})
        assert len(found.bodies) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, Transient),
        (503, Transient),
        (429, Transient),
        (400, Refused),
        (413, Refused),
        (404, OperatorNeeded),
        (410, OperatorNeeded),
        (302, OperatorNeeded),
        (307, OperatorNeeded),
    ],
)
def test_who_acts_next_is_read_from_the_status_and_nobody_is_followed(
    status: int, kind: type[ApplianceError]
) -> None:
    with receiver() as found:
        found.answers = [status]
        with pytest.raises(kind):
            post(Webhook("x", found.url(), "json", on_lan=True), b"{}", {})
        assert len(found.bodies) == 1


def test_a_receiver_that_is_away(free_port) -> None:
    with pytest.raises(Transient, match="cannot be reached"):
        post(Webhook("x", f"http://127.0.0.1:{free_port()}/", "json", on_lan=True), b"{}", {})
    with pytest.raises(Transient, match="not known"):
        post(Webhook("x", "https://hooks.invalid/", "json"), b"{}", {})


def test_a_receiver_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "TIMEOUT_SECONDS", 0.2)
    with receiver() as found, pytest.raises(Transient, match="does not answer"):
        post(Webhook("x", found.url(path="/slow"), "json", on_lan=True), b"{}", {})


# --- the forms -------------------------------------------------------------------------------------------------------


def written(box: Box, **others: str) -> object:
    with box.catalog.transaction() as tx:
        hook = hooks.add(tx, name="x", url="https://hooks.example.ca/x", now=NOW, **others)  # type: ignore[arg-type]
        number = hooks.enqueue(tx, hook, NEWS, NOW)
        message = outbox.message(tx, number)
    assert message is not None
    assert message.content is not None
    return json.loads(message.content["body"])


def test_each_form_is_what_its_receiver_reads(box: Box) -> None:
    body = written(box)
    assert isinstance(body, dict)
    assert body["notice"] == {
        "id": 0,
        "kind": "destination-down",
        "severity": "warning",
        "topic": "delivery",
        "title": "A destination cannot be reached",
        "subject": "cloud & <more>",
    }


def test_a_chat_in_french(box: Box) -> None:
    body = written(box, format="slack", language="fr")
    assert body == {
        "text": "Boîtier clinique\xa0: nouveau\xa0: Une destination est injoignable (cloud &amp; &lt;more&gt;)"
    }


def test_a_webhook_without_a_language_of_its_own_speaks_the_clinics(box: Box) -> None:
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, {"language.default": "es"}, actor="t", now=NOW)
    body = written(box)
    assert isinstance(body, dict)
    assert body["notice"]["title"] == "No se puede acceder a un destino"


def test_a_card_for_teams(box: Box) -> None:
    body = written(box, format="teams")
    assert isinstance(body, dict)
    card = body["attachments"][0]["content"]
    assert card["type"] == "AdaptiveCard"
    assert "A destination cannot be reached" in card["body"][0]["text"]


def test_a_text_message_fits_one(box: Box) -> None:
    body = written(box, format="sms", to="+15145550123")
    assert isinstance(body, dict)
    assert body["to"] == "+15145550123"
    assert len(body["text"]) <= 160


@pytest.mark.parametrize(
    "others",
    [
        {"format": "sms"},
        {"format": "sms", "to": "call me"},
        {"format": "pigeon"},
        {"least": "loud"},
        {"language": "tlh"},
        {"name": ""},
        {"url": "http://hooks.example.ca/"},
    ],
)
def test_a_webhook_that_cannot_work_is_refused(box: Box, others: dict[str, str]) -> None:
    asked = {"name": "x", "url": "https://hooks.example.ca/x"} | others
    with pytest.raises(Refused), box.catalog.transaction() as tx:
        hooks.add(tx, now=NOW, **asked)  # type: ignore[arg-type]


def test_a_webhook_hears_of_what_it_asked_for_until_it_is_removed(box: Box) -> None:
    with box.catalog.transaction() as tx:
        hook = hooks.add(tx, name="x", url="https://hooks.example.ca/x", least="critical", now=NOW)
        assert hooks.wants(hook, Severity.CRITICAL)
        assert not hooks.wants(hook, Severity.WARNING)
        hooks.enqueue(tx, hook, NEWS, NOW)
        with pytest.raises(Refused, match="already"):
            hooks.add(tx, name="x", url="https://hooks.example.ca/x", now=NOW)
        assert hook.secret not in repr(hook)
        assert hooks.remove(tx, "x", NOW) == 1
        assert webhooks.webhooks(tx) == []
        assert [each.state for each in outbox.messages(tx)] == ["CANCELLED"]
        again = hooks.add(tx, name="x", url="https://hooks.example.ca/x", now=NOW)
        assert again.secret != hook.secret
