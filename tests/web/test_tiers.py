"""Storage tiers in the console: where the images are, what was chosen, and prices that say that they are an estimate."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import settings as catalog_settings
from appliance.lifecycle import prices
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
