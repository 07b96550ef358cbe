"""What is recorded once for many requests is shown to none of them before it is recorded."""

import re
import threading
from collections.abc import Hashable

import pytest
from flask import Flask

from appliance import audit
from appliance.box import Box
from appliance.errors import Transient
from appliance.web.console import Recently
from tests.backup.conftest import eventually
from tests.web.conftest import browser_of

CROWD = 8


def wanting(lately: Recently, *wanted: Hashable) -> tuple[Hashable, ...]:
    """What was left for this one to record, which takes no time."""
    with lately.fresh(wanted) as mine:
        return mine


def crowd(lately: Recently, what: Hashable) -> tuple[list[threading.Thread], list[object]]:
    """Some who want the same, and what each was told: that it is recorded, or that it is not."""
    told: list[object] = []

    def want() -> None:
        try:
            told.append(wanting(lately, what))
        except Transient as error:
            told.append(error)

    threads = [threading.Thread(target=want) for _ in range(CROWD)]
    for each in threads:
        each.start()
    return threads, told


def test_whoever_wants_what_is_being_recorded_waits_for_it() -> None:
    lately = Recently(60)
    with lately.fresh(["a study"]) as mine:
        assert mine == ("a study",)
        threads, told = crowd(lately, "a study")
        assert wanting(lately, "another study") == ("another study",), "nobody waits for something else"
        threads[0].join(0.2)  # more than it takes somebody who waits for nobody
        assert told == [], "shown before it was recorded"
    for each in threads:
        each.join(60)
    assert told == [()] * CROWD
    assert wanting(lately, "a study") == ()


@pytest.mark.parametrize("failure", [Transient("the disk is full"), ValueError(), KeyboardInterrupt()])
def test_what_was_not_recorded_is_shown_to_nobody_and_recorded_the_next_time(failure: BaseException) -> None:
    lately = Recently(60)
    waiting: list[threading.Thread] = []
    with pytest.raises(type(failure)), lately.fresh(["a study"]):
        waiting, told = crowd(lately, "a study")
        raise failure
    for each in waiting:
        each.join(60)
    # Those who came after the failure record it themselves, one of them; those who waited are told.
    assert all(isinstance(each, Transient) or each in {(), ("a study",)} for each in told)
    assert told.count(()) == 0 or ("a study",) in told
    if ("a study",) not in told:
        assert wanting(lately, "a study") == ("a study",)
    assert wanting(lately, "a study") == ()


def test_lists_that_show_the_same_in_another_order_do_not_wait_for_each_other_for_ever() -> None:
    lately, meeting = Recently(60), threading.Barrier(2)
    left: list[tuple[Hashable, ...]] = []

    def show(*wanted: Hashable) -> None:
        meeting.wait(60)
        for number in range(200):
            left.append(wanting(lately, *((each, number) for each in wanted)))

    threads = [threading.Thread(target=show, args=each) for each in (("a", "b", "c"), ("c", "b", "a"))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
        assert not each.is_alive()
    recorded = [each for mine in left for each in mine]
    assert len(recorded) == len(set(recorded)) == 3 * 200


def test_what_is_noted_is_forgotten_by_time_and_by_number() -> None:
    lately = Recently(60, most=2)
    assert [wanting(lately, each) for each in "abc"] == [("a",), ("b",), ("c",)]
    assert wanting(lately, "a", "c") == ("a",)
    assert wanting(Recently(0), "a") == ("a",)


def test_no_picture_is_shown_before_its_row_is_in_the_audit(app: Flask, box: Box) -> None:
    """Twenty small pictures of one study are asked for at once, and somebody else is writing."""
    page = browser_of(app, "owner", "shows").get("/studies").get_data(as_text=True)
    picture = re.findall(r'"(/instances/\d+/thumbnail)"', page)[0]
    browser = browser_of(app, "owner", "glimpser")
    cookie = browser.get_cookie("console_session")
    assert cookie is not None
    browser.get("/help")
    statuses: list[int] = []

    def look() -> None:
        mine = app.test_client()
        mine.set_cookie("console_session", cookie.value)
        statuses.append(mine.get(picture, headers={"Accept": "image/*"}).status_code)

    threads = [threading.Thread(target=look) for _ in range(CROWD)]
    with box.catalog.transaction():
        for each in threads:
            each.start()
        eventually(lambda: len(app.extensions["console"].glimpsed._recording) == 1)
        threads[0].join(1)  # more than a picture takes that waits for nobody
        assert statuses == [], "shown before it was recorded"
    for each in threads:
        each.join(60)
    assert statuses == [200] * CROWD
    with box.catalog.reading() as conn:
        rows = [row for row in audit.export(conn) if row["actor"] == "glimpser"]
    assert [row["action"] for row in rows].count("study:glimpse") == 1
