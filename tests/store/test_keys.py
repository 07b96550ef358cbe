"""The keys of a box: what opens them, what doesn't, and that no interruption loses them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
import secrets
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient
from appliance.store import key_files, keys
from appliance.store.keys import RootKey
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import (
    KEY_BYTES,
    SLOT_BYTES,
    chain_slots,
    open_slots,
    seal_slot,
    wrapped_generation,
)
from tests.store.key_folders import CONTEXT, NO_CREDENTIAL, confirmed, interrupted

VECTORS = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text())
ROOT = RootKey(bytes(range(32)))


# --- wrapping, sealing, deriving ---


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_wrapped_or_sealed_opens_for_its_context_only(plain: bytes, context: bytes) -> None:
    for close, open_ in ((ROOT.wrap, ROOT.unwrap), (ROOT.seal, ROOT.unseal)):
        closed = close(plain, context)
        assert len(closed) == len(plain) + 50
        assert open_(closed, context) == plain
        assert close(plain, context) != closed
        with pytest.raises(Corrupt):
            open_(closed, context + b"x")


def test_any_altered_or_missing_byte_of_a_wrapped_key_is_found() -> None:
    wrapped = ROOT.wrap(bytes(32), CONTEXT)
    for place in range(len(wrapped)):
        with pytest.raises(Corrupt):
            ROOT.unwrap(wrapped[:place], CONTEXT)
        altered = bytearray(wrapped)
        altered[place] ^= 1 << place % 8
        with pytest.raises(Corrupt):
            ROOT.unwrap(bytes(altered), CONTEXT)


def test_a_wrapped_key_is_no_sealed_data_nor_the_reverse() -> None:
    wrapped, sealed = ROOT.wrap(bytes(32), CONTEXT), ROOT.seal(bytes(32), CONTEXT)
    for open_, closed, use in ((ROOT.unseal, wrapped, b"S"), (ROOT.unwrap, sealed, b"W")):
        with pytest.raises(Corrupt):
            open_(closed, CONTEXT)
        with pytest.raises(Corrupt):
            open_(closed[:1] + use + closed[2:], CONTEXT)


def test_another_root_key_or_generation_does_not_open() -> None:
    wrapped = ROOT.wrap(bytes(32), CONTEXT)
    assert wrapped_generation(wrapped) == 1
    for other in (RootKey(bytes(32)), RootKey(bytes(range(32)), generation=2)):
        with pytest.raises(Corrupt):
            other.unwrap(wrapped, CONTEXT)
    assert wrapped_generation(RootKey(bytes(32), generation=7).wrap(b"", b"")) == 7


def test_each_purpose_has_its_own_key_for_ever() -> None:
    purposes = ["catalog", "intake", "audit", "manifest"]
    assert len({ROOT.derive(purpose) for purpose in purposes}) == len(purposes)
    for purpose in purposes:
        assert ROOT.derive(purpose).hex() == VECTORS["derived"][purpose]


def test_vectors_open_for_ever() -> None:
    root = RootKey(bytes.fromhex(VECTORS["root_key"]), VECTORS["generation"])
    context, plain = VECTORS["context"].encode(), bytes.fromhex(VECTORS["plain"])
    assert root.unwrap(bytes.fromhex(VECTORS["wrapped"]), context) == plain
    assert root.unseal(bytes.fromhex(VECTORS["sealed"]), context) == plain
    machine = open_slots(
        bytes.fromhex(VECTORS["machine_slot"]), b"M", bytes.fromhex(VECTORS["machine_secret"])
    )
    assert machine == root
    slot, paper = bytes.fromhex(VECTORS["recovery_slot"]), RecoveryKey.parse(VECTORS["recovery_key"])
    assert keys.open_with_recovery(slot, paper) == root


def test_layouts_are_the_tables_in_the_module(directory: Path) -> None:
    def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
        return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)

    wrapped = ROOT.wrap(b"study key", CONTEXT)
    assert wrapped[:6] == b"\x01W\x00\x00\x00\x01"
    key = hkdf(bytes(range(32)), wrapped[6:22], b"clinic-edge wrapped key")
    assert AESGCM(key).decrypt(wrapped[22:34], wrapped[34:], wrapped[:34] + CONTEXT) == b"study key"

    root = keys.create_keys(directory, NO_CREDENTIAL)
    slot = (directory / "root.machine").read_bytes()
    assert slot[:14] == b"rootslot\x01M\x00\x00\x00\x01"
    key = hkdf((directory / "machine.key").read_bytes(), slot[14:46], b"clinic-edge root slot")
    assert RootKey(AESGCM(key).decrypt(slot[46:58], slot[58:106], slot[:58])) == root
    assert slot[106:] == hashlib.sha256(slot[:106]).digest()[:8]


def test_keys_never_show_themselves(directory: Path) -> None:
    root = keys.create_keys(directory, NO_CREDENTIAL)
    seal = keys.machine_seal(directory, NO_CREDENTIAL)
    assert repr(root) == "<RootKey>"
    assert seal.secret.hex() not in repr(seal)
    assert str(seal.secret) not in repr(seal)
    with pytest.raises(TypeError):
        pickle.dumps(root)


# --- a new box ---


def test_a_new_box_opens_by_its_machine_and_by_its_paper(directory: Path) -> None:
    root = keys.create_keys(directory, NO_CREDENTIAL)
    assert keys.open_keys(directory, NO_CREDENTIAL) == root
    paper = keys.show_recovery(directory, root)
    assert keys.open_with_recovery(keys.recovery_slot(directory), paper) == root


def test_key_files_are_private_and_hold_no_root_key(directory: Path) -> None:
    root, paper = confirmed(directory)
    keys.rotate(directory, root, NO_CREDENTIAL)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert sorted(file.name for file in directory.iterdir()) == [
        "machine.key",
        "recovery.pending",
        "root.machine",
        "root.recovery",
    ]
    for file in directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert root._secrets[1] not in file.read_bytes()
        assert paper.secret not in file.read_bytes()


def test_keys_are_never_created_over_others(directory: Path) -> None:
    root = keys.create_keys(directory, NO_CREDENTIAL)
    with pytest.raises(OperatorNeeded, match="holds keys already"):
        keys.create_keys(directory, NO_CREDENTIAL)
    assert keys.open_keys(directory, NO_CREDENTIAL) == root
    assert [child.name for child in directory.parent.iterdir()] == ["keys"]


def test_an_empty_directory_may_become_the_key_directory(directory: Path) -> None:
    directory.mkdir(parents=True)
    assert keys.create_keys(directory, NO_CREDENTIAL) == keys.open_keys(directory, NO_CREDENTIAL)


def test_two_boxes_have_nothing_in_common(tmp_path: Path) -> None:
    one, other = (keys.create_keys(tmp_path / name / "keys", NO_CREDENTIAL) for name in "ab")
    assert one != other
    with pytest.raises(Refused, match="not this box's"):
        keys.open_with_recovery(
            keys.recovery_slot(tmp_path / "a" / "keys"), keys.show_recovery(tmp_path / "b" / "keys", other)
        )


# --- the machine seal ---


def test_a_key_file_says_loudly_that_it_is_one(directory: Path) -> None:
    keys.create_keys(directory, NO_CREDENTIAL)
    assert "development key file" in keys.machine_seal(directory, NO_CREDENTIAL).describe()


def test_with_a_system_credential_no_key_file_is_written(directory: Path, credential: dict[str, str]) -> None:
    root = keys.create_keys(directory, credential)
    assert not (directory / "machine.key").exists()
    assert keys.open_keys(directory, credential) == root
    assert "system credential" in keys.machine_seal(directory, credential).describe()
    with pytest.raises(OperatorNeeded, match="neither"):
        keys.open_keys(directory, NO_CREDENTIAL)


def test_a_box_that_gains_a_credential_opens_by_its_file_until_it_rotates(
    directory: Path, credential: dict[str, str]
) -> None:
    root = keys.create_keys(directory, NO_CREDENTIAL)
    assert keys.open_keys(directory, credential) == root
    keys.rotate(directory, root, credential)
    assert not (directory / "machine.key").exists()
    assert keys.open_keys(directory, credential) == root


def test_an_environment_without_our_credential_falls_back_to_the_file(
    directory: Path, tmp_path: Path
) -> None:
    root = keys.create_keys(directory, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert keys.open_keys(directory, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == root


def test_a_credential_too_short_to_be_a_key_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "machine-seal").write_bytes(bytes(31))
    (tmp_path / "machine-seal").chmod(0o400)
    with pytest.raises(OperatorNeeded, match="too short"):
        keys.create_keys(directory, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert not directory.exists()


@pytest.mark.parametrize("name", ["machine.key", "root.machine"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_key_files_that_others_can_read_are_refused_with_the_remedy(
    directory: Path, name: str, mode: int
) -> None:
    keys.create_keys(directory, NO_CREDENTIAL)
    (directory / name).chmod(mode)
    with pytest.raises(OperatorNeeded) as needed:
        keys.open_keys(directory, NO_CREDENTIAL)
    assert f"chmod 600 {directory / name}" in needed.value.hint


@pytest.mark.parametrize("name", ["machine.key", "root.machine"])
def test_missing_damaged_or_linked_key_files_ask_for_a_person(directory: Path, name: str) -> None:
    keys.create_keys(directory, NO_CREDENTIAL)
    whole = (directory / name).read_bytes()

    def assert_asks() -> None:
        with pytest.raises(OperatorNeeded) as needed:
            keys.open_keys(directory, NO_CREDENTIAL)
        assert "recovery key" in needed.value.hint or "run as that user" in needed.value.hint

    for damaged in (b"", whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], bytes(len(whole))):
        (directory / name).write_bytes(damaged)
        assert_asks()
    (directory / name).unlink()
    assert_asks()
    (directory / "elsewhere").write_bytes(whole)
    (directory / name).symlink_to("elsewhere")
    assert_asks()


def test_without_keys_a_person_is_asked(directory: Path) -> None:
    for ask in (keys.open_keys, keys.recovery_slot, keys.machine_seal):
        with pytest.raises(OperatorNeeded):
            ask(directory)
    assert not keys.recovery_confirmed(directory)


def test_a_disk_in_another_machine_does_not_open(directory: Path) -> None:
    keys.create_keys(directory, NO_CREDENTIAL)
    (directory / "machine.key").write_bytes(bytes(32))
    with pytest.raises(OperatorNeeded, match="another machine"):
        keys.open_keys(directory, NO_CREDENTIAL)


# --- the recovery key ---


def test_the_recovery_key_is_shown_until_it_is_confirmed_and_never_after(directory: Path) -> None:
    root = keys.create_keys(directory, NO_CREDENTIAL)
    paper = keys.show_recovery(directory, root)
    assert keys.show_recovery(directory, root) == paper
    assert not keys.recovery_confirmed(directory)
    keys.check_recovery(directory, root, str(paper).lower().replace("-", " "))
    assert keys.recovery_confirmed(directory)
    with pytest.raises(OperatorNeeded, match="keeps no copy"):
        keys.show_recovery(directory, root)
    keys.check_recovery(directory, root, str(paper))  # the paper can be checked again at any time


def test_a_typing_error_and_another_boxs_key_are_told_apart_and_confirm_nothing(directory: Path) -> None:
    root = keys.create_keys(directory, NO_CREDENTIAL)
    groups = str(keys.show_recovery(directory, root)).split("-")
    groups[3] = groups[3][:4] + ("0" if groups[3][4] != "0" else "2")
    with pytest.raises(Refused, match="group 4"):
        keys.check_recovery(directory, root, "-".join(groups))
    with pytest.raises(Refused, match="not this box's"):
        keys.check_recovery(directory, root, str(RecoveryKey.generate()))
    assert not keys.recovery_confirmed(directory)


def test_a_damaged_slot_is_not_taken_for_a_wrong_key(directory: Path) -> None:
    _, paper = confirmed(directory)
    slot = keys.recovery_slot(directory)
    for place in range(len(slot)):
        altered = bytearray(slot)
        altered[place] ^= 1 << place % 8
        with pytest.raises(Corrupt):
            keys.open_with_recovery(bytes(altered), paper)
    for size in range(len(slot)):
        with pytest.raises(Corrupt):
            keys.open_with_recovery(slot[:size], paper)


def test_a_slot_of_one_kind_does_not_open_as_the_other(directory: Path) -> None:
    keys.create_keys(directory, NO_CREDENTIAL)
    machine = (directory / "machine.key").read_bytes()
    assert open_slots((directory / "root.machine").read_bytes(), b"M", machine) is not None
    assert open_slots((directory / "root.machine").read_bytes(), b"R", machine) is None


def test_a_blank_box_is_restored_from_the_bucket_and_the_paper(tmp_path: Path) -> None:
    root, paper = confirmed(tmp_path / "old" / "keys")
    slot = keys.recovery_slot(tmp_path / "old" / "keys")
    blank = tmp_path / "new" / "keys"
    assert keys.restore_keys(blank, slot, paper, NO_CREDENTIAL) == root
    assert keys.open_keys(blank, NO_CREDENTIAL) == root
    assert keys.recovery_confirmed(blank)
    assert keys.open_with_recovery(keys.recovery_slot(blank), paper) == root
    with pytest.raises(Refused):
        keys.restore_keys(tmp_path / "other" / "keys", slot, RecoveryKey.generate(), NO_CREDENTIAL)
    assert not (tmp_path / "other").exists()


# --- rotation ---


def test_after_rotation_both_papers_open_until_the_new_one_is_confirmed(directory: Path) -> None:
    root, old = confirmed(directory)
    old_machine_key = (directory / "machine.key").read_bytes()
    new = keys.rotate(directory, root, NO_CREDENTIAL)
    assert new != old
    assert keys.open_keys(directory, NO_CREDENTIAL) == root
    assert (directory / "machine.key").read_bytes() != old_machine_key
    assert open_slots((directory / "root.machine").read_bytes(), b"M", old_machine_key) is None
    for paper in (old, new):
        assert keys.open_with_recovery(keys.recovery_slot(directory), paper) == root
    assert keys.show_recovery(directory, root) == new

    with pytest.raises(Refused, match="earlier recovery key"):
        keys.check_recovery(directory, root, str(old))
    assert not keys.recovery_confirmed(directory)

    keys.check_recovery(directory, root, str(new))
    assert keys.recovery_confirmed(directory)
    assert len(keys.recovery_slot(directory)) == SLOT_BYTES
    assert keys.open_with_recovery(keys.recovery_slot(directory), new) == root
    with pytest.raises(Refused, match="not this box's"):
        keys.open_with_recovery(keys.recovery_slot(directory), old)
    with pytest.raises(Refused, match="not this box's"):
        keys.check_recovery(directory, root, str(old))


def test_rotating_again_before_confirming_keeps_the_confirmed_paper(directory: Path) -> None:
    root, old = confirmed(directory)
    lost = keys.rotate(directory, root, NO_CREDENTIAL)
    new = keys.rotate(directory, root, NO_CREDENTIAL)
    slot = keys.recovery_slot(directory)
    assert keys.open_with_recovery(slot, old) == keys.open_with_recovery(slot, new) == root
    with pytest.raises(Refused):
        keys.open_with_recovery(slot, lost)


def test_a_box_that_lost_its_machine_key_is_sealed_anew(directory: Path) -> None:
    root, paper = confirmed(directory)
    (directory / "machine.key").unlink()
    opened = keys.open_with_recovery(keys.recovery_slot(directory), paper)
    keys.rotate(directory, opened, NO_CREDENTIAL)
    assert keys.open_keys(directory, NO_CREDENTIAL) == root


# --- interruptions ---


def test_creation_killed_at_any_step_leaves_all_or_nothing(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    outcomes = set()
    for directory in interrupted(prepared, tmp_path / "results", "create"):
        outcomes.add(complete := directory.exists())
        if complete:
            root = keys.open_keys(directory, NO_CREDENTIAL)
        else:
            root = keys.create_keys(directory, NO_CREDENTIAL)
        keys.check_recovery(directory, root, str(keys.show_recovery(directory, root)))
        assert [child.name for child in directory.parent.iterdir()] == ["keys"]
    assert outcomes == {True, False}


@pytest.mark.parametrize("was_confirmed", [True, False])
def test_rotation_killed_at_any_step_leaves_a_box_that_machine_and_paper_open(
    tmp_path: Path, was_confirmed: bool
) -> None:
    prepared = tmp_path / "prepared"
    root = keys.create_keys(prepared / "keys", NO_CREDENTIAL)
    old = keys.show_recovery(prepared / "keys", root)
    if was_confirmed:
        keys.check_recovery(prepared / "keys", root, str(old))
    begun = set()
    for directory in interrupted(prepared, tmp_path / "results", "rotate"):
        assert keys.open_keys(directory, NO_CREDENTIAL) == root
        assert keys.open_with_recovery(keys.recovery_slot(directory), old) == root
        if keys.recovery_confirmed(directory):
            begun.add(False)
            keys.check_recovery(directory, root, str(old))
            continue
        new = keys.show_recovery(directory, root)
        begun.add(new != old)
        assert keys.open_with_recovery(keys.recovery_slot(directory), new) == root
        keys.check_recovery(directory, root, str(new))
        if new != old:
            with pytest.raises(Refused):
                keys.open_with_recovery(keys.recovery_slot(directory), old)
        newest = keys.rotate(directory, root, NO_CREDENTIAL)
        keys.check_recovery(directory, root, str(newest))
        assert keys.open_keys(directory, NO_CREDENTIAL) == root
        assert keys.open_with_recovery(keys.recovery_slot(directory), newest) == root
    assert begun == {True, False}


def test_confirmation_killed_at_any_step_can_be_repeated(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    root, old = confirmed(prepared / "keys")
    new = keys.rotate(prepared / "keys", root, NO_CREDENTIAL)
    for directory in interrupted(prepared, tmp_path / "results", str(new)):
        assert keys.open_keys(directory, NO_CREDENTIAL) == root
        assert keys.open_with_recovery(keys.recovery_slot(directory), new) == root
        if keys.recovery_confirmed(directory):
            assert len(keys.recovery_slot(directory)) == SLOT_BYTES, "the earlier paper outlives its end"
        keys.check_recovery(directory, root, str(new))
        assert keys.recovery_confirmed(directory)
        with pytest.raises(Refused):
            keys.open_with_recovery(keys.recovery_slot(directory), old)


def test_an_unwritable_directory_is_an_error_and_changes_nothing(directory: Path) -> None:
    root, paper = confirmed(directory)
    (directory / ".root.recovery.new").mkdir()  # a write that fails, for root too
    before = {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}
    with pytest.raises(Transient, match=r"writing root\.recovery"):
        keys.rotate(directory, root, NO_CREDENTIAL)
    after = {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}
    assert after.items() >= before.items()
    assert keys.open_keys(directory, NO_CREDENTIAL) == root
    assert keys.open_with_recovery(keys.recovery_slot(directory), paper) == root


def test_what_a_dead_creation_left_is_swept_but_not_a_living_one(directory: Path) -> None:
    dead, living = (directory.parent / f".keys.new-{name}" for name in ("dead", "living"))
    for leftover in (dead, living):
        leftover.mkdir(parents=True)
        (leftover / "machine.key").write_bytes(bytes(32))
    held = os.open(living, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        keys.create_keys(directory, NO_CREDENTIAL)
    finally:
        os.close(held)
    assert not dead.exists()
    assert (living / "machine.key").exists()


def test_a_root_key_that_was_rotated_more_often_than_ever_opens_by_machine_and_by_paper(
    directory: Path, tmp_path: Path
) -> None:
    """A slot of 114 bytes for each: 64 KiB are full after 574."""
    first, paper = confirmed(directory)
    wrapped = first.wrap(bytes(KEY_BYTES), CONTEXT)
    root = first
    for _ in range(700):
        root = root.successor(secrets.token_bytes(KEY_BYTES))
    chain, machine = chain_slots(root), (directory / keys.MACHINE_KEY).read_bytes()
    (directory / keys.ROOT_MACHINE).write_bytes(seal_slot(root, b"M", machine) + chain)
    (directory / keys.ROOT_RECOVERY).write_bytes(seal_slot(root, b"R", paper.secret) + chain)
    assert keys.open_keys(directory, NO_CREDENTIAL).unwrap(wrapped, CONTEXT) == bytes(KEY_BYTES)
    slot = keys.whole_recovery_slot(directory)
    restored = keys.restore_keys(tmp_path / "restored" / "keys", slot, paper, NO_CREDENTIAL)
    assert restored.unwrap(wrapped, CONTEXT) == bytes(KEY_BYTES)


@pytest.mark.parametrize("name", [keys.ROOT_MACHINE, keys.MACHINE_KEY])
def test_what_is_no_key_file_by_its_size_is_said_and_not_read_in_part(directory: Path, name: str) -> None:
    confirmed(directory)
    with (directory / name).open("r+b") as file:
        file.truncate(key_files.MOST_BYTES + 1)
    with pytest.raises(OperatorNeeded, match="more than 4 MiB"):
        keys.open_keys(directory, NO_CREDENTIAL)
