"""The keys of this box: where the root key is kept, the two seals that open it, and how they are replaced.

::

    recovery key (on paper) ──┐
                              ├── opens ── root key ──┬── wraps   study keys (each seals the objects of one study)
    machine seal ─────────────┘                       ├── seals   manifests, the unconfirmed recovery key
                                                      └── derives the keys of catalog, intake log, audit, manifest names

Chose a root key that both seals wrap, rather than two ways to derive it; because either can then be replaced without
touching what lies below. Rejected: a passphrase (the recovery key is 160 random bits, so HKDF is enough, and a slow
derivation would add nothing but waiting).

Machine seal: the systemd credential ``machine-seal`` where the unit provides one (``LoadCredentialEncrypted=``), else the file
``machine.key``. systemd binds the credential to the TPM2, or, where it finds none, to a key of its own on the same disk: then it
protects against nobody who holds the disk, no more than the file does, and says so like it. Which it was, the sealed credential
tells (`appliance.store.credential`), which the unit hands over beside it as ``machine-seal.cred`` (``LoadCredential=``). Chose this
rather than a note of the key in a file; because what is read is then what was opened, also on a box that was sealed long before.

Files of the key directory (0700, each file 0600; formats in `appliance.store.root_key`)::

    root.machine      slots under the machine seal: one, or two while a rotation is under way; then the chain
    root.recovery     slots under the recovery key: the current one, then the earlier one until the new is confirmed; then
                      the chain; the same bytes go to the bucket, and beside every backup
    machine.key       32 random bytes, if there is no credential
    recovery.pending  the 20 bytes of the recovery key, sealed under the root key, until someone has typed it back

The chain is the slots of the earlier root keys, each under its successor (`appliance.store.root_key`): empty until the root
key is rotated.

An earlier ``root.recovery`` that someone copied still opens with the earlier paper, since the root key is the same: only
rotating the root key itself (`rotate_root`) ends that, for all that is sealed from then on. What was sealed before stays open to
who has the paper of its day, and to the newest paper, through the chain.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from appliance import system
from appliance.errors import Corrupt, OperatorNeeded, Refused, SealedElsewhere
from appliance.store import credential, key_files
from appliance.store.disk import Disk, disk_error
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import (
    KEY_BYTES,
    RootKey,
    chain_slots,
    check_slots,
    newest_generation,
    open_slots,
    seal_slot,
    slots_of,
)

__all__ = [
    "Guard",
    "MachineSeal",
    "RootKey",
    "check_recovery",
    "create_keys",
    "guard",
    "machine_seal",
    "open_keys",
    "open_with_recovery",
    "recovery_confirmed",
    "recovery_slot",
    "reseal",
    "restore_keys",
    "rotate",
    "rotate_root",
    "show_recovery",
    "whole_recovery_slot",
]

ROOT_MACHINE = "root.machine"
ROOT_RECOVERY = "root.recovery"
MACHINE_KEY = "machine.key"
RECOVERY_PENDING = "recovery.pending"
CREDENTIAL = "machine-seal"
SEALED_CREDENTIAL = "machine-seal.cred"
CREDENTIAL_LEAST_BYTES = 32

_PENDING_CONTEXT = RECOVERY_PENDING.encode()
_RESEAL = "seal it to this machine anew with the recovery key: appliance key reseal"
_RESTORE = f"put it back, or {_RESEAL}"


def open_with_recovery(slot: bytes, key: RecoveryKey) -> RootKey:
    """The root key in `slot` (the bytes of ``root.recovery``, here or from the bucket).

    Raises `Refused` if `key` is another box's or an earlier one, `Corrupt` if the slot is damaged.
    """
    root = open_slots(slot, b"R", key.secret)
    if root is None:
        raise Refused(
            "this is a recovery key, but not this box's",
            hint="look for the newest printed key of this clinic",
        )
    return root


# --- the machine seal ------------------------------------------------------------------------------------------------


SealKind = Literal["tpm2", "host", "file"]
"""What guards the machine seal: the TPM2; a key that systemd keeps on the same disk, or nobody knows what; nothing."""

Guard = Literal[SealKind, "disk"]
"""What keeps a stolen disk shut: as `SealKind`; or the disk is encrypted itself, so that what lies on it is shut with it."""


@dataclass(frozen=True, slots=True)
class MachineSeal:
    """What lets this machine open its root key without a person."""

    kind: SealKind
    secret: bytes = field(repr=False)

    def describe(self) -> str:
        """In a person's words, for who has sealed the root key anew."""
        if self.kind == "tpm2":
            return "system credential: only this machine's TPM2 can open it"
        if self.kind == "host":
            return "system credential without a TPM2: whoever has this disk can open it"
        return "development key file: anyone with root on this disk can open it"


