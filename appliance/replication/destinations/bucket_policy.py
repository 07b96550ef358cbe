"""What the box's key may do in its bucket, and how the bucket keeps what the box could be made to overwrite. Pure.

Whoever takes the box over has its key. So the key may add and read, and nothing in it removes a version, shortens how long one is
kept, or changes the bucket: what was committed stays readable for `KEPT_DAYS`, whatever the box does. Overwriting is allowed,
since manifests grow; it makes another version, and the one before it is kept.

Chose governance mode for the lock's default: a clinic that is obliged to destroy a study can do so with an account of its
own, which the box never sees. Rejected: compliance mode by default, which nobody can undo, not even for a duty to destroy; and a
lock without versioning, which S3 does not offer.

How far away an image lies is said by a tag of its object, and done by a rule for each tier that the clinic has chosen. The box
knows what is held, and what was opened yesterday; a rule knows neither, and a tag leaves version and lock as they are. Rejected:
rules by age alone, for that reason; and copying an object over itself into another class, which makes a version to be paid for.

The grants are the acts that `s3`, `multipart` and `protection` do, no more. The denials repeat what is not granted, because a
grant that somebody adds elsewhere (an "S3 full access" for the same user) must not undo them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from appliance.lifecycle.storage_class import CLASSES, DOWNWARDS, OF_TIER, Tier
from appliance.replication.destinations.archive import KEPT, KEYS, MANIFESTS, SNAPSHOTS

TAG: Final = "tier"
"""The tag of an object that says how far away it may lie. The box sets it; a rule for each tier moves what has it."""
IMAGES: Final = "objects/"
"""Those alone move, which are opened one by one. Keys, manifests and backups stay where they can be read at once."""
NEEDED_AT_ONCE: Final = (KEYS, KEPT, MANIFESTS, SNAPSHOTS)
MOVES_AFTER_DAYS: Final = {Tier.WARM: 30, Tier.COLD: 1, Tier.DEEP: 1}
"""Since an object was written, the least that S3 takes: what is tagged was written long before."""
KEPT_DAYS: Final = 35
BACKUPS_DAYS: Final = 400
"""After so many a backup ends: by a rule of the bucket, which cannot spare the newest few as the box does on a disk. So it is long: a
box that was off for a year finds its last ones, and earlier than that none is too old to be of use."""
INCOMPLETE_DAYS: Final = 7

ON_BUCKET: Final = (
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListBucketVersions",
    "s3:GetBucketLocation",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetLifecycleConfiguration",
)
ON_OBJECTS: Final = (
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:PutObject",
    "s3:RestoreObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)
ON_IMAGES: Final = ("s3:PutObjectTagging",)
NEVER: Final = (
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutBucketAcl",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectAcl",
    "s3:PutObjectLegalHold",
    "s3:PutObjectRetention",
    "s3:PutReplicationConfiguration",
)


def key_policy(bucket: str) -> dict[str, Any]:
    """The IAM policy of the box's key: attach it to the user whose access key the box has, and nothing else."""
    whole, within = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "LookAtTheBucket", "Effect": "Allow", "Action": [*ON_BUCKET], "Resource": whole},
            {"Sid": "AddAndRead", "Effect": "Allow", "Action": [*ON_OBJECTS], "Resource": within},
            {
                "Sid": "SayHowFarAway",
                "Effect": "Allow",
                "Action": [*ON_IMAGES],
                "Resource": f"{whole}/{IMAGES}*",
            },
            {
                "Sid": "SinkNothingElse",
                "Effect": "Deny",
                "Action": [*ON_IMAGES],
                "Resource": [f"{whole}/{each}*" for each in NEEDED_AT_ONCE],
            },
            {"Sid": "RemoveNothing", "Effect": "Deny", "Action": [*NEVER], "Resource": [whole, within]},
        ],
    }


def bucket_settings(tiers: Collection[Tier] = ()) -> dict[str, Any]:
    """How the bucket is to be set, in the words of S3's own requests; the lock has to be chosen when it is created.

    `tiers` are those that images may go to: without its rule, a tag moves nothing.
    """
    return {
        "Versioning": {"Status": "Enabled"},
        "ObjectLockConfiguration": {
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": KEPT_DAYS}},
        },
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "ID": "earlier-versions",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": KEPT_DAYS},
                },
                {
                    "ID": "uploads-that-were-cut",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": INCOMPLETE_DAYS},
                },
                {
                    "ID": "backups",
                    "Status": "Enabled",
                    "Filter": {"Prefix": SNAPSHOTS},
                    "Expiration": {"Days": BACKUPS_DAYS},
                },
                *moving_rules(tiers),
            ]
        },
    }


def _rule(tier: Tier) -> dict[str, Any]:
    return {
        "ID": rule_name(tier),
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": IMAGES, "Tags": [{"Key": TAG, "Value": str(tier)}]}},
        "Transitions": [{"Days": MOVES_AFTER_DAYS[tier], "StorageClass": OF_TIER[tier].name}],
    }


def rule_name(tier: Tier) -> str:
    """The name of the rule by which images go to a tier."""
    return f"images-{tier}"


