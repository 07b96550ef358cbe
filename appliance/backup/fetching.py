"""What a backup in an archive is opened with: the root key by the paper, its own key, and its catalog in a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from appliance.audit import Witness
from appliance.backup import ahead, snapshot
from appliance.backup.snapshot import Age, Index, Piece
from appliance.catalog import copying
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Refused, Unknown, Unreadable
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import (
    KEYS,
    LATER_SLOT,
    RECOVERY_SLOT,
    SNAPSHOTS,
    Remembering,
)
from appliance.replication.destinations.past import Past, parted
from appliance.store.disk import disk_error
from appliance.store.keys import RootKey, open_with_recovery
from appliance.store.recovery import RecoveryKey

PIECES_AT_ONCE: Final = 4
"""Of a catalog: each is 8 MiB, and one connection does not always fill a line that is long."""

_SLOT: Final = "/root.recovery"
"""How the keys of the slots end: the archive's own, and that beside each backup."""

WRITTEN_OVER: Final = (
    "check that it is the right bucket; if somebody has written over or removed what lay there, it is there still: "
    "restore it as it was before (--as-of at a command line)"
)
"""The hint where a bucket that keeps earlier versions holds nothing that opens."""

_OTHER_PAPERS: Final = "try every recovery key that this clinic has printed: an archive that was away when a new one was issued opens with the one before"

Tell = Callable[[str, int, int], None]
"""Told which part is under way (``catalog`` in bytes, ``manifests`` by number), how much is done, of how much (0: unknown)."""


def snapshot_key(archive: Archive, root: RootKey, name: str) -> bytes:
    """The key of the copied catalog. Raises `Corrupt` if it was destroyed, which no restore can undo, or is damaged."""
    sealed = archive.document(snapshot.key_key(name))
    if sealed == snapshot.DESTROYED:
        raise Corrupt("the key of the backup was destroyed", hint="use another backup")
    return root.unseal(sealed, snapshot.key_context(name))


def open_root(archive: Archive, names: list[str], key: RecoveryKey) -> tuple[bytes, RootKey]:
    """Of the recovery slots that `key` opens the one of the latest root key, and that root key.

    A backup that was made right after a rotation of the root key may have brought a later one than the archive's own slot:
    the paper is the same for both. All are tried: which backup is the newest, only what they open can tell. Of a bucket as it stood at a
    moment those that came since are tried too: what was sealed after a rotation opens with a later root key alone, and a paper that was
    made since opens no slot of then. Raises `Refused` for a paper of another box, or of this one from before the archive got the slot that
    it has, or since: which of these it is, no slot tells. Raises `OperatorNeeded` where there is no slot at all.
    """
    aside = [each.key for each in archive.documents(KEYS) if each.key.startswith(LATER_SLOT)]
    own = (*sorted(aside), RECOVERY_SLOT)
    found, wrong = _opened(archive, (*own, *(snapshot.slot_key(name) for name in names)), key)
    if isinstance(archive, Past) and (found or wrong):
        later = archive.later()
        since = [each.key for prefix in (KEYS, SNAPSHOTS) for each in later.documents(prefix)]
        slots = [each for each in since if each.endswith(_SLOT) or parted(each)[1].startswith(LATER_SLOT)]
        found = _later(found, _opened(later, slots, key)[0])
    if found is not None:
        return found
    if wrong is not None:
        if isinstance(wrong, Corrupt) and _remembers(archive):
            raise Corrupt(wrong.message, hint=WRITTEN_OVER) from wrong
        if isinstance(wrong, Refused):
            raise Refused(
                "this is a recovery key, but none that opens this archive", hint=_OTHER_PAPERS
            ) from wrong
        raise wrong
    raise OperatorNeeded(
        "this archive holds nothing of a box: no wrapped root key is in it",
        hint=WRITTEN_OVER
        if _remembers(archive)
        else "check the bucket or the folder; it is where the box has kept its sealed copies",
    )


