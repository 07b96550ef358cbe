#!/usr/bin/python
"""Ansible module: a clinic's bucket as the appliance wants it, and the one user whose key the box gets.

What the box may do and how the bucket keeps versions is `appliance.replication.destinations.bucket_policy`, the same that
``appliance destination policy`` prints: the interpreter that runs this must have the appliance installed. It runs with an account that
may make buckets and users, which no box ever sees.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from ansible.module_utils.basic import AnsibleModule
from botocore.exceptions import BotoCoreError, ClientError

from appliance.errors import ApplianceError, Refused
from appliance.lifecycle.storage_class import Tier
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.canada import canadian

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PublicAccessBlockConfigurationTypeDef

DOCUMENTATION = """
module: appliance_bucket
short_description: A bucket with versions, lock and life cycle, and a user who may add and read but remove nothing
options:
  name: {description: The bucket's name., type: str, required: true}
  region: {description: A Canadian region., type: str, required: true}
  endpoint_url: {description: Another provider's address., type: str, default: ""}
  canadian: {description: Declares that this address keeps objects in Canada., type: bool, default: false}
  tiers: {description: Where the box may send images (warm, cold, deep)., type: list, elements: str, default: []}
  user: {description: The user whose key the box gets; empty where users are made otherwise., type: str, default: ""}
  key_file: {description: Where a new access key is written once; readable by you only., type: path, default: ""}
author: [the appliance's engineers]
"""

POLICY_NAME = "clinic-edge-appliance"
FIRST_REGION = "us-east-1"
"""Where a bucket is that names no region."""
PRIVATE: PublicAccessBlockConfigurationTypeDef = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
_NOT_SET = frozenset(
    {
        "NoSuchBucket",
        "404",
        "NoSuchPublicAccessBlockConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "NoSuchLifecycleConfiguration",
        "NoSuchEntity",
    }
)


class Bucket:
    """What is, what is wanted, and the acts between the two; with `check`, the acts are only named."""

    def __init__(self, s3: S3Client, name: str, region: str, *, check: bool) -> None:
        self._s3, self._name, self._region, self._check = s3, name, region, check
        self._is_there = _asked(lambda: s3.head_bucket(Bucket=name)) is not None
        self.done: list[str] = []

    def bring_up(self, tiers: frozenset[Tier]) -> None:
        """Create it if need be, and set what differs. Raises `Refused` for one that is in another region."""
        wanted = bucket_policy.bucket_settings(tiers)
        if self._is_there:
            self._refuse_elsewhere()
        else:
            self._act("create the bucket", self._create)
        if self._now(self._public) != PRIVATE:
            self._act("keep public access out", self._set_public)
        if self._now(self._versioning) != "Enabled":
            self._act("keep versions", lambda: self._set_versioning(wanted["Versioning"]))
        if bucket_policy.locked_days(self._now(self._lock) or {}) < bucket_policy.KEPT_DAYS:
            self._act("lock versions", lambda: self._set_lock(wanted["ObjectLockConfiguration"]))
        rules, ours = self._now(self._rules) or [], wanted["LifecycleConfiguration"]["Rules"]
        if not _is_life_cycle(rules) or bucket_policy.moves_of(rules) != bucket_policy.moves_of(ours):
            kept = [each for each in rules if _is_theirs(each)]
            self._act(
                "end what was overwritten, and move images as the box says",
                lambda: self._set_rules([*kept, *ours]),
            )

    def _refuse_elsewhere(self) -> None:
        told: Any = self._s3.get_bucket_location(Bucket=self._name).get("LocationConstraint")
        there = told or FIRST_REGION
        if there != self._region:
            raise Refused(
                f"the bucket {self._name} is in {there}, not in {self._region}",
                hint="choose another name, or the region that it is in",
            )

    def _now(self, ask: Callable[[], Any]) -> Any:
        return _asked(ask) if self._is_there else None

    def _act(self, words: str, act: Callable[[], object]) -> None:
        if not self._check:
            act()
            self._is_there = True
        self.done.append(words)

    def _create(self) -> None:
        self._s3.create_bucket(
            Bucket=self._name,
            CreateBucketConfiguration={"LocationConstraint": self._region},  # type: ignore[typeddict-item]  # providers have own names
            ObjectLockEnabledForBucket=True,
        )

    def _public(self) -> Any:
        return self._s3.get_public_access_block(Bucket=self._name)["PublicAccessBlockConfiguration"]

    def _set_public(self) -> None:
        self._s3.put_public_access_block(Bucket=self._name, PublicAccessBlockConfiguration=PRIVATE)

    def _versioning(self) -> Any:
        return self._s3.get_bucket_versioning(Bucket=self._name).get("Status")

    def _set_versioning(self, wanted: Any) -> None:
        self._s3.put_bucket_versioning(Bucket=self._name, VersioningConfiguration=wanted)

    def _lock(self) -> Any:
        return self._s3.get_object_lock_configuration(Bucket=self._name)["ObjectLockConfiguration"]

    def _set_lock(self, wanted: Any) -> None:
        self._s3.put_object_lock_configuration(Bucket=self._name, ObjectLockConfiguration=wanted)

    def _rules(self) -> Any:
        return self._s3.get_bucket_lifecycle_configuration(Bucket=self._name)["Rules"]

    def _set_rules(self, wanted: Any) -> None:
        self._s3.put_bucket_lifecycle_configuration(
            Bucket=self._name, LifecycleConfiguration={"Rules": wanted}
        )


def _is_theirs(rule: dict[str, Any]) -> bool:
    """Whether a rule is the clinic's own, and does no harm: it stays."""
    ends = {"Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"} & set(rule)
    ours = {bucket_policy.rule_name(tier) for tier in bucket_policy.MOVES_AFTER_DAYS}
    return not ends and rule.get("ID") not in ours and not bucket_policy.sinks_what_is_needed([rule])


def _is_life_cycle(rules: list[dict[str, Any]]) -> bool:
    """Whether overwritten versions and old backups end when they should, cut uploads end, and nothing that is wanted does."""
    cut = any(each.get("Status") == "Enabled" and "AbortIncompleteMultipartUpload" in each for each in rules)
    return (
        cut
        and not bucket_policy.expires_current(rules)
        and bucket_policy.ends_backups(rules)
        and not bucket_policy.sinks_what_is_needed(rules)
        and bucket_policy.shortest_days(rules) == bucket_policy.KEPT_DAYS
    )


def settle_user(iam: Any, user: str, bucket: str, key_file: Path, *, check: bool) -> list[str]:
    """The user with that policy alone; a first key goes into `key_file`, which is never overwritten. Says what was done."""
    done = list[str]()
    wanted = bucket_policy.key_policy(bucket)
    is_there = _asked(lambda: iam.get_user(UserName=user)) is not None
    if not is_there:
        done.append("create the user")
        if not check:
            iam.create_user(UserName=user)
            is_there = True
    policy = _asked(lambda: iam.get_user_policy(UserName=user, PolicyName=POLICY_NAME)) if is_there else None
    if policy is None or policy["PolicyDocument"] != wanted:
        done.append("give the user its policy")
        if not check:
            iam.put_user_policy(UserName=user, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(wanted))
    has_key = is_there and bool(iam.list_access_keys(UserName=user)["AccessKeyMetadata"])
    if not has_key:
        done.append("make an access key")
        if not check:
            _write_key(iam, user, key_file)
    return done


def refuse_a_mightier(iam: Any, user: str) -> None:
    """Raises `Refused` for a user who is there and may more than a box should, by another policy or a group."""
    if _asked(lambda: iam.get_user(UserName=user)) is None:
        return
    more = [
        *(each for each in iam.list_user_policies(UserName=user)["PolicyNames"] if each != POLICY_NAME),
        *(each["PolicyName"] for each in iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]),
        *(each["GroupName"] for each in iam.list_groups_for_user(UserName=user)["Groups"]),
    ]
    if more:
        raise Refused(
            f"the user {user} may more than a box should, by {', '.join(sorted(more))}",
            hint="name a user of the box's own, or take these away from this one",
        )


def _write_key(iam: Any, user: str, key_file: Path) -> None:
    """The file is made before the key, and a key that can't be written is taken back, so that none exists which nobody has."""
    descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            made = iam.create_access_key(UserName=user)["AccessKey"]
        except BaseException:
            key_file.unlink()  # an empty one would keep the next run from making a key
            raise
        told = json.dumps({"access_key_id": made["AccessKeyId"], "secret": made["SecretAccessKey"]}) + "\n"
        try:
            _write(descriptor, told.encode())
        except OSError as error:
            key_file.unlink()
            _take_back(iam, user, made["AccessKeyId"], error)
            raise
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    """All of it, durably. Not through a file of Python's: closing that writes once more what a full disk has refused, and fails in the stead of what is
    to be said."""
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _take_back(iam: Any, user: str, key: str, why: OSError) -> None:
    """Raises `Refused` where it stays: the next run would find that the user has a key."""
    try:
        iam.delete_access_key(UserName=user, AccessKeyId=key)
    except (ClientError, BotoCoreError) as error:
        raise Refused(
            f"the access key {key} of {user} could not be written ({why}), nor taken back ({error})",
            hint="remove it by hand, and run this again",
        ) from error


def _asked(ask: Callable[[], Any]) -> Any:
    """The answer, or None where there is none."""
    try:
        return ask()
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_SET:
            return None
        raise


def main() -> None:
    """Read the arguments, compare, act, and say what was done."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "region": {"type": "str", "required": True},
            "endpoint_url": {"type": "str", "default": ""},
            "canadian": {"type": "bool", "default": False},
            "tiers": {"type": "list", "elements": "str", "choices": ["warm", "cold", "deep"], "default": []},
            "user": {"type": "str", "default": ""},
            "key_file": {"type": "path", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        done = _settled(module.params, check=module.check_mode)
    except ApplianceError as refusal:
        module.fail_json(msg=f"{refusal}: {refusal.hint}")
    except (ClientError, BotoCoreError, OSError) as error:
        module.fail_json(msg=f"the account did not allow it, or could not do it: {error}")
    else:
        module.exit_json(changed=bool(done), done=done)


def _settled(asked: dict[str, Any], *, check: bool) -> list[str]:
    canadian(asked["region"], asked["endpoint_url"], asked["canadian"])
    if asked["user"] and not asked["key_file"]:
        raise Refused("a user's key must go somewhere", hint="give key_file")
    tiers = frozenset(Tier(each) for each in asked.get("tiers", ()))
    where = {"region_name": asked["region"]} | (
        {"endpoint_url": asked["endpoint_url"]} if asked["endpoint_url"] else {}
    )
    iam = boto3.client("iam", **where)
    if asked["user"]:
        refuse_a_mightier(iam, asked["user"])
    bucket = Bucket(boto3.client("s3", **where), asked["name"], asked["region"], check=check)
    bucket.bring_up(tiers)
    if not asked["user"]:
        return bucket.done
    key_file = Path(asked["key_file"])
    return bucket.done + settle_user(iam, asked["user"], asked["name"], key_file, check=check)


if __name__ == "__main__":
    main()
