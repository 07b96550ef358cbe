"""What the command line does with tiers, programs can have done: asked what would leave, let leave, bring back, tell the buckets."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import evictions
from appliance.catalog.columns import utc_text
from appliance.cli import tiers
from appliance.errors import Refused
from appliance.lifecycle import eviction, retention, returning
from appliance.store.guard import Space
from appliance.web import create_app
from appliance.wizard import by_hand
from tests.backup.conftest import Clinic, eventually
from tests.lifecycle.evicting import ANY, here, study_ids, without_archive
from tests.web.api.conftest import Caller
from tests.web.conftest import browser_of, kept_clinic
from tests.web.translations import LANGUAGES


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A box with three images that have grown old, whose ciphertext is on a USB disk."""
    with kept_clinic(tmp_path_factory.mktemp("tiers"), images=3) as made:
        old = utc_text(datetime.now(UTC) - timedelta(days=1500))
        with made.box.catalog.transaction() as tx:
            retention.watch_clock(tx, datetime.now(UTC), follows_time_server=True)
            tx.exec_driver_sql("UPDATE studies SET last_received_utc = ?, first_received_utc = ?", (old, old))
        yield made


@pytest.fixture(scope="module")
def app(clinic: Clinic) -> Iterator[Flask]:
    application = create_app(clinic.box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


def caller_of(app: Flask, role: str) -> Caller:
    browser = browser_of(app, role)
    return Caller(browser, browser.get("/api/v1/me").get_json()["csrf"])


@pytest.fixture
def owner(app: Flask) -> Caller:
    return caller_of(app, "owner")


def choose(box: Box, **values: object) -> None:
    with box.catalog.transaction() as tx:
        named = {f"tiers.{name}": value for name, value in values.items()}
        settings.change(tx, box.audit_key, named, actor="tests", now=datetime.now(UTC))


def evict(box: Box, study: int) -> int:
    """Let a study leave for the disk, lately used or not; how many images did."""
    standing = replace(ANY, unused_days=0)
    return eviction.evict_study(box, study, standing, lambda: datetime.now(UTC)).images


def begun(owner: Caller, path: str) -> None:
    """Ask until it is taken: work says that it is done a moment before the next may begin."""
    eventually(lambda: owner("POST", path).status_code == 202)


def ended(owner: Caller, what: str) -> dict[str, object]:
    """What came of the work, once it has ended."""
    work: Callable[[], dict[str, object]] = lambda: owner("GET", "/tiers/work").get_json()[what]  # noqa: E731
    eventually(lambda: work()["state"] != "running")
    return work()


def actions(box: Box) -> list[tuple[str, str]]:
    with box.catalog.reading() as conn:
        return [(row["action"], row["actor"]) for row in audit.recent(conn, limit=20)]


def test_the_plan_says_what_would_leave_and_what_keeps_the_others_and_is_audited(
    owner: Caller, clinic: Clinic
) -> None:
    choose(clinic.box, eviction="by-age")
    plan = owner("GET", "/tiers/plan").get_json()
    pinned = {each["why"]: each["studies"] for each in plan["pinned"]}
    assert pinned["copies"] == len(study_ids(clinic.box)), "a disk is carried home, so it is not enough"
    assert (plan["leaving"], plan["leaving_bytes"]) == ([], 0)
    assert actions(clinic.box)[0][0] == "tiers:list"
    assert here(clinic.box) == 3


def test_nothing_is_let_leave_that_the_clinic_did_not_choose_or_while_the_guard_holds(
    owner: Caller, clinic: Clinic
) -> None:
    choose(clinic.box, eviction="off")
    refused = owner("POST", "/tiers/evict")
    assert refused.status_code == 422
    assert "has chosen that images stay" in refused.get_json()["detail"]
    choose(clinic.box, eviction="by-age")
    assert owner("POST", "/guard/freeze", {"reason": "a test"}).status_code == 200
    for what in ("evict", "move"):
        refused = owner("POST", f"/tiers/{what}")
        assert refused.status_code == 422, what
        assert "until a person has looked" in refused.get_json()["detail"]
    assert owner("POST", "/guard/release", {"reason": "a test"}).status_code == 200
    begun(owner, "/tiers/evict")
    assert ended(owner, "evict")["state"] == "done", "nothing may leave for a disk, and that is no failure"
    begun(owner, "/tiers/move")
    assert ended(owner, "move")["state"] == "done"
    assert here(clinic.box) == 3


def test_everything_comes_back_or_it_is_said_why_not_and_it_may_be_asked_for_again(
    owner: Caller, clinic: Clinic
) -> None:
    box = clinic.box
    assert sum(evict(box, study) for study in study_ids(box)) == 3
    folder = Path(str(clinic.place.options["path"]))
    without_archive(clinic)
    begun(owner, "/tiers/return")
    failed = ended(owner, "bring_back")
    assert failed["state"] == "failed" and failed["cause"] and failed["remedy"]
    assert here(box) == 0
    folder.with_name("at home").rename(folder)
    for _ in range(2):
        begun(owner, "/tiers/return")
        assert ended(owner, "bring_back")["state"] == "done"
        assert here(box) == 3


def leaving(box: Box, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk as if it were a hundred times what is away, and `free` bytes of it were above its low water mark of 20 percent."""
    with box.catalog.reading() as conn:
        total = 100 * evictions.tally(conn).away_bytes
    monkeypatch.setattr(box.guard, "reserve_bytes", 0)
    monkeypatch.setattr(box.guard, "space", lambda: Space(total, total // 5 + free, 1 << 20))


def test_nothing_comes_home_that_would_fill_the_disk_below_its_low_water_mark_whoever_asks(
    owner: Caller, clinic: Clinic, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box = clinic.box
    choose(box, eviction="by-age")
    assert sum(evict(box, study) for study in study_ids(box)) == 3
    with box.catalog.reading() as conn:
        away = evictions.tally(conn).away_bytes
    monkeypatch.setattr(tiers, "opened_box", lambda: nullcontext(box))
    everything = argparse.Namespace(all=True, study=None)
    with monkeypatch.context() as full:
        leaving(box, away - 1, full)
        with pytest.raises(Refused, match=r"no room for everything.*20 %") as said:
            by_hand.begin_return(box, "tests")
        with pytest.raises(Refused, match="no room for everything"):
            tiers.bring_back(everything)
        refused = owner("POST", "/tiers/return")
        assert refused.status_code == 422
        assert "no room for everything" in refused.get_json()["detail"]
        assert here(box) == 0
        for each in (said.value.message, said.value.hint):
            assert LANGUAGES.words("fr").cause(each).lower() != each.lower(), "it is said in French too"
        choose(box, low_percent=19)
        with box.catalog.reading() as conn:
            assert returning.room(box, conn) > away, "the hint is true"
        choose(box, low_percent=20)
    with monkeypatch.context() as roomy:
        leaving(box, away, roomy)
        assert tiers.bring_back(everything) == 0
    assert here(box) == 3
    assert "Images that are back: 3." in capsys.readouterr().out
    choose(box, eviction="off")


def test_while_another_process_moves_images_that_is_said(owner: Caller, clinic: Clinic) -> None:
    with eviction.alone(clinic.box):
        begun(owner, "/tiers/return")
        failed = ended(owner, "bring_back")
    assert (failed["state"], failed["remedy"]) == ("failed", "wait until that is done")


def test_a_study_comes_back_by_itself_once_somebody_who_may_see_it_has_asked(
    app: Flask, owner: Caller, clinic: Clinic
) -> None:
    box = clinic.box
    study = study_ids(box)[0]
    away = evict(box, study)
    assert away > 0
    referrer = caller_of(app, "referrer")
    assert referrer("POST", f"/studies/{study}/return").status_code == 404, "it was not granted"
    assert referrer("POST", "/tiers/return").status_code == 403
    with box.catalog.reading() as conn:
        assert (
            conn.exec_driver_sql("SELECT count(*) FROM evictions WHERE wanted_utc IS NULL").scalar() == away
        )
    for _ in range(2):
        asked = owner("POST", f"/studies/{study}/return")
        assert (asked.status_code, asked.get_json()) == (202, {"away_images": away})
    assert actions(box)[0][0] == "study:want"
    assert returning.bring_wanted(box) == away
    assert here(box) == 3
    assert owner("POST", f"/studies/{study}/return").get_json() == {"away_images": 0}
    assert owner("POST", f"/studies/{study + 1000}/return").status_code == 404


def test_the_way_of_fetching_is_a_setting_and_garbage_is_none(owner: Caller) -> None:
    assert owner("GET", "/tiers").get_json()["retrieval"] == "standard"
    for wrong in ("expedited", "", 7):
        refused = owner("PATCH", "/settings", {"tiers.retrieval": wrong}, If_Match="*")
        assert refused.status_code in (400, 422), wrong
    assert owner("PATCH", "/settings", {"tiers.retrieval": "bulk"}, If_Match="*").status_code == 200
    found = owner("GET", "/tiers").get_json()
    assert found["retrieval"] == "bulk"
    deepest = next(each for each in found["prices"] if each["storage_class"] == "DEEP_ARCHIVE")
    assert (deepest["wait_hours"], deepest["bulk_wait_hours"]) == (12, 48)
    assert deepest["read_in_bulk"] < deepest["read"]
