"""What whoever takes over the box could erase is said wherever an archive is chosen, and no bucket is called safe unseen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import pytest
from flask import Flask

from appliance.box import Box
from appliance.catalog import destinations
from appliance.model import CAN_BE_ERASED, DestinationKind, DestinationSettings
from appliance.replication.destinations.protection import Protection, State
from appliance.web.console import web_ui
from appliance.web.language import Languages
from appliance.web.reach_words import WORDED, lacking, reach_of, seen
from appliance.web.views.destinations import TAKES
from tests.replication.cloud import cloud, settings
from tests.web.conftest import browser_of, csrf_of
from tests.web.walk import NOW

LANGUAGES = Languages(web_ui() / "languages")
WORDS = LANGUAGES.words("en")


def test_an_archive_that_the_box_can_erase_is_named_with_what_withstands() -> None:
    found = reach_of([("usb", "vault"), ("nas", "sftp")], WORDS)
    assert found is not None and found.tone == "wait"
    assert "No copy is out of reach" in found.title
    assert "usb and nas" in found.text and "locks every version" in found.text and "unplugged" in found.text


def test_a_bucket_is_out_of_reach_only_on_a_condition_and_does_not_hide_the_disk_beside_it() -> None:
    found = reach_of([("usb", "vault"), ("cloud", "s3")], WORDS)
    assert found is not None and found.tone == ""
    assert "Out of their reach: cloud, as long as the bucket keeps and locks every version" in found.text
    assert "can erase what is in usb" in found.text
    alone = reach_of([("cloud", "s3")], WORDS)
    assert alone is not None and "erase" not in alone.text
    assert reach_of([], WORDS) is None


def test_every_kind_that_keeps_ciphertext_but_a_bucket_can_be_erased() -> None:
    kinds: tuple[DestinationKind, ...] = get_args(DestinationKind)
    assert {each for each in kinds if TAKES[each] == "ciphertext"} - {"s3"} == CAN_BE_ERASED


def test_what_a_bucket_lacks_and_what_it_does_not_tell_are_told_apart() -> None:
    every = [Protection(name, State.ON, "") for name in WORDED]
    assert lacking(every, WORDS) == ""
    some = [
        Protection("versioning", State.ON, ""),
        Protection("object lock", State.MISSING, "versions are not locked"),
        Protection("life cycle", State.NOT_TOLD, ""),
    ]
    said = lacking(some, WORDS)
    assert "The bucket lacks: a lock of 35 days on every version." in said
    assert "could not be seen whether it has: a life cycle" in said
    assert "versioning" not in said


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_the_pages_where_an_archive_is_chosen_say_it_and_the_others_do_not(app: Flask, code: str) -> None:
    browser = browser_of(app, "owner")
    said = LANGUAGES.words(code)("reach.remedy")
    for kind, takes in TAKES.items():
        page = browser.get(f"/destinations/new/{kind}", headers={"Accept-Language": code})
        assert (said in page.get_data(as_text=True)) is (kind in CAN_BE_ERASED), (kind, takes)


@contextmanager
def kept(box: Box, place: DestinationSettings) -> Iterator[int]:
    """A destination, for as long as it is looked at."""
    with box.catalog.transaction() as tx:
        number = destinations.add(tx, place)
    yield number
    with box.catalog.transaction() as tx:
        destinations.remove(tx, place.name, NOW)


def test_the_page_of_a_disk_and_the_page_of_backups_say_it(app: Flask, box: Box) -> None:
    browser, said = browser_of(app, "owner"), WORDS("reach.remedy")
    with kept(box, DestinationSettings("shelf", "vault", "ciphertext", {"path": "/media/shelf"})) as number:
        assert said in browser.get(f"/destinations/{number}").get_data(as_text=True)
        page = browser.get("/backups").get_data(as_text=True)
    assert WORDS("reach.none") in page and "what is in shelf" in page and said in page


def test_the_test_of_a_plain_bucket_says_what_it_lacks(app: Flask, box: Box) -> None:
    browser = browser_of(app, "owner")
    with cloud() as server, kept(box, settings(server.url, server.new_bucket())) as number:
        token = csrf_of(browser.get("/destinations").get_data(as_text=True))
        browser.post(f"/destinations/{number}/test", data={"csrf": token})
        page = browser.get("/destinations").get_data(as_text=True)
        own = browser.get(f"/destinations/{number}").get_data(as_text=True)
    assert WORDS("reach.open_bucket", name="cloud") in page
    assert "a key for the box that can remove nothing" in page
    assert WORDS("destinations.test_passed", name="cloud") in page
    assert "Looked at on" in own and "The bucket lacks: versioning" in own, (
        "what was found is kept, with its moment"
    )


def test_a_bucket_with_every_protection_is_said_to_have_them_as_of_the_last_look() -> None:
    every = [Protection(name, State.ON, "") for name in WORDED]
    assert seen(None, WORDS) is None
    found = seen((NOW, every), WORDS)
    assert found is not None and found.tone == ""
    assert found.text.endswith(WORDS("reach.has_all"))
    found = seen((NOW, [Protection("removal", State.MISSING, ""), *every[:3]]), WORDS)
    assert found is not None and found.tone == "wait"
    assert "a key for the box that can remove nothing" in found.text and WORDS.moment(NOW) in found.text