def machine_seal(directory: Path, environ: Mapping[str, str] = os.environ) -> MachineSeal:
    """The seal that this machine has. Raises `OperatorNeeded` if it has none, or one that others can read."""
    seals = _machine_seals(directory, environ)
    if not seals:
        raise _no_seal(directory)
    return seals[0]


def guard(directory: Path, environ: Mapping[str, str] = os.environ) -> Guard:
    """What keeps a stolen disk shut. Raises as `machine_seal`."""
    kind = machine_seal(directory, environ).kind
    return "disk" if kind != "tpm2" and system.disk_is_encrypted() else kind


def _no_seal(directory: Path) -> SealedElsewhere:
    return SealedElsewhere(
        f"there is neither the system credential {CREDENTIAL} nor {directory / MACHINE_KEY}",
        hint=f"put it back, run this as the service that has the credential, or {_RESEAL}",
    )


def _machine_seals(directory: Path, environ: Mapping[str, str]) -> list[MachineSeal]:
    """Every seal there is, the credential first: a box that gains a TPM still opens by its file until it rotates."""
    seals = []
    if (given := _credential(environ)) is not None:
        seals.append(given)
    if (secret := key_files.read(directory / MACHINE_KEY)) is not None:
        if len(secret) != KEY_BYTES:
            raise SealedElsewhere(f"{directory / MACHINE_KEY} is damaged", hint=_RESTORE)
        seals.append(MachineSeal("file", secret))
    return seals


def _credential(environ: Mapping[str, str]) -> MachineSeal | None:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    # systemd grants its credentials by ACL, which shows as group-readable: only "others" counts here.
    secret = key_files.read(Path(folder) / CREDENTIAL, open_to=stat.S_IRWXO)
    if secret is None:
        return None
    if len(secret) < CREDENTIAL_LEAST_BYTES:
        raise OperatorNeeded(
            f"the system credential {CREDENTIAL} is too short to be a key",
            hint=f"make it of at least {CREDENTIAL_LEAST_BYTES} random bytes",
        )
    return MachineSeal("tpm2" if _is_by_tpm2(Path(folder)) else "host", secret)


def _is_by_tpm2(folder: Path) -> bool:
    try:
        return credential.is_by_tpm2((folder / SEALED_CREDENTIAL).read_bytes())
    except OSError:
        # A box must open without it, too.
        return False


# --- the key directory -----------------------------------------------------------------------------------------------


def create_keys(directory: Path, environ: Mapping[str, str] = os.environ) -> RootKey:
    """Make the keys of a new box in `directory`, which must not exist or be empty.

    The directory appears complete or not at all. Raises `OperatorNeeded` if there are keys already.
    """
    root, recovery = RootKey(secrets.token_bytes(KEY_BYTES)), RecoveryKey.generate()
    _install(directory, root, recovery, environ, pending=True)
    return open_keys(directory, environ)


def restore_keys(
    directory: Path, slot: bytes, key: RecoveryKey, environ: Mapping[str, str] = os.environ
) -> RootKey:
    """Make `directory` on a blank box from the bucket's `slot` and the printed `key`, with a new machine seal.

    Raises as `open_with_recovery` and `create_keys`.
    """
    _install(directory, open_with_recovery(slot, key), key, environ, pending=False)
    return open_keys(directory, environ)


