"""Who hears of what, by which channel and when; and that nothing that leaves the box names a patient."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from appliance import audit, certificates, settings
from appliance.box import Box
from appliance.catalog import alerts, notice_preferences, notices, outbox, people
from appliance.catalog import settings as kept_settings
from appliance.catalog.notices import NoticeState, Wanted
from appliance.notify import hooks, judging
from appliance.notify.alerts import Condition
from appliance.notify.kinds import RULES, Channel
from appliance.notify.telling import raise_notice, tell
from tests.notify.conftest import NOW
from tests.synthetic import HELENE, MARKERS
from tests.system.clear_text import words_in

FULL = Condition("disk-full", "the data disk is nearly full", "make space")
DOWN = Condition("destination-down", "cloud is not reached (no route); 3 deliveries wait", "wait", "cloud")
NIGHT = datetime.fromisoformat("2026-03-03T04:30:00+00:00")


def letters(box: Box) -> list[tuple[str, str]]:
    """To whom a letter waits, and its subject."""
    with box.catalog.reading() as conn:
        return sorted((each.address, each.subject) for each in outbox.messages(conn, channel=Channel.MAIL))


def bells(box: Box) -> dict[str, int]:
    with box.catalog.reading() as conn:
        return {each.login: notices.unread(conn, each.id).count for each in people.people(conn)}


def person(box: Box, login: str) -> int:
    with box.catalog.reading() as conn:
        found = people.person(conn, login)
    assert found is not None
    return found.id


def prefer(box: Box, login: str, **value: object) -> None:
    with box.catalog.transaction() as tx:
        notice_preferences.choose(tx, person(box, login), value, NOW)


def test_the_bell_rings_for_the_roles_of_the_rule_and_letters_go_in_each_ones_language(box: Box) -> None:
    judging.apply(box.catalog, [FULL], NOW)
    assert bells(box) == {
        "marie@clinique.example": 1,
        "luc@clinique.example": 0,
        "ana": 0,
        "tom@clinique.example": 1,
    }
    assert letters(box) == [
        (
            "marie@clinique.example",
            "[critique] Le disque des données est plein\u00a0: les images sont refusées",
        ),
        ("tom@clinique.example", "[critical] The data disk is full: images are refused"),
    ]


def test_a_critical_notice_has_its_first_messages_due_at_the_moment_of_the_judgement(box: Box) -> None:
    """Whatever the machine's speed: bell and message stand in the transaction of the judgement, due at once."""
    with box.catalog.transaction() as tx:
        hooks.add(tx, name="chat", url="https://hooks.example.ca/x", now=NOW)
    judging.apply(box.catalog, [FULL], NOW)
    with box.catalog.reading() as conn:
        made = outbox.messages(conn)
        assert {each.channel for each in made} == {"mail", "webhook"}
        assert {each.next_attempt_utc for each in made} == {NOW}
        assert outbox.is_due(conn, Channel.MAIL, NOW)
        assert outbox.is_due(conn, Channel.WEBHOOK, NOW)


def test_a_trouble_is_told_once_then_again_then_over(box: Box) -> None:
    hour = timedelta(hours=1)
    judging.apply(box.catalog, [FULL], NOW)
    for minutes in range(1, 14):
        assert not judging.apply(box.catalog, [FULL], NOW + timedelta(minutes=minutes)).said_anything
    with box.catalog.transaction() as tx:
        notices.acknowledge(tx, 1, person(box, "tom@clinique.example"), NOW)
    assert not judging.apply(box.catalog, [FULL], NOW + hour / 2).said_anything
    judging.apply(box.catalog, [], NOW + 2 * hour)
    assert judging.apply(box.catalog, [], NOW + 2 * hour + timedelta(minutes=3)).over == 1
    with box.catalog.reading() as conn:
        (row,) = notices.history(conn, 0, Wanted(), everything=True, limit=10)
        assert (row.state, row.acknowledged_name) == ("OVER", "Tom Baker")
        assert alerts.states(conn) == []
    assert (
        Counter(subject for _, subject in letters(box))["[over] The data disk is full: images are refused"]
        == 1
    )