def _opened(
    archive: Archive, slots: Sequence[str], key: RecoveryKey
) -> tuple[tuple[bytes, RootKey] | None, ApplianceError | None]:
    """Of `slots` the one of the latest root key that `key` opens, and that; and what is wrong with the first that it doesn't open."""
    found: tuple[bytes, RootKey] | None = None
    wrong: ApplianceError | None = None
    with ahead.reading(archive, slots, lambda where: where) as documents:
        for _, document in documents:
            try:
                slot = document()
                found = _later(found, (slot, open_with_recovery(slot, key)))
            except Unknown:
                continue
            except (Refused, Corrupt, Unreadable) as error:
                wrong = wrong or error
    return found, wrong


def _later(
    one: tuple[bytes, RootKey] | None, other: tuple[bytes, RootKey] | None
) -> tuple[bytes, RootKey] | None:
    """That of the later root key; of the same one the first."""
    if one is None or other is None:
        return one or other
    return other if other[1].generation > one[1].generation else one


def _remembers(archive: Archive) -> bool:
    """Whether an archive has, or may have, what somebody has written over or removed."""
    if not isinstance(archive, Remembering):
        return False
    try:
        kept = archive.versions()
    except ApplianceError:
        return False
    return kept is None or kept.are_kept


def indexes(archive: Archive, root: RootKey, names: Sequence[str]) -> dict[str, Index]:
    """What the snapshots called `names` say of themselves: a small document of each is read.

    Without those that say nothing: whoever opens one says what is wrong with it. Raises what the archive raises.
    """
    found: dict[str, Index] = {}
    with ahead.reading(archive, names, snapshot.index_key) as documents:
        for name, document in documents:
            try:
                found[name] = snapshot.decode(name, root.unseal(document(), snapshot.context(name)))
            except (Corrupt, Unknown, Unreadable):
                continue
    return found


def ages_of(found: Mapping[str, Index]) -> dict[str, Age]:
    """When each was made, as no clock tells; without those whose witness is none. Pure."""
    ages: dict[str, Age] = {}
    for name, index in found.items():
        with suppress(Refused):
            ages[name] = age_of(index)
    return ages


def ages(archive: Archive, root: RootKey, names: Sequence[str]) -> dict[str, Age]:
    """When the snapshots called `names` were made, as no clock tells. Raises what the archive raises."""
    return ages_of(indexes(archive, root, names))


def age_of(index: Index) -> Age:
    """Raises `Refused` where its witness is none."""
    return Age(index.lives, Witness.parse(index.audit).count)


@dataclass(frozen=True, slots=True)
class _Place:
    """A piece of a catalog, which of them it is, and where in the file it belongs."""

    number: int
    offset: int
    piece: Piece


def _lacking(file: BinaryIO, pieces: Sequence[Piece]) -> list[_Place]:
    """The pieces that `file` does not hold whole."""
    found: list[_Place] = []
    offset = 0
    for number, piece in enumerate(pieces):
        file.seek(offset)
        if hashlib.sha256(file.read(piece.size_bytes)).hexdigest() != piece.sha256:
            found.append(_Place(number, offset, piece))
        offset += piece.size_bytes
    return found


def fetch(folder: Path, archive: Archive, key: bytes, index: Index, tell: Tell) -> Path:
    """The catalog of one snapshot, whole, under its `key`, as ``<name>.db`` in `folder`; goes on with what is there of it.

    Nothing else stays in `folder`. Raises `Corrupt` if it is not whole, `Unreadable` where the archive's disk does not give it back, and what
    archive and disk raise.
    """
    path = folder / f"{index.name}.db"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in folder.iterdir():
            if other != path:
                other.unlink()
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            wanted = _lacking(file, index.pieces)
            done = index.size_bytes - sum(each.piece.size_bytes for each in wanted)
            if done:
                tell("catalog", done, index.size_bytes)
            with ahead.reading(
                archive, wanted, lambda each: snapshot.piece_key(index.name, each.number), most=PIECES_AT_ONCE
            ) as found:
                for each, document in found:
                    fetched = document()
                    if hashlib.sha256(fetched).hexdigest() != each.piece.sha256:
                        raise Corrupt("a piece of a backup is not what was written")
                    file.seek(each.offset)
                    file.write(fetched)
                    done += each.piece.size_bytes
                    tell("catalog", done, index.size_bytes)
            file.truncate(index.size_bytes)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(error, "fetching a backup") from error
    copying.verify(path, key)
    return path
