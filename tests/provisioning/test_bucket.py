"""The bucket's playbook against an S3 server: twice, after somebody has changed something, and where it must refuse."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from appliance.errors import Refused
from appliance.lifecycle.storage_class import Tier
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.protection import State, protections
from tests.provisioning.test_playbooks import PROVISIONING, tool
from tests.replication.cloud import REGION, Cloud, cloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


def played(folder: Path, there: Cloud, **values: str) -> subprocess.CompletedProcess[str]:
    values = {"bucket_region": REGION, "bucket_endpoint_url": there.url, "bucket_canadian": "true"} | values
    told = [f"{key}={value}" for key, value in values.items()]
    words = [tool("ansible-playbook"), "bucket.yml", *(part for each in told for part in ("-e", each))]
    account = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": REGION}
    places = {"ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_LOCAL_TEMP": str(folder / "local")}
    home = os.environ | account | places | {"NO_COLOR": "1", "PYTHONPATH": str(PROVISIONING.parent)}
    return subprocess.run(words, cwd=PROVISIONING, env=home, capture_output=True, text=True, check=False)


def changed(told: subprocess.CompletedProcess[str]) -> int:
    assert told.returncode == 0, told.stdout + told.stderr
    (count,) = re.findall(r"changed=(\d+)", told.stdout)
    return int(count)


def test_a_bucket_is_made_and_held_to_its_protections_and_a_second_run_changes_nothing(
    the_cloud: Cloud, tmp_path: Path
) -> None:
    key_file = tmp_path / "key.json"
    values = {"bucket_name": "clinic-played", "bucket_user": "clinic-0001", "bucket_key_file": str(key_file)}
    assert changed(played(tmp_path, the_cloud, **values)) == 1
    key = json.loads(key_file.read_text())
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    client = the_cloud.client()
    found = {each.name: each.state for each in protections(client, "clinic-played")}
    assert {found[each] for each in ("versioning", "object lock", "life cycle")} == {State.ON}
    blocked = client.get_public_access_block(Bucket="clinic-played")["PublicAccessBlockConfiguration"]
    assert set(blocked.values()) == {True}
    iam = boto3.client(
        "iam",
        endpoint_url=the_cloud.url,
        region_name=REGION,
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
    )
    names = iam.list_user_policies(UserName="clinic-0001")["PolicyNames"]
    assert [
        iam.get_user_policy(UserName="clinic-0001", PolicyName=each)["PolicyDocument"] for each in names
    ] == [bucket_policy.key_policy("clinic-played")]
    (made,) = iam.list_access_keys(UserName="clinic-0001")["AccessKeyMetadata"]
    assert made["AccessKeyId"] == key["access_key_id"]

    again = played(tmp_path, the_cloud, **values)
    assert changed(again) == 0
    assert key["secret"] not in again.stdout + again.stderr

    tidied = {
        "ID": "tidy",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    }
    client.put_bucket_lifecycle_configuration(
        Bucket="clinic-played", LifecycleConfiguration={"Rules": [tidied]}
    )
    assert changed(played(tmp_path, the_cloud, **values)) == 1
    rules = client.get_bucket_lifecycle_configuration(Bucket="clinic-played")["Rules"]
    assert bucket_policy.shortest_days(rules) == bucket_policy.KEPT_DAYS
    assert json.loads(key_file.read_text()) == key

    moving = values | {"bucket_tiers": "warm,deep"}
    assert [changed(played(tmp_path, the_cloud, **moving)) for _ in range(2)] == [1, 0]
    rules = client.get_bucket_lifecycle_configuration(Bucket="clinic-played")["Rules"]
    assert bucket_policy.moves_of(rules) == {Tier.WARM, Tier.DEEP}
    assert bucket_policy.shortest_days(rules) == bucket_policy.KEPT_DAYS


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"bucket_region": "us-east-1"}, "not in Canada"),
        (
            {"bucket_canadian": "false", "bucket_endpoint_url": "https://s3.example.com"},
            "not known to be in Canada",
        ),
    ],
)
def test_no_bucket_is_made_outside_canada(
    the_cloud: Cloud, tmp_path: Path, values: dict[str, str], reason: str
) -> None:
    told = played(tmp_path, the_cloud, bucket_name="clinic-elsewhere", **values)
    assert told.returncode != 0
    assert reason in told.stdout.replace("\n", " ")
    assert "clinic-elsewhere" not in [each["Name"] for each in the_cloud.client().list_buckets()["Buckets"]]


def test_a_key_that_has_nowhere_to_go_is_not_made(the_cloud: Cloud, tmp_path: Path) -> None:
    key_file = tmp_path / "key.json"
    key_file.write_text("an earlier one")
    values = {"bucket_name": "clinic-kept", "bucket_user": "clinic-0002", "bucket_key_file": str(key_file)}
    assert played(tmp_path, the_cloud, **values).returncode != 0
    assert key_file.read_text() == "an earlier one"


# --- the module itself ---------------------------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the playbook runs, in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    spec = importlib.util.spec_from_file_location(
        "appliance_bucket", PROVISIONING / "library" / "appliance_bucket.py"
    )
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def iam(the_cloud: Cloud, module: Any) -> Any:
    return boto3.client("iam", endpoint_url=the_cloud.url, region_name=REGION)


def asked(there: Cloud, bucket: str, **values: str) -> dict[str, Any]:
    where = {"name": bucket, "region": REGION, "endpoint_url": there.url, "canadian": True}
    return where | {"user": "", "key_file": ""} | values


MORE = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
)


@pytest.mark.parametrize("way", ["inline", "attached", "group"])
def test_no_key_is_made_for_a_user_who_may_more_than_a_box(
    the_cloud: Cloud, module: Any, iam: Any, tmp_path: Path, way: str
) -> None:
    user, bucket, key_file = f"admin-{way}", f"clinic-user-{way}", tmp_path / "key.json"
    iam.create_user(UserName=user)
    match way:
        case "inline":
            iam.put_user_policy(UserName=user, PolicyName="all-inline", PolicyDocument=MORE)
        case "attached":
            made = iam.create_policy(PolicyName="all-attached", PolicyDocument=MORE)["Policy"]
            iam.attach_user_policy(UserName=user, PolicyArn=made["Arn"])
        case _:
            iam.create_group(GroupName="all-group")
            iam.add_user_to_group(GroupName="all-group", UserName=user)
    values = asked(the_cloud, bucket, user=user, key_file=str(key_file))
    with pytest.raises(Refused, match=f"may more than a box should, by all-{way}"):
        module._settled(values, check=False)
    assert iam.list_access_keys(UserName=user)["AccessKeyMetadata"] == []
    assert not key_file.exists()
    assert bucket not in [each["Name"] for each in the_cloud.client().list_buckets()["Buckets"]]


@pytest.mark.parametrize("place", ["us-east-1", "eu-west-1"])
def test_a_bucket_of_another_region_is_left_as_it_is(the_cloud: Cloud, module: Any, place: str) -> None:
    elsewhere = boto3.client("s3", endpoint_url=the_cloud.url, region_name=place)
    name = f"clinic-in-{place}"
    if place == "us-east-1":  # S3 has no word for it
        elsewhere.create_bucket(Bucket=name)
    else:
        elsewhere.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    with pytest.raises(Refused, match=f"is in {place}, not in {REGION}"):
        module._settled(asked(the_cloud, name), check=False)
    assert "Status" not in elsewhere.get_bucket_versioning(Bucket=name)


def test_a_key_that_could_not_be_made_leaves_no_file_in_the_way_of_the_next(
    module: Any, iam: Any, tmp_path: Path
) -> None:
    key_file = tmp_path / "key.json"
    with pytest.raises(ClientError):
        module._write_key(iam, "nobody-there", key_file)
    assert not key_file.exists()
    iam.create_user(UserName="there-now")
    module._write_key(iam, "there-now", key_file)
    assert json.loads(key_file.read_text())["access_key_id"]


def test_a_key_that_could_not_be_written_is_taken_back(
    module: Any, iam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    key_file = tmp_path / "key.json"
    iam.create_user(UserName="disk-full")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            module._write_key(iam, "disk-full", key_file)
    assert iam.list_access_keys(UserName="disk-full")["AccessKeyMetadata"] == []
    assert not key_file.exists()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        patched.setattr(iam, "delete_access_key", lambda **_: iam.delete_user(UserName="nobody-there"))
        with pytest.raises(Refused, match="nor taken back"):
            module._write_key(iam, "disk-full", key_file)


def test_where_the_disk_is_full_and_the_key_stays_the_operator_is_told_which(
    module: Any, iam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really full: what a buffer still holds would be written once more as it is closed, and that error told instead."""
    key_file = tmp_path / "key.json"
    iam.create_user(UserName="full-disk")
    monkeypatch.setattr(iam, "delete_access_key", lambda **_: iam.delete_user(UserName="nobody-there"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(Refused) as refused:
            module._write_key(iam, "full-disk", key_file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (left,) = iam.list_access_keys(UserName="full-disk")["AccessKeyMetadata"]
    assert left["AccessKeyId"] in str(refused.value)
    assert not key_file.exists()
