"""Which protections a bucket has against its own key: its settings are read, and what must be refused is tried on a probe.

The probe is a document of its own that means nothing, so that a bucket which protects nothing loses nothing by the question. A
store that does not know a setting, or does not let the key read it, is told apart from one where it is off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from appliance.lifecycle.storage_class import Tier
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.archive import Versions
from appliance.replication.destinations.bucket_policy import KEPT_DAYS
from appliance.replication.destinations.s3_errors import code_of, in_our_terms

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROBE: Final = "keys/protection-probe"
PROBE_TEXT: Final = b"The clinic's appliance tries whether it can remove this. It means nothing.\n"
_NONE_SET: Final = frozenset(
    {"ObjectLockConfigurationNotFoundError", "NoSuchLifecycleConfiguration", "NoSuchObjectLockConfiguration"}
)
_NO_WAY_PAST: Final = frozenset({"InvalidRequest", "InvalidArgument", "NotImplemented"})
"""What a store says that knows no way past a lock, or has none to pass."""


class State(StrEnum):
    """What was found of one protection."""

    ON = "on"
    MISSING = "missing"
    NOT_TOLD = "not told"  # the store does not know it, or the key may not see it


@dataclass(frozen=True, slots=True)
class Protection:
    """One of them: its name, and in words what was found."""

    name: str
    state: State
    words: str


def protections(client: S3Client, bucket: str) -> list[Protection]:
    """What protects `bucket` from the key that `client` has. Raises what `in_our_terms` does when it can't be reached."""
    with in_our_terms("looking at the protection of the bucket"):
        return [
            _versioning(client, bucket),
            _lock(client, bucket),
            _life_cycle(client, bucket),
            _removal(client, bucket),
        ]


def moves(client: S3Client, bucket: str) -> frozenset[Tier] | None:
    """The tiers that `bucket` moves images to by the box's tags; None where the key may not see its rules, or it knows none.

    Raises as `protections`.
    """
    with in_our_terms("looking at the life cycle of the bucket"):
        answer = _asked(lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket))
        return None if answer is None else bucket_policy.moves_of(answer.get("Rules", []))


def versions(client: S3Client, bucket: str) -> Versions | None:
    """What `bucket` keeps of what was written over, and for how long; None where it is not told. Raises as `protections`."""
    with in_our_terms("looking at the versions of the bucket"):
        status = _asked(lambda: client.get_bucket_versioning(Bucket=bucket))
        if status is None:
            return None
        if not status.get("Status"):  # one that was ever on keeps what it has
            return Versions(are_kept=False)
        rules = _asked(lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket))
        lock = _asked(lambda: client.get_object_lock_configuration(Bucket=bucket))
    if rules is None:
        return None
    days = bucket_policy.ends_versions(rules.get("Rules", []))
    if days is None:
        return Versions(are_kept=True)
    return Versions(
        are_kept=True,
        days=max(days, bucket_policy.locked_days((lock or {}).get("ObjectLockConfiguration", {}))),
    )


def keeps_versions(client: S3Client, bucket: str) -> bool:
    """Whether `bucket` keeps versions, or ever did; False where it is not told. Raises as `protections`."""
    with in_our_terms("looking at the versions of the bucket"):
        return bool((_asked(lambda: client.get_bucket_versioning(Bucket=bucket)) or {}).get("Status"))


def _versioning(client: S3Client, bucket: str) -> Protection:
    answer = _asked(lambda: client.get_bucket_versioning(Bucket=bucket))
    if answer is None:
        return Protection("versioning", State.NOT_TOLD, "whether earlier versions are kept is not told")
    if answer.get("Status") == "Enabled":
        return Protection("versioning", State.ON, "earlier versions are kept")
    return Protection("versioning", State.MISSING, "what is overwritten is gone at once")


def _lock(client: S3Client, bucket: str) -> Protection:
    answer = _asked(lambda: client.get_object_lock_configuration(Bucket=bucket))
    if answer is None:
        return Protection("object lock", State.NOT_TOLD, "whether versions are locked is not told")
    days = bucket_policy.locked_days(answer.get("ObjectLockConfiguration", {}))
    if days >= KEPT_DAYS:
        return Protection("object lock", State.ON, f"each version is locked for {days} days")
    words = f"a version is locked for {days} days, not {KEPT_DAYS}" if days else "versions are not locked"
    return Protection("object lock", State.MISSING, words)


def _life_cycle(client: S3Client, bucket: str) -> Protection:
    answer = _asked(lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket))
    if answer is None:
        return Protection("life cycle", State.NOT_TOLD, "the rules of the life cycle are not told")
    rules = answer.get("Rules", [])
    if bucket_policy.expires_current(rules):
        return Protection("life cycle", State.MISSING, "a rule removes images that are still wanted")
    if bucket_policy.sinks_what_is_needed(rules):
        words = "a rule moves backups or keys to where they can't be read for hours"
        return Protection("life cycle", State.MISSING, words)
    days = bucket_policy.shortest_days(rules)
    if days is not None and days < KEPT_DAYS:
        return Protection("life cycle", State.MISSING, f"earlier versions are removed after {days} days")
    kept = "for ever: a rule should end that" if days is None else f"for {days} days"
    return Protection("life cycle", State.ON, f"earlier versions are kept {kept}")


def _removal(client: S3Client, bucket: str) -> Protection:
    """Try to remove the probe with the box's own key, in each way that there is: each must be refused.

    A lock refuses what the key may do: whoever may pass it over removes all the same, and whoever may not, when it has ended. So a key
    that is refused a version is asked for the object as well, which no lock keeps, and of which a key that may remove nothing is refused
    even the marker.
    """
    made = client.put_object(Bucket=bucket, Key=PROBE, Body=PROBE_TEXT, ChecksumAlgorithm="SHA256")
    version_id = made.get("VersionId", "")
    version = {"VersionId": version_id} if version_id and version_id != "null" else {}
    past_the_lock = {**version, "BypassGovernanceRetention": True}
    for way in (past_the_lock, version, {}) if version else ({},):
        try:
            client.delete_object(Bucket=bucket, Key=PROBE, **way)
        except ClientError as error:
            said = code_of(error)
            if said == "AccessDenied" or (way is past_the_lock and said in _NO_WAY_PAST):
                continue
            raise
        return Protection("removal", State.MISSING, "the box's key can remove what it has written")
    return Protection("removal", State.ON, "the box's key can remove nothing")


def _asked(ask: Callable[[], Any]) -> dict[str, Any] | None:
    """The answer; empty where nothing is set, None where it is not told."""
    try:
        answer: dict[str, Any] = ask()
    except ClientError as error:
        code = code_of(error)
        if code in _NONE_SET:
            return {}
        if code in {
            "AccessDenied",
            "NotImplemented",
            "MethodNotAllowed",
            "InvalidRequest",
            "501",
            "405",
            "403",
        }:
            return None
        raise
    return answer
