"""A new root key, and a machine seal that no longer opens: nothing is lost, and nothing new opens with what is old."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import Corrupt, OperatorNeeded, Refused
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import SLOT_BYTES, newest_generation, wrapped_generation
from tests.store.key_folders import CONTEXT, NO_CREDENTIAL, confirmed, interrupted


def test_a_new_root_key_opens_all_that_came_before_and_earlier_ones_nothing_that_came_after(
    directory: Path,
) -> None:
    root, paper = confirmed(directory)
    eras = [(keys.recovery_slot(directory), root.wrap(bytes(32), CONTEXT), root.derive("catalog"))]
    for generation in range(2, 7):
        root = keys.rotate_root(
            directory, keys.open_keys(directory, NO_CREDENTIAL), str(paper), NO_CREDENTIAL
        )
        assert root.generation == generation
        eras.append(
            (
                keys.recovery_slot(directory),
                root.wrap(bytes([generation]), CONTEXT),
                root.derive("catalog", generation),
            )
        )
    for newest in (
        keys.open_keys(directory, NO_CREDENTIAL),
        keys.open_with_recovery(keys.recovery_slot(directory), paper),
    ):
        assert newest == root
        assert newest.derived("catalog") == [catalog for _, _, catalog in reversed(eras)]
        for _, wrapped, _ in eras:
            newest.unwrap(wrapped, CONTEXT)
    for number, (slot, _, _) in enumerate(eras, start=1):
        then = keys.open_with_recovery(slot, paper)
        assert then.generation == number
        for later, (_, wrapped, _) in enumerate(eras, start=1):
            if later <= number:
                then.unwrap(wrapped, CONTEXT)
            else:
                with pytest.raises(Corrupt, match="sealed under root key"):
                    then.unwrap(wrapped, CONTEXT)


def test_a_process_that_runs_learns_of_a_new_root_key_when_it_next_seals_or_opens(directory: Path) -> None:
    root, paper = confirmed(directory)
    sealing, opening = (keys.open_keys(directory, NO_CREDENTIAL) for _ in range(2))
    before = sealing.seal(b"before", CONTEXT)
    new = keys.rotate_root(directory, root, str(paper), NO_CREDENTIAL)
    assert opening.unseal(new.seal(b"after", CONTEXT), CONTEXT) == b"after"
    assert wrapped_generation(sealing.seal(b"after", CONTEXT)) == 2
    assert sealing.unseal(before, CONTEXT) == b"before"
    assert sealing.derive("audit") == new.derive("audit") == root.derive("audit")


def test_the_root_key_is_not_rotated_without_the_paper_that_opens_it(directory: Path) -> None:
    root = keys.create_keys(directory, NO_CREDENTIAL)
    paper = keys.show_recovery(directory, root)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(OperatorNeeded, match="not been checked"):
        keys.rotate_root(directory, root, str(paper), NO_CREDENTIAL)
    with pytest.raises(Refused):
        keys.rotate_root(directory, root, "AAAAA-BBBBB", NO_CREDENTIAL)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    keys.check_recovery(directory, root, str(paper))
    with pytest.raises(Refused, match="not this box's"):
        keys.rotate_root(directory, root, str(RecoveryKey.generate()), NO_CREDENTIAL)
    assert keys.open_keys(directory, NO_CREDENTIAL).generation == 1


def test_a_new_paper_after_a_rotation_that_was_cut_leaves_the_old_one_its_worth(directory: Path) -> None:
    """Until the new paper is confirmed the old one is the only one that surely exists."""
    root, paper = confirmed(directory)
    first = root.wrap(bytes(32), CONTEXT)
    before = {path: path.read_bytes() for path in directory.iterdir() if path.name != "root.recovery"}
    keys.rotate_root(directory, root, str(paper), NO_CREDENTIAL)
    for path, content in before.items():  # the power failed after the first of its writes
        path.write_bytes(content)
    root = keys.open_keys(directory, NO_CREDENTIAL)
    assert root.generation == 1
    new = keys.rotate(directory, root, NO_CREDENTIAL)
    for each in (paper, new):
        opened = keys.open_with_recovery(keys.recovery_slot(directory), each)
        assert opened.unwrap(first, CONTEXT) == bytes(32)


def test_a_new_paper_keeps_the_earlier_root_keys(directory: Path, tmp_path: Path) -> None:
    root, paper = confirmed(directory)
    first = root.wrap(bytes(32), CONTEXT)
    root = keys.rotate_root(directory, root, str(paper), NO_CREDENTIAL)
    new = keys.rotate(directory, root, NO_CREDENTIAL)
    for each in (paper, new):
        assert keys.open_with_recovery(keys.recovery_slot(directory), each).unwrap(first, CONTEXT)
    keys.check_recovery(directory, root, str(new))
    slot = keys.recovery_slot(directory)
    with pytest.raises(Refused):
        keys.open_with_recovery(slot, paper)
    restored = keys.restore_keys(tmp_path / "blank" / "keys", slot, new, NO_CREDENTIAL)
    assert restored == root
    assert restored.unwrap(first, CONTEXT) == bytes(32)
    assert keys.open_with_recovery(keys.recovery_slot(tmp_path / "blank" / "keys"), new).unwrap(
        first, CONTEXT
    )


def test_a_chain_with_a_damaged_link_is_damaged_and_not_taken_for_whole(directory: Path) -> None:
    root, paper = confirmed(directory)
    for _ in range(2):
        root = keys.rotate_root(directory, root, str(paper), NO_CREDENTIAL)
    slot = keys.recovery_slot(directory)
    assert len(slot) == 3 * SLOT_BYTES
    for place in range(SLOT_BYTES, len(slot), 7):
        altered = bytearray(slot)
        altered[place] ^= 1 << place % 8
        with pytest.raises(Corrupt):
            keys.open_with_recovery(bytes(altered), paper)
    with pytest.raises(Corrupt):
        keys.open_with_recovery(slot[:-SLOT_BYTES], paper)


def _replaced(directory: Path) -> None:
    (directory / "machine.key").write_bytes(bytes(32))


def _gone(directory: Path) -> None:
    (directory / "machine.key").unlink()


def _short(directory: Path) -> None:
    (directory / "machine.key").write_bytes(b"short")


def _slot_damaged(directory: Path) -> None:
    (directory / "root.machine").write_bytes(b"?" * SLOT_BYTES)


def _slot_gone(directory: Path) -> None:
    (directory / "root.machine").unlink()


@pytest.mark.parametrize("harm", [_replaced, _gone, _short, _slot_damaged, _slot_gone])
def test_a_box_whose_machine_seal_does_not_open_says_so_and_is_sealed_anew_with_the_paper(
    directory: Path, harm: Callable[[Path], None]
) -> None:
    root, paper = confirmed(directory)
    first = root.wrap(bytes(32), CONTEXT)
    root = keys.rotate_root(directory, root, str(paper), NO_CREDENTIAL)
    harm(directory)
    with pytest.raises(OperatorNeeded) as raised:
        keys.open_keys(directory, NO_CREDENTIAL)
    assert "appliance key reseal" in str(raised.value)
    with pytest.raises(Refused):
        keys.reseal(directory, str(RecoveryKey.generate()), NO_CREDENTIAL)
    assert keys.reseal(directory, str(paper), NO_CREDENTIAL) == root
    opened = keys.open_keys(directory, NO_CREDENTIAL)
    assert (opened, opened.unwrap(first, CONTEXT)) == (root, bytes(32))
    assert keys.recovery_confirmed(directory)


def test_a_box_moves_to_another_machines_credential_with_the_paper(
    directory: Path, credential: dict[str, str], tmp_path: Path
) -> None:
    root, paper = confirmed(directory, credential)
    other = tmp_path / "other-machine"
    other.mkdir()
    (other / "machine-seal").write_bytes(hashlib.sha512(b"new board").digest())
    (other / "machine-seal").chmod(0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(other)}
    with pytest.raises(OperatorNeeded, match="another machine"):
        keys.open_keys(directory, environ)
    assert keys.reseal(directory, str(paper), environ) == root
    assert keys.open_keys(directory, environ) == root
    assert not (directory / "machine.key").exists()


def test_a_new_root_key_killed_at_any_step_leaves_a_box_that_machine_and_paper_open(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    root, paper = confirmed(prepared / "keys")
    first = root.wrap(bytes(32), CONTEXT)
    found = set()
    for directory in interrupted(prepared, tmp_path / "results", f"root {paper}"):
        box = keys.open_keys(directory, NO_CREDENTIAL)
        by_paper = keys.open_with_recovery(keys.recovery_slot(directory), paper)
        found.add((box.generation, by_paper.generation))
        # The paper never opens less than the machine does.
        assert by_paper.unwrap(box.wrap(bytes(32), CONTEXT), CONTEXT) == bytes(32)
        assert box.unwrap(first, CONTEXT) == bytes(32)
        keys.check_recovery(directory, box, str(paper))
        was_cut = box.generation < by_paper.generation
        again = keys.rotate_root(directory, box, str(paper), NO_CREDENTIAL)
        assert not was_cut or again == by_paper, (
            "an archive may have the slot of the one that was drawn already"
        )
        assert again.generation == box.generation == keys.open_keys(directory, NO_CREDENTIAL).generation
        assert keys.open_with_recovery(keys.recovery_slot(directory), paper) == again
    assert found == {(1, 1), (1, 2), (2, 2)}


def test_sealing_anew_killed_at_any_step_can_be_repeated(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    root, paper = confirmed(prepared / "keys")
    _replaced(prepared / "keys")
    for directory in interrupted(prepared, tmp_path / "results", f"reseal {paper}"):
        assert keys.reseal(directory, str(paper), NO_CREDENTIAL) == root
        assert keys.open_keys(directory, NO_CREDENTIAL) == root


def test_a_damaged_slot_is_never_laid_over_a_good_copy_elsewhere(directory: Path) -> None:
    root, paper = confirmed(directory)
    keys.rotate_root(directory, root, str(paper), NO_CREDENTIAL)
    path = directory / "root.recovery"
    whole = path.read_bytes()
    assert keys.whole_recovery_slot(directory) == whole
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(Corrupt, match="damaged on this box"):
            keys.whole_recovery_slot(directory)
    path.write_bytes(whole[:-1])
    with pytest.raises(Corrupt, match="damaged on this box"):
        keys.whole_recovery_slot(directory)
    path.write_bytes(whole[:10] + b"\xff" + whole[11:])  # a generation that never was, in a damaged slot
    assert newest_generation(path.read_bytes()) == 1
    fresh = keys.rotate(directory, keys.open_keys(directory, NO_CREDENTIAL), NO_CREDENTIAL)
    keys.check_recovery(directory, keys.open_keys(directory, NO_CREDENTIAL), str(fresh))
    assert keys.open_with_recovery(keys.whole_recovery_slot(directory), fresh).generation == 2, "the remedy"