def locked_days(lock: dict[str, Any]) -> int:
    """For how many days a new version can't be removed, by an answer of GetObjectLockConfiguration; 0 for not at all."""
    retention = lock.get("Rule", {}).get("DefaultRetention", {})
    if lock.get("ObjectLockEnabled") != "Enabled" or retention.get("Mode") not in {
        "GOVERNANCE",
        "COMPLIANCE",
    }:
        return 0
    return int(retention.get("Days", 0)) + 365 * int(retention.get("Years", 0))


def shortest_days(rules: list[dict[str, Any]]) -> int | None:
    """After how many days the life-cycle removes a version that was overwritten, by its enabled rules; None for never."""
    days = [
        int(each["NoncurrentVersionExpiration"].get("NoncurrentDays", 0))
        for each in rules
        if each.get("Status") == "Enabled" and "NoncurrentVersionExpiration" in each
    ]
    return min(days, default=None)


def ends_versions(rules: list[dict[str, Any]]) -> int | None:
    """After how many days the life-cycle has removed every version that was overwritten, whatever its name; None for never.

    Where `shortest_days` is what a thief may count on, this is what a certificate may: a rule of some names, tags or sizes ends not all,
    nor does one that spares the newest few.
    """
    days = [
        int(ends.get("NoncurrentDays", 0))
        for each in rules
        if each.get("Status") == "Enabled" and (ends := each.get("NoncurrentVersionExpiration"))
        if not ends.get("NewerNoncurrentVersions") and not _prefix_of(each) and not _is_narrowed(each)
    ]
    return min(days, default=None)


def expires_current(rules: list[dict[str, Any]]) -> bool:
    """Whether an enabled rule of the life-cycle removes what was never overwritten and is wanted: all but old backups is."""
    return any(
        each.get("Status") == "Enabled"
        and {"Days", "Date"} & set(each.get("Expiration", {}))
        and not _ends_old_backups(each)
        for each in rules
    )


def ends_backups(rules: list[dict[str, Any]]) -> bool:
    """Whether an enabled rule of the life-cycle ends old backups: nothing else does, for the box may remove nothing.

    One for those of a tag, of a size, or of a longer prefix ends none of ours, or not all.
    """
    return any(
        each.get("Status") == "Enabled" and _ends_old_backups(each) and _is_of_all_backups(each)
        for each in rules
    )


def _is_of_all_backups(rule: dict[str, Any]) -> bool:
    return _prefix_of(rule) == SNAPSHOTS and not _is_narrowed(rule)


def _is_narrowed(rule: dict[str, Any]) -> bool:
    """Whether a rule is only for objects of a tag or of a size."""
    chosen = rule.get("Filter", {})
    both = chosen.get("And", {})
    return any(chosen.get(each) or both.get(each) for each in {*chosen, *both} - {"Prefix", "And"})


def _ends_old_backups(rule: dict[str, Any]) -> bool:
    ends = rule.get("Expiration", {})
    return (
        _prefix_of(rule).startswith(SNAPSHOTS)
        and "Date" not in ends
        and int(ends.get("Days", 0)) >= BACKUPS_DAYS
    )


def sinks_what_is_needed(rules: Sequence[dict[str, Any]]) -> bool:
    """Whether an enabled rule moves more than images to where nothing is read for hours: an archive must have none.

    Without manifests, keys and backups nothing can be restored, nor a bucket be read at all.
    """
    return any(
        each.get("Status") == "Enabled"
        and not _prefix_of(each).startswith(IMAGES)
        and any(
            name not in CLASSES or CLASSES[name].wait_hours
            for move in (*each.get("Transitions", ()), *each.get("NoncurrentVersionTransitions", ()))
            if (name := str(move.get("StorageClass"))) != "INTELLIGENT_TIERING"
        )
        for each in rules
    )


def _prefix_of(rule: dict[str, Any]) -> str:
    chosen = rule.get("Filter", {})
    return str(chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def moves_of(rules: Sequence[dict[str, Any]]) -> frozenset[Tier]:
    """The tiers that images go to by rules that are in force and go by the box's tags, whoever wrote them and after however many days."""
    return frozenset(
        tier
        for tier in MOVES_AFTER_DAYS
        for each in rules
        if each.get("Status") == "Enabled" and IMAGES.startswith(_prefix_of(each))
        if _tags_of(each) == [(TAG, str(tier))] and OF_TIER[tier].name in _classes_of(each)
    )


def moving_rules(tiers: Collection[Tier]) -> list[dict[str, Any]]:
    """The rules by which images go to these tiers, to be added to those that a bucket has."""
    return [_rule(each) for each in DOWNWARDS if each in tiers and each in MOVES_AFTER_DAYS]


def _tags_of(rule: dict[str, Any]) -> list[tuple[str, str]]:
    chosen = rule.get("Filter", {})
    tags = chosen.get("And", {}).get("Tags") or [each for each in [chosen.get("Tag")] if each]
    return [(str(each["Key"]), str(each["Value"])) for each in tags]


def _classes_of(rule: dict[str, Any]) -> set[str]:
    return {str(each.get("StorageClass")) for each in rule.get("Transitions", ())}
