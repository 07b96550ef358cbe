"""Nothing that the box's key can do removes a committed version; and a bucket that does not protect itself is told apart."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import OperatorNeeded
from appliance.lifecycle.storage_class import CLASSES, Tier
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.bucket_policy import KEPT_DAYS
from appliance.replication.destinations.protection import State, protections
from appliance.replication.destinations.s3 import S3Destination
from tests.replication.cloud import REGION, Cloud, cloud

Enforced = Callable[[Cloud, dict[str, Any]], AbstractContextManager[tuple[str, str]]]
SETTINGS = bucket_policy.bucket_settings()


@pytest.fixture(scope="module")
def server() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


def protected_bucket(server: Cloud) -> str:
    """A bucket set as `destination policy` says."""
    name, client = server.new_name("locked"), server.client()
    client.create_bucket(
        Bucket=name,
        CreateBucketConfiguration={"LocationConstraint": REGION},
        ObjectLockEnabledForBucket=True,
    )
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration=SETTINGS["Versioning"])
    client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration=SETTINGS["ObjectLockConfiguration"]
    )
    client.put_bucket_lifecycle_configuration(
        Bucket=name, LifecycleConfiguration=SETTINGS["LifecycleConfiguration"]
    )
    return name


def states(server: Cloud, bucket: str) -> dict[str, State]:
    return {each.name: each.state for each in protections(server.client(), bucket)}


def test_a_bucket_set_as_it_is_printed_has_every_protection_but_from_a_key_that_may_do_everything(
    server: Cloud,
) -> None:
    """Its lock refuses that key a version, and not what passes a lock over, nor the version once the lock has ended."""
    bucket, client = protected_bucket(server), server.client()
    kept = client.put_object(
        Bucket=bucket, Key="objects/ab/x.sealed", Body=b"kept", ChecksumAlgorithm="SHA256"
    )
    found = states(server, bucket)
    assert found.pop("removal") is State.MISSING
    assert set(found.values()) == {State.ON}
    answer = client.get_object(Bucket=bucket, Key="objects/ab/x.sealed", VersionId=kept["VersionId"])
    assert answer["Body"].read() == b"kept"


@pytest.mark.parametrize(
    "may", [["s3:DeleteObject"], ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"]]
)
def test_a_key_that_may_remove_something_is_told(server: Cloud, enforced: Enforced, may: list[str]) -> None:
    bucket = protected_bucket(server)
    policy = bucket_policy.key_policy(bucket)
    policy["Statement"] = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    policy["Statement"].append({"Effect": "Allow", "Action": may, "Resource": f"arn:aws:s3:::{bucket}/*"})
    with enforced(server, policy) as (access_key_id, secret):
        box = S3Destination(bucket, REGION, server.url, access_key_id, secret)
        assert {each.name: each.state for each in box.protections()}["removal"] is State.MISSING


def test_a_plain_bucket_lacks_them_and_loses_nothing_by_the_question(server: Cloud) -> None:
    bucket = server.new_bucket()
    server.client().put_object(Bucket=bucket, Key="objects/ab/x.sealed", Body=b"kept")
    found = states(server, bucket)
    assert (found["versioning"], found["object lock"]) == (State.MISSING, State.MISSING)
    assert found["removal"] is State.MISSING
    assert server.keys(bucket) == ["objects/ab/x.sealed"]


def test_a_life_cycle_that_forgets_too_soon_is_missing(server: Cloud) -> None:
    for rule in (
        {"NoncurrentVersionExpiration": {"NoncurrentDays": KEPT_DAYS - 1}},
        {"Expiration": {"Days": 400}},
        {"Filter": {"Prefix": "snapshots/"}, "Expiration": {"Days": 399}},
        {"Filter": {"Prefix": "snapshots"}, "Expiration": {"Days": 400}},
        {"Filter": {"Prefix": "snapshots/"}, "Expiration": {"Date": datetime(2090, 1, 1, tzinfo=UTC)}},
    ):
        bucket = protected_bucket(server)
        server.client().put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={
                "Rules": [{"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}} | rule]
            },
        )
        assert states(server, bucket)["life cycle"] is State.MISSING


def test_a_life_cycle_that_moves_images_by_age_is_a_protection_and_one_that_sinks_the_rest_is_none(
    server: Cloud,
) -> None:
    bucket, client = protected_bucket(server), server.client()
    every = {Tier.WARM, Tier.COLD, Tier.DEEP}
    printed = bucket_policy.bucket_settings(every)["LifecycleConfiguration"]
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=printed)
    assert states(server, bucket)["life cycle"] is State.ON
    told = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert bucket_policy.moves_of(told) == every
    deep = {"Status": "Enabled", "Transitions": [{"Days": 200, "StorageClass": "DEEP_ARCHIVE"}]}
    for where, state in (
        ({"Prefix": "objects/"}, State.ON),
        ({"Prefix": ""}, State.MISSING),
        ({"Prefix": "keys/"}, State.MISSING),
    ):
        rules = [*printed["Rules"], {"ID": "deep", "Filter": where, **deep}]
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
        assert states(server, bucket)["life cycle"] is state, where


@given(st.sets(st.sampled_from(Tier)))
def test_nothing_but_images_is_ever_moved_and_only_by_their_tag_to_where_the_clinic_lets_them(
    tiers: set[Tier],
) -> None:
    rules = bucket_policy.bucket_settings(tiers)["LifecycleConfiguration"]["Rules"]
    moving = [each for each in rules if "Transitions" in each]
    assert [CLASSES[each["Transitions"][0]["StorageClass"]].tier for each in moving] == [
        tier for tier in (Tier.WARM, Tier.COLD, Tier.DEEP) if tier in tiers
    ]
    for each in moving:
        tag = {"Key": "tier", "Value": str(CLASSES[each["Transitions"][0]["StorageClass"]].tier)}
        assert each["Filter"] == {"And": {"Prefix": "objects/", "Tags": [tag]}}
    assert not bucket_policy.sinks_what_is_needed(rules)
    assert not bucket_policy.expires_current(rules)
    assert bucket_policy.ends_backups(rules)
    ending = [each for each in rules if "Expiration" in each]
    assert [each["Filter"] for each in ending] == [{"Prefix": "snapshots/"}]


BACKUPS = {"Status": "Enabled", "Expiration": {"Days": 400}}
TAGGED = {"Key": "tier", "Value": "cold"}


@pytest.mark.parametrize(
    ("rule", "ends"),
    [
        ({"Filter": {"Prefix": "snapshots/"}}, True),
        ({"Prefix": "snapshots/"}, True),
        ({"Filter": {"And": {"Prefix": "snapshots/", "Tags": []}}}, True),
        ({"Filter": {"And": {"Prefix": "snapshots/", "Tags": [TAGGED]}}}, False),
        ({"Filter": {"Prefix": "snapshots/", "Tag": TAGGED}}, False),
        ({"Filter": {"Tag": TAGGED}}, False),
        ({"Filter": {"And": {"Prefix": "snapshots/", "ObjectSizeGreaterThan": 10**9}}}, False),
        ({"Filter": {"Prefix": "snapshots/", "ObjectSizeLessThan": 10**6}}, False),
        ({"Filter": {"Prefix": "snapshots/2026"}}, False),
        ({"Filter": {"Prefix": "snapshots/"}, "Status": "Disabled"}, False),
    ],
)
def test_only_a_rule_for_all_backups_ends_them(rule: dict[str, object], ends: bool) -> None:
    """The box tags no backup: a rule for those of a tag would be there, and they would pile up for ever all the same."""
    assert bucket_policy.ends_backups([BACKUPS | rule]) is ends


def test_overwriting_leaves_the_committed_version_readable_and_locked(server: Cloud) -> None:
    bucket, client = protected_bucket(server), server.client()
    kept = client.put_object(
        Bucket=bucket, Key="manifests/a.sealed", Body=b"committed", ChecksumAlgorithm="SHA256"
    )["VersionId"]
    client.put_object(Bucket=bucket, Key="manifests/a.sealed", Body=b"encrypted", ChecksumAlgorithm="SHA256")
    client.delete_object(Bucket=bucket, Key="manifests/a.sealed")  # a marker, where even that is allowed
    with pytest.raises(ClientError) as refused:
        client.delete_object(Bucket=bucket, Key="manifests/a.sealed", VersionId=kept)
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    answer = client.get_object(Bucket=bucket, Key="manifests/a.sealed", VersionId=kept)
    assert answer["Body"].read() == b"committed"


@contextmanager
def policies_enforced(server: Cloud, policy: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The server asks from now on who may do what; the access key of a user who has `policy`."""
    iam = boto3.client(
        "iam",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
    )
    user = server.new_name("box")
    iam.create_user(UserName=user)
    # S3 asks for ListBucket when a bucket is looked for (HEAD); this server has a name of its own for that.
    policy["Statement"][0]["Action"].append("s3:HeadBucket")
    iam.put_user_policy(UserName=user, PolicyName="printed", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    _requests_without_question(server, "0")
    try:
        yield key["AccessKeyId"], key["SecretAccessKey"]
    finally:
        _requests_without_question(server, "inf")


@pytest.fixture
def enforced() -> Enforced:
    return policies_enforced


@pytest.fixture
def tells_a_lock_from_a_write() -> bool:
    """Whether the server asks for PutObjectRetention and PutObjectLegalHold: moto takes both for PutObject, which the box may do."""
    return False


def _requests_without_question(server: Cloud, count: str) -> None:
    asked = urllib.request.Request(
        f"{server.url}/moto-api/reset-auth", count.encode(), {"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(asked, timeout=60).close()


def test_with_the_printed_policy_the_box_works_and_can_undo_nothing_that_was_committed(
    server: Cloud, enforced: Enforced, tells_a_lock_from_a_write: bool
) -> None:
    bucket, key = protected_bucket(server), "manifests/a.sealed"
    policy = bucket_policy.key_policy(bucket)
    with enforced(server, policy) as (access_key_id, secret):
        box = S3Destination(bucket, REGION, server.url, access_key_id, secret)
        assert "can be written and read" in box.check()
        assert {each.state for each in box.protections()} == {State.ON}
        box.put_document(key, b"committed")
        client = box._client()
        committed = client.head_object(Bucket=bucket, Key=key)["VersionId"]

        def encrypt_otherwise() -> None:
            client.put_bucket_encryption(
                Bucket=bucket,
                ServerSideEncryptionConfiguration={
                    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
                },
            )

        attempts: list[Callable[[], Any]] = [
            lambda: client.delete_object(Bucket=bucket, Key=key),
            lambda: client.delete_object(Bucket=bucket, Key=key, VersionId=committed),
            lambda: client.delete_object(
                Bucket=bucket, Key=key, VersionId=committed, BypassGovernanceRetention=True
            ),
            lambda: client.put_bucket_lifecycle_configuration(
                Bucket=bucket,
                LifecycleConfiguration={
                    "Rules": [
                        {
                            "ID": "now",
                            "Status": "Enabled",
                            "Filter": {"Prefix": ""},
                            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                        }
                    ]
                },
            ),
            lambda: client.put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
            ),
            lambda: client.put_object_lock_configuration(
                Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
            ),
            lambda: client.put_bucket_policy(Bucket=bucket, Policy="{}"),
            encrypt_otherwise,
            lambda: client.delete_bucket(Bucket=bucket),
        ]
        if tells_a_lock_from_a_write:
            attempts += [
                lambda: client.put_object_retention(
                    Bucket=bucket,
                    Key=key,
                    VersionId=committed,
                    Retention={
                        "Mode": "GOVERNANCE",
                        "RetainUntilDate": datetime.now(UTC) + timedelta(minutes=1),
                    },
                    BypassGovernanceRetention=True,
                ),
                lambda: client.put_object_legal_hold(
                    Bucket=bucket, Key=key, VersionId=committed, LegalHold={"Status": "OFF"}
                ),
            ]
        for number, attempt in enumerate(attempts):
            with pytest.raises(ClientError) as refused:
                attempt()
            code = refused.value.response["Error"]["Code"]
            # Ceph in Debian 12 knows no such encryption, and says so before it asks who may.
            unknown = attempt is encrypt_otherwise and code == "InvalidArgument"
            assert code == "AccessDenied" or unknown, number
        image = "objects/ab/x.sealed"
        client.put_object(Bucket=bucket, Key=image, Body=b"sealed", ChecksumAlgorithm="SHA256")
        box.say_tier(image, Tier.COLD)
        with pytest.raises(OperatorNeeded, match="AccessDenied"):
            box.say_tier(key, Tier.DEEP)
        box.put_document(
            key, b"encrypted by somebody who has the key"
        )  # overwriting is what the box does, too
        then = client.get_object(Bucket=bucket, Key=key, VersionId=committed)
        assert then["Body"].read() == b"committed"


# --- the policy, held to S3's names and to what the box does ---

FORBIDDEN = (
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:BypassGovernanceRetention",
    "s3:PutLifecycleConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutObjectRetention",
    "s3:PutEncryptionConfiguration",
)


def test_what_is_granted_is_never_also_a_way_to_remove(server: Cloud) -> None:
    allowed = {*bucket_policy.ON_BUCKET, *bucket_policy.ON_OBJECTS, *bucket_policy.ON_IMAGES}
    assert not allowed & set(bucket_policy.NEVER)
    assert set(FORBIDDEN) <= set(bucket_policy.NEVER)
    assert not [each for each in allowed if "*" in each or each.startswith("s3:Delete")]
    for statement in bucket_policy.key_policy("clinic")["Statement"]:
        assert set(_all(statement["Resource"])) <= {
            "arn:aws:s3:::clinic",
            "arn:aws:s3:::clinic/*",
            *(f"arn:aws:s3:::clinic/{each}*" for each in ("objects/", *bucket_policy.NEEDED_AT_ONCE)),
        }


def _all(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@given(st.integers(0, 200), st.sampled_from(["GOVERNANCE", "COMPLIANCE", ""]), st.booleans())
def test_only_an_enabled_lock_with_a_mode_counts(days: int, mode: str, enabled: bool) -> None:
    lock = {
        "ObjectLockEnabled": "Enabled" if enabled else "Disabled",
        "Rule": {"DefaultRetention": {"Mode": mode, "Days": days}},
    }
    assert bucket_policy.locked_days(lock) == (days if enabled and mode else 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 100))))
def test_the_shortest_enabled_rule_counts(rules: list[tuple[bool, int]]) -> None:
    told = [
        {
            "Status": "Enabled" if on else "Disabled",
            "NoncurrentVersionExpiration": {"NoncurrentDays": days},
        }
        for on, days in rules
    ]
    assert bucket_policy.shortest_days(told) == min((days for on, days in rules if on), default=None)
    assert not bucket_policy.expires_current(told)