def test_a_judgement_that_changes_nothing_writes_nothing(box: Box) -> None:
    judging.apply(box.catalog, [FULL, DOWN], NOW)
    with box.catalog.reading() as conn:
        before = conn.exec_driver_sql("PRAGMA data_version").scalar_one(), notices.change(conn)
        judging.apply(box.catalog, [FULL, DOWN], NOW + timedelta(seconds=5))
        assert (conn.exec_driver_sql("PRAGMA data_version").scalar_one(), notices.change(conn)) == before


def test_quiet_hours_hold_a_warning_back_and_not_what_is_critical(box: Box) -> None:
    for login in ("marie@clinique.example", "tom@clinique.example"):
        prefer(box, login, quiet="22:00-07:00", time_zone="America/Toronto")
    judging.apply(box.catalog, [DOWN], NIGHT)
    judging.apply(box.catalog, [DOWN, FULL], NIGHT + timedelta(minutes=5))
    with box.catalog.reading() as conn:
        waits = {each.subject[:9]: each.next_attempt_utc for each in outbox.messages(conn)}
    assert waits["[warning]"] == datetime.fromisoformat("2026-03-03T12:00:00+00:00")
    assert waits["[critical"] == NIGHT + timedelta(minutes=5)


def test_the_clinics_quiet_hours_hold_for_who_chose_none_and_for_webhooks(box: Box) -> None:
    here = NIGHT.astimezone()
    quiet = f"{here - timedelta(hours=1):%H:%M}-{here + timedelta(hours=1):%H:%M}"
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, {"notify.quiet_hours": quiet}, actor="tests", now=NOW)
        hooks.add(tx, name="chat", url="https://hooks.example.ca/x", now=NOW)
    judging.apply(box.catalog, [DOWN], NIGHT - timedelta(minutes=5))
    judging.apply(box.catalog, [DOWN], NIGHT)
    with box.catalog.reading() as conn:
        made = outbox.messages(conn)
    assert {each.channel for each in made} == {"mail", "webhook"}
    assert all(each.next_attempt_utc == NIGHT + timedelta(hours=1) for each in made)


def test_what_a_person_does_not_want_is_not_told(box: Box) -> None:
    prefer(box, "marie@clinique.example", channels={"delivery": ["bell"]})
    prefer(box, "tom@clinique.example", channels={"delivery": []})
    judging.apply(box.catalog, [DOWN], NOW)
    judging.apply(box.catalog, [DOWN], NOW + timedelta(minutes=5))
    assert letters(box) == []
    assert bells(box)["marie@clinique.example"] == 1
    assert bells(box)["tom@clinique.example"] == 0


def test_information_waits_for_the_letter_of_the_day(box: Box) -> None:
    prefer(box, "marie@clinique.example", time_zone="America/Toronto")
    knock = [
        Condition("unknown-device", "", "", "PANO1@10.0.0.9"),
        Condition("unknown-device", "", "", "CT@10.0.0.8"),
    ]
    judging.apply(box.catalog, knock, NIGHT)
    assert letters(box) == []
    assert bells(box)["marie@clinique.example"] == 2
    morning = datetime.fromisoformat("2026-03-03T13:05:00+00:00")
    judging.send_digests(box.catalog, morning)
    judging.send_digests(box.catalog, morning + timedelta(minutes=15))
    assert ("marie@clinique.example", "La journée du boîtier d’imagerie\u00a0: 2") in letters(box)
    assert Counter(address for address, _ in letters(box))["marie@clinique.example"] == 1
    with box.catalog.reading() as conn:
        text = next(
            str(outbox.message(conn, each.id)) + json.dumps(outbox.message(conn, each.id).content)  # type: ignore[union-attr]
            for each in outbox.messages(conn)
            if each.address == "marie@clinique.example"
        )
    assert "PANO1@10.0.0.9" in text


