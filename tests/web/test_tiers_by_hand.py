"""The page of the tiers, where a person acts: what would leave and why the rest stays, making room, telling the buckets, and bringing
everything home; each with what follows from it, how far it is, and why not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import destinations
from appliance.catalog.columns import utc_text
from appliance.identity import Role
from appliance.lifecycle import eviction, freezing, retention
from appliance.lifecycle.acting import Act
from appliance.web import create_app
from appliance.web.views import tiers
from appliance.wizard import by_hand
from tests.backup.conftest import IMAGES, Clinic, clinic_in, eventually
from tests.lifecycle.evicting import ANY, here, study_ids, without_archive
from tests.replication.cloud import cloud, come_up, settings, sink
from tests.web.conftest import LOGIN, add_owner, browser_of, csrf_of, kept_clinic, sign_in


def grow_old(box: Box) -> None:
    """Four years go by for every study, and none for the clock."""
    old = utc_text(datetime.now(UTC) - timedelta(days=1500))
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, datetime.now(UTC), follows_time_server=True)
        tx.exec_driver_sql("UPDATE studies SET last_received_utc = ?, first_received_utc = ?", (old, old))


@contextmanager
def console_of(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A box with three images that have grown old, whose ciphertext is on a USB disk."""
    with kept_clinic(tmp_path_factory.mktemp("tiers"), images=3) as made:
        grow_old(made.box)
        yield made


@pytest.fixture(scope="module")
def app(clinic: Clinic) -> Iterator[Flask]:
    with console_of(clinic.box) as made:
        yield made


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    return browser


@pytest.fixture
def away(clinic: Clinic) -> Iterator[None]:
    """Everything has left for the disk; in the end it is here again."""
    standing = replace(ANY, unused_days=0)
    for study in study_ids(clinic.box):
        assert eviction.evict_study(clinic.box, study, standing, lambda: datetime.now(UTC)).images
    assert here(clinic.box) == 0
    yield
    assert by_hand.begin_return(clinic.box, "tests")().passed


def in_words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html.rsplit("<main", maxsplit=1)[-1]).split())


def html(browser: FlaskClient, path: str = "/tiers", language: str = "en", **headers: str) -> str:
    answer = browser.get(path, headers={"Accept-Language": language, **headers})
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


def shown(browser: FlaskClient, path: str = "/tiers", language: str = "en") -> str:
    return in_words(html(browser, path, language))


def press(browser: FlaskClient, act: str) -> str:
    """Press it, wait until it has ended, and read the page: to begin anew, or why that can't be."""
    answer = browser.post(f"/tiers/{act}", data={"csrf": csrf_of(html(browser, "/help"))})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/tiers")
    page = html(browser)
    eventually(lambda: "every 2s" not in html(browser))
    return in_words(page) if "every 2s" not in page else shown(browser)


def choose(box: Box, **values: object) -> None:
    with box.catalog.transaction() as tx:
        named = {f"tiers.{name}": value for name, value in values.items()}
        chosen.change(tx, box.audit_key, named, actor="tests", now=datetime.now(UTC))


def actions(box: Box, action: str) -> list[tuple[str, str]]:
    with box.catalog.reading() as conn:
        return [
            (row["subject"], row["actor"]) for row in audit.recent(conn, limit=60) if row["action"] == action
        ]


def began(box: Box, what: str) -> bool:
    with box.catalog.reading() as conn:
        return by_hand.latest(box, conn, what) is not None


# --- what would leave ------------------------------------------------------------------------------------------------


def test_looking_says_why_the_rest_stays_changes_nothing_and_is_in_the_audit(
    owner: FlaskClient, clinic: Clinic
) -> None:
    choose(clinic.box, eviction="by-age")
    assert 'href="/tiers/plan"' in html(owner)
    before = len(actions(clinic.box, "tiers:list"))
    said = shown(owner, "/tiers/plan")
    assert "Would leave Nothing" in said
    assert "No archive in the cloud has all of it" in said, "a disk is carried home, so it is not enough"
    assert "What came less than 730 days ago stays" in said
    assert actions(clinic.box, "tiers:list")[0] == ("console", LOGIN)
    assert len(actions(clinic.box, "tiers:list")) == before + 1
    assert here(clinic.box) == 3
    assert "Aucune archive infonuagique ne l’a en entier" in shown(owner, "/tiers/plan", "fr")
    choose(clinic.box, eviction="off")
    said = shown(owner, "/tiers/plan")
    assert "The clinic has chosen that images stay on this disk." in said
    assert "None: images stay on this disk" in said
    assert 'href="/settings/tiers"' in html(owner, "/tiers/plan")


