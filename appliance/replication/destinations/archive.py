"""What an archive is: a destination that holds the ciphertext, and enough beside it to rebuild a blank box.

Layout of every archive, a bucket, a disk or a file server (everything in it is sealed; names say nothing about anyone)::

    objects/ab/<object id>.sealed       a sealed object, byte for byte the local file
    manifests/<digest>.sealed           what a study consists of (appliance.replication.manifest)
    snapshots/<moment>-<random>/…       the catalog as of one moment (appliance.backup.snapshot)
    kept/<digest>-<digest>.sealed       a manifest from before a restore that says more than the restored box knows
    keys/root.recovery                  the root key, wrapped by the recovery key
    keys/later-<digest>                 one of a later root key, kept when a box came back with an earlier paper
    keys/connection-test                a constant text that the connection test writes and reads
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final, Protocol, runtime_checkable

from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient
from appliance.lifecycle.storage_class import Retrieval, Tier
from appliance.model import ObjectId
from appliance.replication.destinations.parcel import Parcel

MANIFESTS: Final = "manifests/"
SNAPSHOTS: Final = "snapshots/"
KEPT: Final = "kept/"
KEYS: Final = "keys/"
RECOVERY_SLOT: Final = "keys/root.recovery"
LATER_SLOT: Final = "keys/later-"
CONNECTION_TEST: Final = "keys/connection-test"
CONNECTION_TEXT: Final = b"The clinic's appliance can write here.\n"
BLOCK_BYTES: Final = 1 << 20
UNNAMED: Final = "null"
"""S3's name for the version that was written while a bucket kept none, whose receipt therefore names no version. It is kept once versions
are, whatever is written over it then; what is written while they are suspended takes its place."""


@dataclass(frozen=True, slots=True)
class Document:
    """Something that an archive holds, by its key, and when it was written there."""

    key: str
    written_utc: datetime


@runtime_checkable
class Archive(Protocol):
    """The reading side, and documents beside the objects. Everything raises what `Session.send` raises."""

    def put_document(self, key: str, data: bytes) -> None:
        """Write a sealed document over what is there, and read it back."""

    def document(self, key: str) -> bytes:
        """A whole document. Raises `Unknown` if there is none."""

    def documents(self, prefix: str) -> Iterator[Document]:
        """Everything whose key begins with `prefix`, which ends with a slash, in order of key."""

    def blocks(self, key: str) -> Iterator[bytes]:
        """A large one, piece by piece. Raises `Unknown` if there is none."""


@runtime_checkable
class Distant(Archive, Protocol):
    """An archive that takes long to answer, and answers several at once: not a disk."""

    @property
    def reads_at_once(self) -> int:
        """So many documents may be asked for at once, each by a thread of its own."""


@runtime_checkable
class Clearable(Archive, Protocol):
    """An archive where the box itself removes what has had its time: a disk, a file server; never a bucket.

    In a bucket the box has no right to remove anything, so that whoever takes the box over has none.
    """

    def remove(self, key: str) -> None:
        """Remove a document, if it is there."""

    def remove_parts(self, keys: Sequence[str]) -> None:
        """Remove what attempts that were cut have left of these, half written or put aside. Nobody may be writing one of them."""


@runtime_checkable
class Keeping(Archive, Protocol):
    """An archive that keeps for a while what was written over or removed: a bucket with versions."""

    def keeps_versions(self) -> bool:
        """Whether it does, or ever did; False where it doesn't tell. Raises what `Session.send` raises."""

    def blocks_of(self, key: str, version_id: str) -> Iterator[bytes]:
        """One version of what `blocks` gives the newest of. Raises `Unknown` if it is gone, or was never kept."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of what an archive holds under a key, and its length; `is_removal` for a marker that it was removed then."""

    key: str
    version_id: str
    written_utc: datetime
    is_latest: bool
    is_removal: bool = False
    bytes: int = 0


@runtime_checkable
class Recounting(Keeping, Protocol):
    """An archive that tells which versions it has kept (`past`)."""

    def versions_below(self, prefix: str) -> Iterator[Version]:
        """Every version of everything whose key begins with `prefix`, in order of key, of each the latest first."""

    def document_of(self, key: str, version_id: str) -> bytes:
        """One version of what `document` gives the newest of. Raises `Unknown` if it is gone."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a store says of an object without giving it back. Empty texts are what it does not tell; `sha256` is hexadecimal."""

    bytes: int
    etag: str = ""
    version_id: str = ""
    sha256: str = ""