def open_keys(directory: Path, environ: Mapping[str, str] = os.environ) -> RootKey:
    """The root key, opened by the machine seal; it learns by itself of a rotation by another process.

    Raises `OperatorNeeded` if the seal or the slot is missing, unreadable, damaged, or readable by others; `SealedElsewhere`,
    which is one, where `reseal` with the recovery key mends it.
    """
    with key_files.locked(directory, fcntl.LOCK_SH):
        found = _opened_by_machine(directory, environ)
        look = _looker(directory, environ)
    return found.looking(look)


def _opened_by_machine(directory: Path, environ: Mapping[str, str]) -> RootKey:
    blob = key_files.read(directory / ROOT_MACHINE)
    if blob is None:
        raise SealedElsewhere(f"{directory / ROOT_MACHINE} is missing", hint=_RESTORE)
    seals = _machine_seals(directory, environ)
    if not seals:
        raise _no_seal(directory)
    try:
        for seal in seals:
            if (root := open_slots(blob, b"M", seal.secret)) is not None:
                return root
    except Corrupt as error:
        raise SealedElsewhere(f"{directory / ROOT_MACHINE} is damaged", hint=_RESEAL) from error
    raise SealedElsewhere(
        "the root key was sealed by another machine, or the machine key was replaced",
        hint=f"put the disk back into its machine, or {_RESEAL}",
    )


def _looker(directory: Path, environ: Mapping[str, str]) -> Callable[[], RootKey | None]:
    """What asks whether the root key was rotated since now: one `stat`, and no lock, which the asker may hold itself.

    Without the lock it may come between two writes of `rotate` and open nothing; it then asks again at the next use.
    """
    seen = _mark(directory)

    def look() -> RootKey | None:
        nonlocal seen
        mark = _mark(directory)
        if mark == seen:
            return None
        try:
            found = _opened_by_machine(directory, environ)
        except OperatorNeeded:
            return None
        seen = mark
        return found

    return look