def test_a_look_that_takes_too_long_ends_and_says_so(
    owner: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Not every study was looked at" not in shown(owner, "/tiers/plan")
    monkeypatch.setattr(tiers, "LOOKS_SECONDS", 0.0)
    assert "Not every study was looked at" in shown(owner, "/tiers/plan")


# --- acts ------------------------------------------------------------------------------------------------------------


def test_what_the_clinic_has_not_chosen_is_not_offered_and_not_begun(
    owner: FlaskClient, clinic: Clinic
) -> None:
    choose(clinic.box, eviction="off")
    page = html(owner)
    assert re.search(r"action=\"/tiers/\w+\"", page) is None, "nothing may be done"
    said = in_words(page)
    assert "The clinic has chosen that images stay on this disk." in said
    assert "No image goes to a bucket." in said
    assert "Everything is on this disk." in said
    for act, what, why in (
        ("evict", by_hand.EVICT, "The clinic has chosen that images stay on this disk."),
        ("move", by_hand.MOVE, "No image goes to a bucket."),
        ("return", by_hand.RETURN, "Everything is on this disk."),
    ):
        assert press(owner, act).count(why) == said.count(why) + 1, "it is said in answer too"
        assert not began(clinic.box, what)


def test_while_the_guard_holds_nothing_leaves_and_the_page_says_why(
    owner: FlaskClient, clinic: Clinic
) -> None:
    box = clinic.box
    choose(box, eviction="by-age")
    acting = Act("tests", datetime.now(UTC), box.audit_key)
    with box.catalog.transaction() as tx:
        freezing.freeze(tx, acting, reason="a test")
    try:
        for path in ("/tiers", "/tiers/plan"):
            said = shown(owner, path)
            assert "Nothing may leave this disk now" in said
            assert "So much was lost at once that nothing is removed until a person has looked." in said
            assert 'action="/tiers/evict"' not in html(owner, path)
            french = shown(owner, path, "fr")
            assert "Tant a été perdu d’un coup que rien n’est retiré" in french
        assert "So much was lost at once" in press(owner, "evict")
        assert not began(box, by_hand.EVICT)
    finally:
        with box.catalog.transaction() as tx:
            freezing.release(tx, acting, reason="the test is over")
    assert 'action="/tiers/evict"' in html(owner)


def test_the_buckets_are_told_where_there_is_one_and_days_are_chosen(
    owner: FlaskClient, clinic: Clinic
) -> None:
    box = clinic.box
    with box.catalog.transaction() as tx:
        destinations.add(tx, settings("http://127.0.0.1:1", "clinic"))
    try:
        assert "The clinic has chosen no days after which images move." in shown(owner)
        assert 'action="/tiers/move"' not in html(owner)
        choose(box, warm_days=60, deep_days=800)
        said = shown(owner)
        assert 'action="/tiers/move"' in html(owner)
        assert "No bucket moves an image up again" in said
        assert "takes hours to come back, and 180 days are paid for" in said
        assert "there was nothing new to tell" in press(owner, "move"), (
            "nothing of the box lies in that bucket"
        )
    finally:
        choose(box, warm_days=0, deep_days=0)
        with box.catalog.transaction() as tx:
            destinations.remove(tx, "cloud", datetime.now(UTC))


def test_everything_comes_home_or_the_page_says_why_not(
    owner: FlaskClient, clinic: Clinic, away: None
) -> None:
    choose(clinic.box, eviction="off")
    said = shown(owner)
    assert re.search(r"What is in archives only comes back to this disk: 3 images · [\d.]+ \w+\.", said)
    assert "the provider charges for what is fetched" in said
    folder = Path(str(clinic.place.options["path"]))
    without_archive(clinic)
    failed = press(owner, "return")
    assert "It failed" in failed
    assert here(clinic.box) == 0
    folder.with_name("at home").rename(folder)
    with eviction.alone(clinic.box):
        assert "Images are leaving this disk or coming back to it already. Wait until that is done." in press(
            owner, "return"
        )
    assert "Done" in press(owner, "return")
    assert "3 images are back" in shown(owner)
    assert "3 images sont revenues" in shown(owner, language="fr")
    assert here(clinic.box) == 3
    assert {actor for _, actor in actions(clinic.box, "study:recall")} >= {LOGIN}


def test_what_the_disk_has_no_room_for_does_not_come_home(
    owner: FlaskClient, clinic: Clinic, away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'action="/tiers/return"' in html(owner)
    with monkeypatch.context() as full:
        full.setattr(clinic.box.guard, "reserve_bytes", clinic.box.guard.space().total_bytes)
        assert "There isn’t room for everything" in shown(owner)
        assert 'action="/tiers/return"' not in html(owner)
        assert press(owner, "return").count("There isn’t room for everything") == 2
        assert "20 % of this disk stay free, as the settings say" in shown(owner)
    assert here(clinic.box) == 0


def test_what_is_under_way_is_shown_by_itself_and_what_must_wait_for_it_is_not_offered(
    owner: FlaskClient, clinic: Clinic, away: None
) -> None:
    choose(clinic.box, eviction="by-age")
    begun = by_hand.begin_return(clinic.box, "tests")
    page = html(owner)
    assert 'hx-get="/tiers?part=disk"' in page and 'hx-get="/tiers?part=cloud"' not in page
    assert "Images are coming back" in in_words(page)
    assert "Images are leaving this disk or coming back to it. Wait until that has ended." in in_words(page)
    assert 'action="/tiers/return"' not in page and 'action="/tiers/evict"' not in page
    part = html(owner, "/tiers?part=disk", **{"HX-Request": "true", "X-Refresh": "live"})
    assert "<html" not in part and 'id="tiers-disk"' in part and 'id="tiers-cloud"' not in part
    answer = owner.post("/tiers/return", data={"csrf": csrf_of(html(owner, "/help"))}, follow_redirects=True)
    assert "That is under way already" in answer.get_data(as_text=True)
    assert begun().passed
    part = html(owner, "/tiers?part=disk", **{"HX-Request": "true", "X-Refresh": "live"})
    assert "hx-get" not in part and "3 images are back" in in_words(part)
    assert 'id="tiers-cloud"' in html(owner, "/tiers?part=cloud", **{"HX-Request": "true"})
    choose(clinic.box, eviction="off")


@pytest.mark.parametrize("role", [Role.TECHNICIAN, Role.PRIVACY_OFFICER, Role.VENDOR_SUPPORT])
def test_who_may_only_look_at_how_the_box_does_neither_acts_nor_sees_which_studies(
    app: Flask, clinic: Clinic, away: None, role: Role
) -> None:
    choose(clinic.box, eviction="by-age")
    browser = browser_of(app, role)
    page = html(browser)
    assert "3 images" in page
    assert 'action="/tiers/' not in page and 'href="/tiers/plan"' not in page
    assert browser.get("/tiers/plan").status_code == 403
    for act in ("evict", "move", "return"):
        assert (
            browser.post(f"/tiers/{act}", data={"csrf": csrf_of(html(browser, "/help"))}).status_code == 403
        )
    assert here(clinic.box) == 0
    choose(clinic.box, eviction="off")


# --- with a bucket ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_room_is_made_and_everything_comes_home_and_what_lies_deep_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cloud() as running:
        bucket = running.new_bucket()
        with (
            clinic_in(tmp_path / "box", settings(running.url, bucket)) as clinic,
            console_of(clinic.box) as app,
        ):
            box = clinic.box
            add_owner(box)
            clinic.receive(*IMAGES[:3], IMAGES[-1])
            clinic.deliver()
            grow_old(box)
            choose(box, eviction="by-age", newest_studies=0, deep_days=800)
            owner = app.test_client()
            assert sign_in(owner).status_code == 303
            plan = html(owner, "/tiers/plan")
            assert re.search(r"2 studies: 4 images, [\d.]+ MB", in_words(plan))
            assert "Autre, Patient" in in_words(plan) and 'href="/studies/2"' in plan
            assert 'action="/tiers/evict"' in plan, "one may act where one has looked"
            with box.catalog.reading() as conn:
                latest = next(row for row in audit.recent(conn, limit=9) if row["action"] == "tiers:list")
            assert json.loads(latest["details"])["studies"] == [1, 2]
            monkeypatch.setattr(tiers, "SHOWN", 1)
            assert "And 1 more study." in shown(owner, "/tiers/plan")
            assert "each is downloaded once" in shown(owner)
            made = press(owner, "evict")
            assert re.search(r"2 studies left this disk, [\d.]+ MB\.", made)
            assert here(box) == 0
            assert {actor for _, actor in actions(box, "study:evict")} == {LOGIN}
            said = shown(owner)
            assert re.search(r"about [\d.]+ \w+ at most", said) and "within 12 hours" in said
            choose(box, retrieval="bulk")
            assert "within 48 hours" in shown(owner)
            key = running.keys(bucket, "objects/")[0]
            sink(running, bucket, key)
            left = press(owner, "return")
            assert "what was at hand is back. The image lies in deep archive and has been asked for" in left
            assert here(box) == 3
            come_up(bucket, key)
            assert "1 image is back." in press(owner, "return")
            assert here(box) == 4
