"""A version that is left again leaves words behind that the one before does not know: it goes on all the same.

An update that does not prove itself is left within the hour, and what it wrote stays: a notice of a kind, an outcome of a look, a state
in a setting that no earlier version has ever heard of. Each word that this version keeps for itself is one that an earlier one may
not know, so here each in turn is made one that this version does not know, and then the box does what it does each minute: gather
its health, judge its alarms, write its letters, send a heartbeat, show its pages. What must say each word is found, and not listed:
whatever a setting holds that is a word of any `StrEnum`, and whatever a table of notices holds in a column of words.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from appliance import health
from appliance.alarm import Alarm
from appliance.box import Box
from appliance.catalog import alerts, notice_preferences, notices, people
from appliance.catalog import settings as kept_settings
from appliance.catalog.alerts import AlertState
from appliance.catalog.notices import NoticeState
from appliance.errors import Transient
from appliance.fleet import consent, heartbeat, pulse, taking
from appliance.health import looks
from appliance.notify import escalation, hooks, judging
from appliance.notify.preferences import as_value, defaults
from appliance.replication.destinations import s3_answers  # noqa: F401 - its words are among those that there are
from appliance.updates import noting
from appliance.web import create_app
from appliance.wizard import runs
from tests.boxes import box_in
from tests.fleet.outposts import choose
from tests.updates.image import image
from tests.web.conftest import add_owner, sign_in

TOMORROW = "of-tomorrow"
"""A word that no version knows."""

NOW = datetime.now(UTC)
PAGES = (
    "/",
    "/health",
    "/updates",
    "/notices",
    "/notices/panel",
    "/notices/preferences",
    "/notices/alerts",
    "/notices/channels",
    "/support",
    "/support/heartbeat",
    "/api/v1/health",
    "/api/v1/updates",
    "/api/v1/heartbeat",
)
PART = {"HX-Request": "true"}
COLUMNS = (
    ("notices", "kind"),
    ("notices", "topic"),
    ("notices", "severity"),
    ("alert_states", "kind"),
    ("alert_rules", "kind"),
    ("webhooks", "format"),
)
"""Where the tables of notices have words of ours; what somebody has chosen is JSON."""
IN_JSON = (("alert_rules", "changes"), ("webhooks", "options"), ("notice_preferences", "value"))
"""And these are those."""


@dataclass(frozen=True)
class Word:
    """A word in a setting: its key, and the way through the JSON to it."""

    key: str
    way: tuple[str | int, ...]

    def __str__(self) -> str:
        return ".".join((self.key, *map(str, self.way)))


def every_word() -> set[str]:
    def kinds(of: type[StrEnum]) -> Iterator[type[StrEnum]]:
        for each in of.__subclasses__():
            yield each
            yield from kinds(each)

    return {str(word) for kind in kinds(StrEnum) if kind.__module__.startswith("appliance.") for word in kind}


def words_in(value: Any, known: set[str], way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from words_in(each, known, (*way, name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from words_in(each, known, (*way, place))
    elif isinstance(value, str) and value in known:
        yield way


def planted(value: Any, way: Sequence[str | int]) -> Any:
    made = copy.deepcopy(value)
    at = made
    for step in way[:-1]:
        at = at[step]
    at[way[-1]] = TOMORROW
    return made


def goes_on(box: Box, ask: Callable[[str], int], now: datetime) -> None:
    """All that a box does by itself, and the pages that a person looks at then."""
    facts = health.gather(box, now)
    assert facts.catalog is None
    health.judge(facts)
    noting.note(box, now)
    for minutes in (0, 2, 60 * 24 + 5):
        Alarm()(box, now + timedelta(minutes=minutes))
    judging.send_digests(box.catalog, now + timedelta(days=1))
    told = pulse.document(box, now)
    with box.catalog.transaction() as tx:
        taking.held_to(tx)
        assert consent.standing(tx) is not None
        heartbeat.received(heartbeat.signed(told, consent.key_of(tx, box, now)))
    with pytest.raises(Transient):  # nobody listens there, so it was sent
        pulse.send(box, now)
    pulse.beat(box, now)
    for page in PAGES:
        assert ask(page) == 200, page


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Callable[[str], int]]]:
    """A box in the settings and tables of which stands what they can hold, and its owner in a browser."""
    folder: Path = tmp_path_factory.mktemp("box")
    with image(folder / "told") as says, box_in(folder / "box") as box:
        add_owner(box)
        says("1.0.0", waiting="1.2.0\n", left="1.1.0\n")
        (folder / "told" / looks.FILE).write_text(f"{int(NOW.timestamp())} {looks.Came.UNREACHABLE}\n")
        noting.note(box, NOW)
        choose(
            box,
            {"heartbeat.address": "https://localhost:9/heartbeats", "heartbeat.on_lan": True}
            | {"mail.host": "localhost", "mail.port": 9, "mail.security": "none", "mail.from": "b@x.example"},
            NOW,
        )
        with box.catalog.transaction() as tx:
            consent.agree(tx, consent.terms(tx), "tests", NOW)
            order = {"number": 1, "software": "1.2.0", "came": "taken", "until_utc": NOW.isoformat()}
            kept_settings.put(tx, taking.KEPT, order, NOW)
            part: dict[str, Any] = {
                "name": "a",
                "state": "done",
                "detail": {},
                "cause": "",
                "hint": "",
                "at": None,
            }
            kept_settings.put(tx, "setup-run:backup", {"subject": "x", "parts": [part]}, NOW)
            judging.change_chain(tx, escalation.CHAIN, NOW)
            hook = {"name": "h", "url": "https://hook.example/x", "least": "information", "now": NOW}
            hooks.add(tx, **hook)  # type: ignore[arg-type]
            alerts.change_rule(tx, "disk-low", {"severity": "critical", "channels": ["bell", "mail"]}, NOW)
            (person,) = people.people(tx)
            notice_preferences.choose(tx, person.id, as_value(defaults(person.role, "o@x.example")), NOW)
            for kind, severity, state in (
                ("damaged", "critical", NoticeState.EVENT),
                ("damaged", "critical", NoticeState.STANDING),
                ("disk-low", "warning", NoticeState.STANDING),
                ("setup", "information", NoticeState.EVENT),
            ):
                topic = "storage"
                told = notices.add(
                    tx, kind=kind, topic=topic, severity=severity, subject="", words="w", fix="f", state=state, now=NOW
                )  # fmt: skip
                notices.tell(tx, told, [person.id], NOW, digest=[person.id])
                if state is NoticeState.STANDING:
                    alerts.remember(tx, AlertState(kind, "", NOW, None, told, NOW))
        with pytest.raises(Transient):
            pulse.send(box, NOW)
        application = create_app(box)
        try:
            browser = application.test_client()
            assert sign_in(browser).status_code == 303
            yield box, lambda page: browser.get(page, headers=PART if "panel" in page else {}).status_code
        finally:
            application.extensions["console"].watcher.close()
            application.extensions["console"].darkroom.close()


def test_a_box_bears_a_word_of_another_version_wherever_it_keeps_one(
    kept: tuple[Box, Callable[[str], int]],
) -> None:
    box, ask = kept
    goes_on(box, ask, NOW)
    with box.catalog.reading() as conn:
        rows = conn.execute(text("SELECT key, value FROM settings")).all()
    before = {str(key): json.loads(value) for key, value in rows}
    known = every_word()
    words = [Word(key, way) for key, value in before.items() for way in words_in(value, known) if way]
    assert {each.key for each in words} >= {
        looks.KEPT,
        noting.KEPT,
        taking.KEPT,
        pulse.KEPT,
        consent.KEPT,
        judging.ESCALATION,
        "setup-run:backup",
    }
    seen: set[tuple[str, ...]] = set()
    for word in words:
        sort = (word.key, *(each for each in word.way if isinstance(each, str)))
        if sort in seen:  # one of each list
            continue
        seen.add(sort)
        with box.catalog.transaction() as tx:
            kept_settings.put(tx, word.key, planted(before[word.key], word.way), NOW)
        try:
            goes_on(box, ask, NOW)
            with box.catalog.reading() as conn:
                assert runs.latest(box, conn, "backup") is not None
        except Exception as error:
            raise AssertionError(f"a box does not bear an unknown {word}") from error
        with box.catalog.transaction() as tx:
            kept_settings.put(tx, word.key, before[word.key], NOW)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_box_bears_an_unknown_word_in_a_table_of_notices(
    kept: tuple[Box, Callable[[str], int]], table: str, column: str
) -> None:
    box, ask = kept
    with box.catalog.transaction() as tx:
        before = tx.execute(text(f"SELECT rowid, {column} FROM {table}")).all()
        assert before
        for number, (row, _) in enumerate(before):
            word = f"{TOMORROW}-{number}"
            tx.execute(
                text(f"UPDATE {table} SET {column} = :word WHERE rowid = :row"), {"word": word, "row": row}
            )
    goes_on(box, ask, NOW)
    with box.catalog.transaction() as tx:
        for row, word in before:
            tx.execute(
                text(f"UPDATE {table} SET {column} = :word WHERE rowid = :row"), {"word": word, "row": row}
            )


@pytest.mark.parametrize(("table", "column"), IN_JSON)
def test_a_box_bears_an_unknown_word_in_what_somebody_has_chosen(
    kept: tuple[Box, Callable[[str], int]], table: str, column: str
) -> None:
    box, ask = kept
    with box.catalog.reading() as conn:
        ((row, value),) = conn.execute(text(f"SELECT rowid, {column} FROM {table}")).all()
    ways = list(words_in(json.loads(value), every_word()))
    assert ways
    for way in ways:
        for said in (json.dumps(planted(json.loads(value), way)), value):
            with box.catalog.transaction() as tx:
                where = {"said": said, "row": row}
                tx.execute(text(f"UPDATE {table} SET {column} = :said WHERE rowid = :row"), where)
            goes_on(box, ask, NOW)


def test_a_notice_of_another_version_escalates_and_ends_as_any_other(tmp_path: Path) -> None:
    with box_in(tmp_path / "box") as box:
        add_owner(box)
        with box.catalog.transaction() as tx:
            told = notices.add(
                tx, kind=TOMORROW, topic=TOMORROW, severity="critical", subject="", words="w", fix="f",
                state=NoticeState.STANDING, now=NOW,
            )  # fmt: skip
            alerts.remember(tx, AlertState(TOMORROW, "", NOW, None, told, NOW))
        outcome = judging.apply(box.catalog, (), NOW + timedelta(minutes=20))
        assert outcome.escalated, "nobody has acknowledged it"
        judging.apply(box.catalog, (), NOW + timedelta(minutes=40))
        with box.catalog.reading() as conn:
            assert notices.notice(conn, told).state == NoticeState.OVER, (
                "this version finds nothing of that kind"
            )
            assert alerts.states(conn) == []