def _mark(directory: Path) -> tuple[int, int] | None:
    try:
        found = (directory / ROOT_MACHINE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def recovery_slot(directory: Path) -> bytes:
    """The bytes to keep off the box: with the printed recovery key they open the root key, and without it nothing."""
    return _read_or_hint(directory / ROOT_RECOVERY)


def whole_recovery_slot(directory: Path) -> bytes:
    """`recovery_slot`, for whoever lays it over a copy elsewhere. Raises `Corrupt` when it is damaged: that copy may not be."""
    blob = recovery_slot(directory)
    try:
        check_slots(blob)
    except Corrupt as error:
        raise Corrupt(
            f"{ROOT_RECOVERY} is damaged on this box: no paper may open it",
            hint="issue a new recovery key: appliance key rotate",
        ) from error
    return blob


def recovery_confirmed(directory: Path) -> bool:
    """Whether someone has typed the recovery key back, so that a printed copy is known to exist."""
    return (directory / ROOT_RECOVERY).exists() and not (directory / RECOVERY_PENDING).exists()


def show_recovery(directory: Path, root: RootKey) -> RecoveryKey:
    """The recovery key, as long as nobody has confirmed it. Raises `OperatorNeeded` afterwards."""
    with key_files.locked(directory, fcntl.LOCK_EX):
        pending = _pending(directory, root)
        if pending is None:
            raise OperatorNeeded(
                "the recovery key was confirmed, and this box keeps no copy of it",
                hint="use the printed one, or issue a new one with: appliance key rotate",
            )
        _issue(directory, root, pending)
    return pending


def check_recovery(directory: Path, root: RootKey, text: str) -> None:
    """Try the recovery key that someone typed; when it is the newest, it counts as confirmed from now on.

    Confirming forgets the copy kept to be shown, and ends the earlier key. Raises `Refused` for a typing error (naming
    the group), another box's key, or the earlier key while a new one waits to be confirmed.
    """
    key = RecoveryKey.parse(text)
    with key_files.locked(directory, fcntl.LOCK_EX):
        pending = _pending(directory, root)
        if pending is not None and pending != key:
            open_with_recovery(recovery_slot(directory), key)
            raise Refused(
                "this is the earlier recovery key; a new one was issued and not yet confirmed",
                hint="print the new one (appliance key show-recovery) and type that",
            )
        blob = recovery_slot(directory)
        current, *earlier = slots_of(blob, b"R") or [b""]
        chain = b"".join(slots_of(blob, b"E"))
        # A rotation of the root key that was cut may have left the next one here: it knows ours.
        if not open_with_recovery(current + chain, key).knows(root):
            raise Corrupt("the recovery key opens another root key than this box uses", hint="rotate it")
        if earlier:
            key_files.write(directory / ROOT_RECOVERY, current + chain)
        key_files.remove(directory / RECOVERY_PENDING)


def rotate(directory: Path, root: RootKey, environ: Mapping[str, str] = os.environ) -> RecoveryKey:
    """Issue a new recovery key for the same root key, and seal that to the machine anew.

    Until the new key is confirmed (`check_recovery`) the earlier one opens the box too, so that a jammed printer costs
    nothing; from then on it doesn't. A crash at any step leaves a box that opens by machine and by one of the two
    papers; the new key can be shown again (`show_recovery`), and rotating again is always right.
    """
    key = RecoveryKey.generate()
    with key_files.locked(directory, fcntl.LOCK_EX):
        root.renew()
        seals = _machine_seals(directory, environ)
        key_files.write(directory / RECOVERY_PENDING, root.seal(key.secret, _PENDING_CONTEXT))
        _issue(directory, root, key)
        _seal_to_machine(directory, root, seals)
    return key


def rotate_root(
    directory: Path, root: RootKey, text: str, environ: Mapping[str, str] = os.environ
) -> RootKey:
    """Draw a new root key, which all that is sealed from now on lies under; `text` is the recovery key, typed.

    Chose to ask for the paper because the box keeps no copy of it, and a root key that no paper opens would die with the
    machine; rejected: a new paper with every root key, which is worth nothing until somebody has printed it. The recovery
    slot comes first: a crash between the two leaves a box that works as before, and a paper that opens both root keys; repeated, it goes on
    with the one that was drawn, since of two with one number a restore takes either. Processes that run learn of it by themselves.
    Raises as `check_recovery`, `OperatorNeeded` while a recovery key waits to be confirmed.
    """
    key = RecoveryKey.parse(text)
    with key_files.locked(directory, fcntl.LOCK_EX):
        root.renew()
        if key_files.read(directory / RECOVERY_PENDING) is not None:
            raise OperatorNeeded(
                "the recovery key has not been checked yet",
                hint="print it and type it back first: appliance key check-recovery",
            )
        if not (drawn := open_with_recovery(recovery_slot(directory), key)).knows(root):
            raise Corrupt("the recovery key opens another root key than this box uses", hint="rotate it")
        is_cut = drawn.generation > root.generation
        fresh = drawn if is_cut else root.successor(secrets.token_bytes(KEY_BYTES))
        key_files.write(directory / ROOT_RECOVERY, seal_slot(fresh, b"R", key.secret) + chain_slots(fresh))
        _seal_to_machine(directory, fresh, _machine_seals(directory, environ))
        root.renew()
    return fresh


def reseal(directory: Path, text: str, environ: Mapping[str, str] = os.environ) -> RootKey:
    """Seal the root key to this machine anew, after hardware or firmware has changed; `text` is the recovery key, typed.

    Nothing else changes: no image, no paper. Processes that wait for the seal go on by themselves. Raises `Refused` for a
    typing error or another key, `Corrupt` when the recovery slot is damaged too.
    """
    key = RecoveryKey.parse(text)
    with key_files.locked(directory, fcntl.LOCK_EX):
        root = open_with_recovery(recovery_slot(directory), key)
        # A seal that is damaged is none: it is replaced like one that is gone.
        seal = _credential(environ)
        _seal_to_machine(directory, root, [] if seal is None else [seal])
    return open_keys(directory, environ)


def _seal_to_machine(directory: Path, root: RootKey, seals: list[MachineSeal]) -> None:
    """Write ``root.machine`` for the first of `seals`; a file is drawn anew, and any is bridged until it is written."""
    chain = chain_slots(root)
    if seals and seals[0].kind != "file":
        key_files.write(directory / ROOT_MACHINE, seal_slot(root, b"M", seals[0].secret) + chain)
        key_files.remove(directory / MACHINE_KEY)
    else:
        # Between these three writes either file may be the older one: the slots of both seals bridge that.
        fresh = secrets.token_bytes(KEY_BYTES)
        earlier = [seal_slot(root, b"M", seal.secret) for seal in seals]
        key_files.write(directory / ROOT_MACHINE, b"".join([seal_slot(root, b"M", fresh), *earlier, chain]))
        key_files.write(directory / MACHINE_KEY, fresh)
        key_files.write(directory / ROOT_MACHINE, seal_slot(root, b"M", fresh) + chain)


def _pending(directory: Path, root: RootKey) -> RecoveryKey | None:
    sealed = key_files.read(directory / RECOVERY_PENDING)
    return None if sealed is None else RecoveryKey(root.unseal(sealed, _PENDING_CONTEXT))


def _issue(directory: Path, root: RootKey, key: RecoveryKey) -> None:
    """Make `key` the current one in ``root.recovery``, keeping the one before it; nothing to do if it is already."""
    blob = key_files.read(directory / ROOT_RECOVERY) or b""
    slots, chain = slots_of(blob, b"R"), b"".join(slots_of(blob, b"E"))
    with contextlib.suppress(Corrupt):
        if slots and open_slots(slots[0] + chain, b"R", key.secret) == root:
            return
    fresh = seal_slot(root, b"R", key.secret)
    # A rotation of the root key that was cut may have left a later one here: only its own chain leads down to ours.
    links = chain if newest_generation(blob) > root.generation else chain_slots(root)
    key_files.write(directory / ROOT_RECOVERY, b"".join([fresh, *slots[-1:], links]))


def _install(
    directory: Path, root: RootKey, recovery: RecoveryKey, environ: Mapping[str, str], *, pending: bool
) -> None:
    """Write a whole key directory beside its place, then rename it there."""
    seal = _credential(environ) or MachineSeal("file", secrets.token_bytes(KEY_BYTES))
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(directory)
        building = Path(tempfile.mkdtemp(prefix=f".{directory.name}.new-", dir=directory.parent))
    except OSError as error:
        raise disk_error(error, "making the key directory") from error
    try:
        with key_files.locked(building, fcntl.LOCK_SH):
            chain = chain_slots(root)
            key_files.write(building / ROOT_RECOVERY, seal_slot(root, b"R", recovery.secret) + chain)
            if pending:
                key_files.write(building / RECOVERY_PENDING, root.seal(recovery.secret, _PENDING_CONTEXT))
            if seal.kind == "file":
                key_files.write(building / MACHINE_KEY, seal.secret)
            key_files.write(building / ROOT_MACHINE, seal_slot(root, b"M", seal.secret) + chain)
            building.rename(directory)
            Disk().sync_directory(directory.parent)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise OperatorNeeded(
                f"{directory} holds keys already",
                hint="keep them: whatever was sealed under them opens with nothing else",
            ) from error
        raise disk_error(error, "making the key directory") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)  # still there only if it did not become the directory


def _sweep(directory: Path) -> None:
    """Remove what creations that died have left; one that lives holds a lock on its directory."""
    for leftover in directory.parent.glob(f".{directory.name}.new-*"):
        with (
            contextlib.suppress(OSError, OperatorNeeded),
            key_files.locked(leftover, fcntl.LOCK_EX | fcntl.LOCK_NB),
        ):
            shutil.rmtree(leftover)


def _read_or_hint(path: Path) -> bytes:
    data = key_files.read(path)
    if data is None:
        raise OperatorNeeded(f"{path} is missing", hint=_RESTORE)
    return data
