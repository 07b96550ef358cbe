"""What is left in a bucket of what a destruction wrote over, and that the certificate says no other than that.

The gateway's tests (tests/replication/test_gateway.py) ask the same of a server that is not moto, and that carries its life cycle out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.catalog import tombstones
from appliance.lifecycle import certificate
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.archive import Versions
from appliance.replication.destinations.bucket_policy import ends_versions
from appliance.web.certificate_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, Clinic, clinic_in
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, secrets_of
from tests.lifecycle.test_purging import archive_of, assert_unreadable, everything_in, readable_in
from tests.replication.cloud import Cloud, cloud, settings
from tests.replication.test_protection import protected_bucket
from tests.replication.test_s3 import destination_at

pytestmark = pytest.mark.slow

ALL: dict[str, Any] = {"Status": "Enabled", "Filter": {"Prefix": ""}}
TAG = {"Key": "tier", "Value": "cold"}


def ends(days: int, **more: Any) -> dict[str, Any]:
    return {"NoncurrentVersionExpiration": {"NoncurrentDays": days, **more}}


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([], None),
        (bucket_policy.bucket_settings()["LifecycleConfiguration"]["Rules"], 35),
        ([ALL | ends(35), ALL | ends(90)], 35),
        ([ALL | ends(35) | {"Status": "Disabled"}], None),
        ([ALL | ends(35) | {"Filter": {"Prefix": "objects/"}}], None),
        ([ALL | ends(35) | {"Filter": {"Tag": TAG}}], None),
        ([ALL | ends(35) | {"Filter": {"And": {"Prefix": "", "ObjectSizeGreaterThan": 10}}}], None),
        ([ALL | ends(35, NewerNoncurrentVersions=3)], None),
    ],
)
def test_a_day_on_which_nothing_is_left_needs_a_rule_for_everything(
    rules: list[dict[str, Any]], days: int | None
) -> None:
    assert ends_versions(rules) == days


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


def bucket_with(server: Cloud, *rules: dict[str, Any], versioned: bool = True) -> str:
    bucket = server.new_bucket(versioned=versioned)
    if rules:
        named = [{"ID": f"r{number}", **each} for number, each in enumerate(rules)]
        server.client().put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": named}
        )
    return bucket


def test_a_bucket_says_what_it_keeps_of_what_was_written_over(the_cloud: Cloud) -> None:
    for bucket, told in (
        (bucket_with(the_cloud, versioned=False), Versions(are_kept=False)),
        (bucket_with(the_cloud), Versions(are_kept=True)),
        (bucket_with(the_cloud, ALL | ends(60)), Versions(are_kept=True, days=60)),
        (protected_bucket(the_cloud), Versions(are_kept=True, days=35)),
    ):
        assert destination_at(the_cloud.url, bucket).versions() == told


@pytest.mark.parametrize("kept", ["none", "for-days", "for-ever"])
def test_the_certificate_says_what_the_bucket_keeps(the_cloud: Cloud, tmp_path: Path, kept: str) -> None:
    rules = [ALL | ends(60)] if kept == "for-days" else []
    bucket = bucket_with(the_cloud, *rules, versioned=kept != "none")
    with clinic_in(tmp_path / "before", settings(the_cloud.url, bucket)) as clinic:
        told, words = purged(clinic)
    (place,) = told["archives"]
    assert (place["state"], place["versions"]) == ("DONE", kept)
    if kept == "for-days":
        assert place["versions_until_utc"][:10] == f"{LATER + timedelta(days=60):%Y-%m-%d}"
        assert "the last are gone on" in words
    else:
        assert place["versions_until_utc"] is None
        assert ("for ever" in words) is (kept == "for-ever")
        assert "the last are gone on" not in words


def purged(clinic: Clinic) -> tuple[dict[str, Any], str]:
    """A study is destroyed, here and in the archive: what the certificate says, and in words."""
    clinic.receive(*IMAGES[:4], *GONE)
    clinic.deliver()
    clinic.back_up()
    approve(clinic.box, secrets_of(clinic.box, GONE[0]).row.id)
    carry_out(clinic)
    with clinic.box.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
        told = certificate.document(conn, paper, LATER)
    said = worded(told, "", Languages(web_ui() / "languages").words("en"))
    return told, " ".join(line.text for section in said.sections for line in section.lines)


@pytest.mark.timeout(600)
def test_once_a_life_cycle_has_ended_what_was_written_over_nothing_is_left_that_opens(
    the_cloud: Cloud, tmp_path: Path
) -> None:
    """Where the server carries its rules out, twice: before, so that old versions are gone already, and after the destruction."""
    bucket = bucket_with(the_cloud, ALL | ends(1))
    pass_days = getattr(the_cloud, "days_go_by", None)
    client = the_cloud.client()
    with clinic_in(tmp_path / "before", settings(the_cloud.url, bucket)) as clinic:
        box, archive = clinic.box, archive_of(clinic.place)
        clinic.receive(*IMAGES[:4], *GONE)
        clinic.deliver()
        clinic.back_up()
        clinic.receive(*IMAGES[4:5])  # whose manifest is written over
        clinic.deliver()
        let_end(client, bucket, pass_days)
        secrets = secrets_of(box, GONE[0])
        approve(box, secrets.row.id)
        carry_out(clinic)
        let_end(client, bucket, pass_days)
        assert_unreadable(readable_in(archive, box.root, tmp_path), secrets)
        with box.catalog.reading() as conn:
            (paper,) = tombstones.certificates(conn)
            (place,) = certificate.document(conn, paper, LATER)["archives"]
        assert (place["state"], place["versions"]) == ("DONE", "for-days")
        assert everything_in(archive).keys() == {each["Key"] for each in all_versions(client, bucket)} - {
            "keys/connection-test"
        } | {"keys/connection-test"}


def all_versions(client: Any, bucket: str) -> list[dict[str, Any]]:
    return [
        each
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        for each in page.get("Versions", ())
    ]


def let_end(client: Any, bucket: str, pass_days: Any) -> None:
    """Let the rule end the versions that were written over; moto carries none out, so whoever owns the bucket does."""
    earlier = [each for each in all_versions(client, bucket) if not each["IsLatest"]]
    if pass_days is None:
        for each in earlier:
            client.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
        return
    from tests.backup.conftest import eventually

    def are_gone() -> bool:
        pass_days(bucket)
        return all(each["IsLatest"] for each in all_versions(client, bucket))

    eventually(are_gone, seconds=250)