@runtime_checkable
class Telling(Archive, Protocol):
    """An archive that says of an object what it is, for the price of one small request."""

    def told(self, key: str) -> Told:
        """What the store says of an object, wherever it lies. Raises `Unknown` if there is none."""

    def since(self, key: str) -> datetime | None:
        """When what lies under a key was written there, or was marked as removed; None where the store doesn't say."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the list of a store says of an object; its check sum or its version no list has."""

    key: str
    bytes: int
    etag: str = ""


@runtime_checkable
class Listing(Archive, Protocol):
    """An archive that says of a thousand objects at once what they are, for the price of one small request."""

    def listed(self, prefix: str, after: str, most: int) -> tuple[Sequence[Entry], bool]:
        """The first `most` of the keys that begin with `prefix` and come after `after`, in order; whether there are more."""


def differs(told: Told, receipt: Mapping[str, Any], sealed_bytes: int) -> str:
    """In which way an object is not what its receipt says, in words; empty where all that both tell agrees."""
    if told.bytes != sealed_bytes:
        return "it has another length"
    for name, words in (
        ("version_id", "it was written over"),
        ("etag", "its content is another"),
        ("sha256", "its check sum is another"),
    ):
        known, found = str(receipt.get(name, "")), str(getattr(told, name))
        if known and found and known != found:
            return words
    return ""


def may_be(told: Told, receipt: Mapping[str, Any], sealed_bytes: int) -> bool:
    """Whether an object, as whichever version, can have the content of its receipt: it is as long, and one of the check sums agrees that both
    tell. Whoever copies an object may give it another of one kind."""
    told_of = ((str(receipt.get(name, "")), str(getattr(told, name))) for name in ("etag", "sha256"))
    sums = [known == found for known, found in told_of if known and found]
    return told.bytes == sealed_bytes and (not sums or any(sums))


@dataclass(frozen=True, slots=True)
class Versions:
    """What a store keeps of what was written over: nothing, or each version for `days`; None of them is for ever."""

    are_kept: bool
    days: int | None = None


@runtime_checkable
class Remembering(Archive, Protocol):
    """An archive that may keep what was written over."""

    def versions(self) -> Versions | None:
        """What it keeps of that; None where it does not tell. Raises what `Session.send` raises."""


@runtime_checkable
class Waking(Archive, Protocol):
    """An archive whose objects may lie so deep that reading one raises `Resting` until it was asked for and has come up."""

    def wake(self, key: str, retrieval: Retrieval, version_id: str = "") -> None:
        """Ask for an object to be fetched in that way, unless that was done already, in whichever, or it can be read.

        With `version_id` that version of it, whatever was written over it. Raises `Unknown` if there is none.
        """


@runtime_checkable
class Tiered(Archive, Protocol):
    """An archive that keeps objects in several classes of storage, and moves them by what the box says of each."""

    def say_tier(self, key: str, tier: Tier) -> None:
        """Say how far away an object may lie from now on. Raises `Unknown` if there is none, `KeepsNoTags` if it can't be told."""

    def moves(self) -> frozenset[Tier] | None:
        """The tiers that it moves objects to by what the box says of each; None if it doesn't tell."""


class KeepsNoTags(OperatorNeeded):
    """An archive of the kind that has classes of storage, which can't be told of an object in which it may lie, and never could."""


def parts_of_key(key: str) -> tuple[str, ...]:
    """A key's parts, for archives where it becomes a path. Raises `Refused` for what is no key of an archive."""
    parts = PurePosixPath(key).parts
    if not parts or any(part in {"..", "/", "."} or "\0" in part for part in parts):
        raise Refused("that is no key of an archive")
    return parts


def object_key(object_id: ObjectId) -> str:
    """Where an object is in every archive."""
    return f"objects/{object_id[:2]}/{object_id}.sealed"


def verified_digest(parcel: Parcel) -> bytes:
    """The SHA-256 of the ciphertext, which has been opened from end to end. Raises `Corrupt`, `Transient`."""
    digest = hashlib.sha256()
    try:
        with parcel.sealed_path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        with parcel.open() as opened:
            while opened.read(BLOCK_BYTES):
                pass
    except FileNotFoundError as error:
        raise Corrupt("a sealed object is not on this disk") from error
    except OSError as error:
        raise Transient("a sealed object could not be read from this disk") from error
    if length != parcel.sealed_bytes:
        raise Corrupt("a sealed object is not as long as it was")
    return digest.digest()
