"""Storage tiers in the console: where the images are, what was chosen, and prices that say that they are an estimate."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import settings as catalog_settings
from appliance.lifecycle import prices, tier_rules
from appliance.replication.destinations.s3_errors import ALLOW_TAGGING
from tests.replication.cloud import settings
from tests.replication.depot import owe_everything_to
from tests.web.conftest import sign_in


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    return browser


def shown(browser: FlaskClient, language: str) -> str:
    answer = browser.get("/tiers", headers={"Accept-Language": language})
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True)))


def test_it_says_what_is_where_what_was_chosen_and_that_it_is_an_estimate(
    owner: FlaskClient, box: Box
) -> None:
    said = shown(owner, "en")
    assert "No image moves to a cheaper class." in said
    assert "No image goes to a bucket." in said
    owe_everything_to(box, settings("http://127.0.0.1:1", "clinic"))
    with box.catalog.transaction() as tx:
        wanted = {"tiers.warm_days": 60, "tiers.cold_days": 365, "tiers.deep_days": 800}
        chosen.change(tx, box.audit_key, wanted, actor="marie", now=datetime.now(UTC))
    said = shown(owner, "en")
    assert "Warm: after 60 days unopened" in said and "Deep archive: after 800 days unopened" in said
    assert "An estimate from the receipts" in said and prices.AS_OF in said
    assert "12 hours at most" in said and "180 days" in said
    assert "takes what" not in said and "does not take" not in said
    french = shown(owner, "fr-CA")
    assert "Archive profonde" in french and "Une estimation" in french
    assert "tiers." not in french
    assert 'href="/tiers"' in owner.get("/backups").get_data(as_text=True)
    assert '<a href="/backups" aria-current="page">' in owner.get("/tiers").get_data(as_text=True)


def test_nobody_sees_it_who_is_not_signed_in(app: Flask) -> None:
    assert app.test_client().get("/tiers").status_code in {302, 303}


def test_a_bucket_that_takes_no_tags_is_named_with_the_permission_that_it_lacks(
    owner: FlaskClient, box: Box
) -> None:
    with box.catalog.transaction() as tx:
        chosen.change(tx, box.audit_key, {"tiers.warm_days": 60}, actor="marie", now=datetime.now(UTC))
        told = ["saying how far away an object may lie failed (AccessDenied)", ALLOW_TAGGING]
        catalog_settings.put(tx, "tier_tags", {"cloud": told}, datetime.now(UTC))
    said = shown(owner, "en")
    assert "cloud does not take what the box says of its images" in said
    assert "s3:PutObjectTagging" in said
    french = shown(owner, "fr-CA")
    assert "Accordez s3:PutObjectTagging" in french and "pas accepté l’étiquette" in french


def test_a_store_that_keeps_no_tags_is_no_fault_and_nobody_waits_for_the_next_try(
    owner: FlaskClient, box: Box
) -> None:
    with box.catalog.transaction() as tx:
        chosen.change(tx, box.audit_key, {"tiers.warm_days": 60}, actor="marie", now=datetime.now(UTC))
        told = [
            "this cloud storage keeps no tags, so its images stay in its ordinary class",
            "nothing is lost; for cheaper classes keep images in a bucket that takes tags, such as Amazon's",
            "https://s3.example.ca ca-central-1 clinic",
        ]
        catalog_settings.put(tx, "tier_tags", {"cloud": told}, datetime.now(UTC))
    said = shown(owner, "en")
    assert "cloud keeps no tags" in said and "isn’t a fault" in said and "every half hour" not in said
    french = shown(owner, "fr-CA")
    assert "Ce stockage infonuagique ne garde pas d’étiquettes" in french and "Rien n’est perdu" in french


@pytest.mark.parametrize(
    ("moves", "english", "french"),
    [
        (["warm"], "has no rule yet by which images move", "n’a pas encore de règle"),
        (None, "moves images couldn’t be checked", "Impossible de vérifier"),
    ],
)
def test_a_bucket_without_rules_is_named_here_and_on_its_own_page_with_the_rules_to_add(
    owner: FlaskClient, box: Box, moves: list[str] | None, english: str, french: str
) -> None:
    place = replace(settings("http://127.0.0.1:1", "clinic"), name=f"cloud-{moves}")
    number = owe_everything_to(box, place)
    with box.catalog.transaction() as tx:
        days = {"tiers.warm_days": 60, "tiers.cold_days": 365, "tiers.deep_days": 0}
        chosen.change(tx, box.audit_key, days, actor="marie", now=datetime.now(UTC))
        told = {"at": tier_rules.address(place), "moves": moves}
        catalog_settings.put(tx, "tier_rules", {place.name: told}, datetime.now(UTC))
    for path in ("/tiers", f"/destinations/{number}"):
        said = owner.get(path, headers={"Accept-Language": "en"}).get_data(as_text=True)
        assert english in said and "images-cold" in said
        assert ("images-warm" in said) is (moves is None)
        assert french in owner.get(path, headers={"Accept-Language": "fr-CA"}).get_data(as_text=True)
    with box.catalog.transaction() as tx:
        never = {"tiers.warm_days": 0, "tiers.cold_days": 0}
        chosen.change(tx, box.audit_key, never, actor="marie", now=datetime.now(UTC))
    assert english not in owner.get("/tiers", headers={"Accept-Language": "en"}).get_data(as_text=True)