def test_nobody_acknowledges_and_the_next_ones_hear_until_somebody_does(box: Box) -> None:
    judging.apply(box.catalog, [FULL], NOW)
    assert bells(box)["luc@clinique.example"] == 0
    assert judging.apply(box.catalog, [FULL], NOW + timedelta(minutes=14)).escalated == 0
    assert judging.apply(box.catalog, [FULL], NOW + timedelta(minutes=15)).escalated == 1
    assert judging.apply(box.catalog, [FULL], NOW + timedelta(minutes=16)).escalated == 0
    assert judging.apply(box.catalog, [FULL], NOW + timedelta(minutes=45)).escalated == 1
    assert bells(box)["luc@clinique.example"] == 1
    assert any("sans réponse" in subject for to, subject in letters(box) if to.startswith("luc"))
    with box.catalog.transaction() as tx:
        assert notices.acknowledge(tx, 1, person(box, "luc@clinique.example"), NOW)
        assert not notices.acknowledge(tx, 1, person(box, "tom@clinique.example"), NOW)
    assert judging.apply(box.catalog, [FULL], NOW + timedelta(hours=9)).escalated == 0
    assert sum(bells(box).values()) == 0, "it rings for nobody any more"


def test_break_glass_is_told_because_the_audit_says_so(box: Box) -> None:
    judging.apply(box.catalog, [], NOW)
    with box.catalog.transaction() as tx:
        audit.append(tx, box.audit_key, [audit.Entry("access:break-glass", "study:7", "ana")], NOW)
    assert judging.apply(box.catalog, [], NOW).raised == 1
    assert judging.apply(box.catalog, [], NOW).raised == 0
    assert bells(box)["luc@clinique.example"] == 1
    with box.catalog.reading() as conn:
        (row,) = notices.unacknowledged(conn)
        assert (row.kind, row.state, row.subject) == ("break-glass", "EVENT", "study:7")
        assert kept_settings.get(conn, judging.AUDIT_SEEN) > 0


def test_a_kind_that_is_switched_off_is_not_told(box: Box) -> None:
    with box.catalog.transaction() as tx:
        alerts.change_rule(tx, "disk-full", {"enabled": False}, NOW)
        assert tell(tx, "disk-full", now=NOW) is None
    assert not judging.apply(box.catalog, [FULL], NOW).said_anything


def test_nothing_that_leaves_the_box_names_a_patient(box: Box) -> None:
    """Even when the words of a problem, by somebody's mistake, do."""
    leak = f"{HELENE.name} {HELENE.id} {' '.join(MARKERS)}"
    with box.catalog.transaction() as tx:
        for form in hooks.FORMATS:
            hooks.add(
                tx, name=form, url="https://hooks.example.ca/x", format=form, least="information", to="+15145550123", now=NOW
            )  # fmt: skip
    moment = NOW
    for kind, rule in RULES.items():
        with box.catalog.transaction() as tx:
            alerts.change_rule(tx, kind, {"roles": ["owner", "technician"]}, NOW)
        for severity in ("critical", "warning", "information"):
            bent = replace(rule, severity=type(rule.severity)(severity), roles=("owner",))
            with box.catalog.transaction() as tx:
                raise_notice(
                    tx, bent, subject="cloud", words=leak, fix=leak, state=NoticeState.EVENT, now=moment
                )
    judging.apply(box.catalog, [], moment + timedelta(minutes=15))
    judging.send_digests(box.catalog, moment + timedelta(days=1))
    with box.catalog.reading() as conn:
        made = [outbox.message(conn, each.id) for each in outbox.messages(conn, limit=10_000)]
    assert len(made) > 4 * 3 * len(RULES)
    assert {each.channel for each in made if each} == {"mail", "webhook"}
    for each in made:
        assert each is not None
        text = f"{each.subject} {json.dumps(each.content, ensure_ascii=False)}"
        assert words_in(text.encode()) == set(), text
        assert all(marker not in text for marker in MARKERS)


def test_a_letter_leads_to_the_console_once_the_box_has_a_name(box: Box) -> None:
    def links(condition: Condition) -> set[str]:
        judging.apply(box.catalog, [condition], NOW)
        judging.apply(box.catalog, [condition], NOW + timedelta(hours=1))
        found: set[str] = set()
        with box.catalog.transaction() as tx:
            while claimed := outbox.claim(tx, Channel.MAIL, NOW + timedelta(hours=2), lease_seconds=60):
                found.add(*re.findall(r"https://\S+", str((claimed.content or {})["text"])) or [""])
                outbox.sent(tx, claimed.id, NOW)
        return found

    assert links(FULL) == {""}
    with box.catalog.transaction() as tx:
        certificates.install(tx, box, host_name="clinicbox.local", clinic="C", addresses=(), now=NOW)
    assert links(DOWN) == {"https://clinicbox.local/notices"}
