"""The installer of the stick, on files in the place of disks: it writes what was chosen and confirmed, and nothing else."""

import gzip
import json
import os
import pty
import random
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import firmware
from tests.image.loading import loaded
from tests.image.test_configuration import BUILD, EXTRA

PROGRAM = EXTRA / "usr/lib/appliance/install.py"
SIZE = 3 << 20
"""Bytes of the box's disk here; in the field it is a thousand times that."""


def disk(path: Path | str, size: int = 1 << 40, **others: Any) -> dict[str, Any]:
    """What lsblk says of one."""
    return {
        "path": str(path),
        "type": "disk",
        "size": size,
        "ro": False,
        "model": "M",
        "serial": "S",
        **others,
    }


def part(path: Path | str, label: str, kind: str | None = None, **others: Any) -> dict[str, Any]:
    told = {"path": str(path), "type": "part", "size": 1, "ro": False, "partlabel": label, "parttype": kind}
    return told | others


def boxs_disk(path: Path | str, **others: Any) -> dict[str, Any]:
    """One with the `/var` of a box."""
    return disk(path, children=[part(f"{path}5", "data", fstype="crypto_LUKS")], **others)


class Bench:
    """A stick whose image is `packed`, a disk that was in use, and somebody who answers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install = loaded(PROGRAM)
        self.contents = random.Random(7).randbytes(SIZE)
        self.packed, self.disk = folder / "appliance-image", folder / "disk"
        self.packed.write_bytes(gzip.compress(self.contents) + bytes(1 << 20))
        self.was = random.Random(8).randbytes(SIZE + (2 << 20))
        self.disk.write_bytes(self.was)
        self.answers: list[str] = []
        self.asked: list[str] = []
        monkeypatch.setattr(self.install, "BLOCK_BYTES", (1 << 20) + (1 << 19))
        self.chip, self.secure_boot = folder / "tpm_version_major", folder / "SecureBoot"
        self.chip.write_text("2\n")
        self.secure_boot.write_bytes(b"\6\0\0\0\1")
        self.number = folder / "product_uuid"
        self.number.write_text("7c9d2f54-3b1e-4c57-9a6e-52f1f0c1e5aa\n")
        monkeypatch.setattr(self.install, "CHIP", self.chip)
        monkeypatch.setattr(self.install, "NUMBER", self.number)
        monkeypatch.setattr(self.install, "SECURE_BOOT", self.secure_boot)
        self.stick = disk("/dev/sdb", children=[part(self.packed, "x", self.install.IMAGE_TYPE.upper())])
        self.told = json.dumps({"blockdevices": [disk(self.disk), self.stick]})
        monkeypatch.setattr(self.install, "listed", lambda: self.told)
        monkeypatch.setattr(self.install, "ask", self._answer)

    def _answer(self, question: str) -> str:
        self.asked.append(question)
        return self.answers.pop(0)

    def run(self, *answers: str) -> int:
        self.answers = list(answers)
        return int(self.install.main())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_the_disk_that_is_chosen_and_confirmed_becomes_the_boxs_to_the_bit(bench: Bench) -> None:
    assert bench.run("1", "ERASE", "") == 0
    written = bench.disk.read_bytes()
    assert written[:SIZE] == bench.contents
    assert not any(written[-(1 << 20) :]), "the table of partitions that was kept at its end is gone"
    assert len(written) == len(bench.was)


def test_a_disk_from_which_nothing_would_start_is_not_written(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.told = json.dumps({"blockdevices": [disk(bench.disk, **{"log-sec": 4096}), bench.stick]})
    with pytest.raises(IndexError):
        bench.run("1", "", "1", "")
    assert bench.disk.read_bytes() == bench.was
    assert not [each for each in bench.asked if "ERASE" in each]
    said = capsys.readouterr().out
    assert "sectors of 4096 bytes" in said
    assert "secteurs de 4096 octets" in said
    lines = [line for line in said.splitlines() if str(bench.disk) not in line]
    assert max(map(len, lines)) <= bench.install.WIDTH
    bench.told = json.dumps({"blockdevices": [disk(bench.disk, **{"log-sec": 512}), bench.stick]})
    assert bench.run("1", "ERASE", "") == 0


def test_nothing_is_written_before_the_word_is_typed(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(IndexError):  # it asks again and again, until nobody answers
        bench.run("", "2", "0", "x", "1", "erase", "1", "")
    assert bench.disk.read_bytes() == bench.was
    said = capsys.readouterr().out
    assert "Everything on the disk that you choose is lost." in said
    assert "Tout ce qui se trouve sur le disque choisi est perdu." in said


@pytest.mark.parametrize("told", [None, "", "1\n", "\xff"])
def test_a_machine_without_a_tpm2_is_not_installed_on_and_is_told_so(
    told: str | None, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would start again and again, without a /var."""
    bench.chip.unlink()
    if told is not None:
        bench.chip.write_text(told)
    assert bench.run("") == 1, "no disk was asked for"
    assert bench.disk.read_bytes() == bench.was
    said = capsys.readouterr().out
    assert "this machine has no TPM 2.0, or it is off" in said and "(fTPM, PTT, Security Device)" in said
    assert "pas de TPM 2.0, ou il est désactivé" in said and "Activez le TPM dans le micrologiciel" in said
    assert bench.asked == ["Enter to start again / Entrée pour redémarrer : "]


@pytest.mark.parametrize(
    "told", [None, "", "\n", f"{uuid.UUID(int=0)}\n", f"{uuid.UUID(int=2**128 - 1)}\n", "FFFFFFFF-FFFF\n"]
)
def test_a_machine_whose_number_would_be_another_at_each_start_is_not_installed_on(
    told: str | None, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """systemd takes none of these for one, and throws the key of the machine seal away: each start would ask for the recovery key."""
    bench.number.unlink()
    if told is not None:
        bench.number.write_text(told)
    assert bench.run("") == 1, "no disk was asked for"
    assert bench.disk.read_bytes() == bench.was
    said = capsys.readouterr().out
    assert "the firmware has no number of this machine's own (UUID)" in said and "System UUID" in said
    assert "le micrologiciel n'a pas de numéro (UUID)" in said
    assert bench.install.NUMBER.name == str(loaded(PROGRAM).NUMBER).rpartition("/")[2]
    assert "systemd.machine_id=firmware" in (BUILD / "mkosi.conf").read_text()


def test_no_disk_is_written_while_another_in_the_machine_has_a_boxs_data(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the next start either might be opened, by the same TPM2: the old one would take the images of now."""
    for other in (
        boxs_disk("/dev/nvme0n1"),
        boxs_disk("/dev/sdc", size=4 << 30),
        boxs_disk("/dev/sdc", ro=True),
    ):
        bench.told = json.dumps({"blockdevices": [disk(bench.disk), other, bench.stick]})
        with pytest.raises(IndexError):  # until nobody answers any more
            bench.asked.clear()
            bench.run("1", "", "1", "")
        assert bench.disk.read_bytes() == bench.was
        assert not [asked for asked in bench.asked if "ERASE" in asked]
        assert bench.asked.count("Enter to look again / Entrée pour chercher encore : ") == 2
        assert f"  {other['path']} (M S)" in capsys.readouterr().out
    bench.told = json.dumps({"blockdevices": [boxs_disk(bench.disk), disk("/dev/sdc"), bench.stick]})
    assert bench.run("1", "ERASE", "") == 0, "the disk of the box itself may be written anew"


@pytest.mark.parametrize(("told", "is_off"), [(b"\6\0\0\0\0", True), (b"\6\0\0\0\1", False), (None, False)])
def test_secure_boot_that_is_off_is_said_before_a_disk_is_named(
    told: bytes | None, is_off: bool, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.secure_boot.unlink()
    if told is not None:
        bench.secure_boot.write_bytes(told)
    assert bench.run("1", "ERASE", "") == 0, "a machine that has no other way is installed on all the same"
    said = capsys.readouterr().out
    assert ("SECURE BOOT IS OFF" in said, "SECURE BOOT EST DÉSACTIVÉ" in said) == (is_off, is_off)
    if is_off:
        assert said.index("Enroll Secure Boot keys") < said.index(str(bench.disk))


def test_nothing_hides_from_the_installer_what_it_reads_of_the_firmware() -> None:
    install: Any = loaded(PROGRAM)
    assert str(install.CHIP) == "/sys/class/tpm/tpm0/tpm_version_major"
    assert install.SECURE_BOOT.name == firmware.SECURE_BOOT.name
    service = (EXTRA / "usr/lib/systemd/system/install.service").read_text()
    assert not re.search("InaccessiblePaths|TemporaryFileSystem|RootDirectory|MountAPIVFS", service)
    assert "^drivers/char/tpm/" in (BUILD / "mkosi.conf").read_text()


def test_no_line_is_broken_by_the_screen_of_a_console(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has 80 columns, and breaks what is longer in the middle of a word. Whatever goes wrong is among it."""
    install = bench.install

    def answered(prompt: str) -> str:
        install.say(prompt)
        return bench._answer(prompt)

    monkeypatch.setattr(install, "ask", answered)
    bench.told = json.dumps(
        {"blockdevices": [disk("/dev/nvme0n1", model="A " * 30, serial="S" * 20), bench.stick]}
    )
    monkeypatch.setattr(install, "write", lambda *_: None)
    monkeypatch.setattr(install, "compare", lambda *_: None)
    bench.secure_boot.write_bytes(b"\6\0\0\0\0")
    assert bench.run("", "1", "ERASE", "") == 0
    for error in (
        install.NoChip("x"),
        install.NoNumber("x"),
        install.NoStick("x"),
        install.NoListing(
            "CalledProcessError: Command '['lsblk', '--json', '--tree', '--bytes']' ended with 32."
        ),
        install.Differs("/dev/nvme0n1: at byte 123456789012 there is not what was written"),
        EOFError("it ends too early / elle est incomplète"),
        OSError(28, "No space left on device", "/dev/nvme0n1"),
    ):

        def failing(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(install, "compare", failing)
        assert bench.run("1", "ERASE", "") == 1
    for there in (
        [disk("/dev/nvme0n1", 1)],
        [disk("/dev/nvme0n1"), boxs_disk("/dev/nvme1n1", model="B " * 20)],
    ):
        bench.told = json.dumps({"blockdevices": [*there, bench.stick]})
        bench.answers = ["1", ""][-len(there) :]
        with pytest.raises(IndexError):
            install.agreed()
    for told in ("1", "2"):
        bench.chip.write_text(told)
        bench.told = json.dumps({"blockdevices": []})
        assert bench.run("") == 1
    said = capsys.readouterr().out
    assert (
        "Retirez la clé USB" in said
        and "pas de TPM" in said
        and "Gio ou plus" in said
        and "sont branchées" in said
        and "retirez ce disque" in said
    )
    assert not [line for line in said.split("\n") if len(line) > 80]
    assert install.folded(f"  {'a ' * 50}") == f"  {'a ' * 38}a\n  {'a ' * 10}a ", (
        "as far in, and a question keeps its space"
    )


def test_a_cut_leaves_an_empty_disk_and_not_half_a_box(bench: Bench) -> None:
    def cut(so_far: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.install.write(bench.packed, bench.disk, cut)
    assert not any(bench.disk.read_bytes()[: 1 << 20])
    bench.install.write(bench.packed, bench.disk, lambda _: None)
    assert bench.disk.read_bytes()[:SIZE] == bench.contents, "and it can be begun again"


def test_a_stick_that_is_damaged_is_said_and_leaves_no_table_of_partitions(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress(bench.contents)
    scribbled = whole[: len(whole) // 2] + bytes(1000) + whole[len(whole) // 2 + 1000 :]
    checksum = whole[:-8] + b"\0\0\0\0" + whole[-4:]
    for damaged in (whole[: len(whole) // 2], whole[:-1], checksum, scribbled, b"", bytes(1 << 20)):
        bench.packed.write_bytes(damaged)
        assert bench.run("1", "ERASE", "") == 1
        said = capsys.readouterr().out
        assert "It was not installed" in said
        assert "The stick is damaged: write it anew, or take another." in said
        assert not any(bench.disk.read_bytes()[: 1 << 20])


def test_what_lies_behind_the_packed_disk_is_not_read(bench: Bench) -> None:
    packed = gzip.compress(bench.contents)
    for behind in (b"", bytes(5 << 20), b"something else"):
        bench.packed.write_bytes(packed + behind)
        assert b"".join(bench.install.blocks(bench.packed)) == bench.contents


@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(1, 30_000)), max_size=6), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_a_disk_is_unpacked_whole_in_blocks_of_one_size(pieces: list[tuple[bytes, int]], size: int) -> None:
    install: Any = loaded(PROGRAM)
    install.BLOCK_BYTES, install.PACKED_BYTES = size * 1000, 97
    contents = b"".join(piece * times for piece, times in pieces)
    with tempfile.NamedTemporaryFile() as packed:
        packed.write(gzip.compress(contents))
        packed.flush()
        found = list(install.blocks(Path(packed.name)))
    assert b"".join(found) == contents
    assert all(len(each) == size * 1000 for each in found[:-1])


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(5, "Input/output error"), "The stick or the disk fails"),
        (MemoryError(), "send support a picture of this screen"),
        (RuntimeError("what nobody thought of"), "send support a picture of this screen"),
    ],
)
def test_whatever_goes_wrong_is_on_the_screen_with_what_to_do_and_waits_for_a_key(
    error: Exception,
    remedy: str,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(bench.install, "write", fail)
    assert bench.run("1", "ERASE", "") == 1
    said = capsys.readouterr().out
    assert (str(error) or type(error).__name__) in said
    assert remedy in said
    assert bench.asked[-1].startswith("Enter to start again"), "or it is gone before anybody has read it"


@pytest.mark.parametrize(
    "told", ["", "[]", "{}", '{"blockdevices": [{"children": [1]}]}', '{"blockdevices": [1]}']
)
def test_a_machine_that_does_not_say_which_disks_it_has_is_said(
    told: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.told = told
    assert bench.run("") == 1
    assert "send support a picture of this screen" in capsys.readouterr().out


def test_a_program_that_lists_no_disks_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> str:
        raise subprocess.CalledProcessError(32, "lsblk")

    monkeypatch.setattr(bench.install, "listed", fail)
    assert bench.run("") == 1
    assert "lsblk" in capsys.readouterr().out


def test_no_stick_or_two_are_said_before_any_disk_is_named(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    for sticks in ([], [bench.stick, bench.stick | {"path": "/dev/sdc"}]):
        bench.told = json.dumps({"blockdevices": [disk(bench.disk), *sticks]})
        assert bench.run("") == 1
        said = capsys.readouterr().out
        assert f"there are {len(sticks)} sticks that install" in said
        assert "Leave the stick in that this machine was started from, and no other." in said
        assert str(bench.disk) not in said
    assert bench.disk.read_bytes() == bench.was


def test_what_is_asked_is_on_the_screen_and_not_in_the_journal(tmp_path: Path) -> None:
    """At a terminal `input` writes to the standard error, which the unit gives to the journal: nobody saw a question."""
    screen, keyboard = pty.openpty()
    with open(keyboard, "r+b", buffering=0) as terminal, (tmp_path / "journal").open("wb") as journal:
        code = f"import runpy; print(repr(runpy.run_path({str(PROGRAM)!r})['ask']('Which / Lequel : ')))"
        asking = subprocess.Popen(
            [sys.executable, "-I", "-c", code], stdin=terminal, stdout=terminal, stderr=journal
        )
        os.write(screen, b"1\n")
        assert asking.wait(60) == 0
    shown = ""
    with suppress(OSError):  # which says that nobody holds the terminal any more
        while True:
            shown += os.read(screen, 1000).decode()
    os.close(screen)
    assert "Which / Lequel : " in shown and "'1'" in shown
    assert (tmp_path / "journal").read_bytes() == b""
    assert PROGRAM.read_text().count("input(") == 1


def test_what_the_disk_did_not_keep_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write: Callable[..., None] = bench.install.write

    def spoil(image: Path, to: Path, told: Callable[[int], None]) -> None:
        write(image, to, told)
        data = bytearray(to.read_bytes())
        data[SIZE // 2] ^= 1
        to.write_bytes(data)

    monkeypatch.setattr(bench.install, "write", spoil)
    assert bench.run("1", "ERASE", "") == 1


def test_only_disks_that_a_box_has_room_on_can_be_chosen_and_never_the_stick() -> None:
    install = loaded(PROGRAM)
    told = [
        disk("/dev/sda", 500_000_000_000),
        disk("/dev/sdb", children=[part("/dev/sdb1", "esp"), part("/dev/sdb4", "x", install.IMAGE_TYPE)]),
        disk(
            "/dev/sdc",
            children=[part("/dev/sdc4", "appliance-image", "0fc63daf-8483-4772-8e79-3d69d8477de4")],
        ),
        disk("/dev/sdd", 4 << 30),
        disk("/dev/sde", ro=True),
        disk("/dev/sr0", type="rom"),
        disk("/dev/zram0"),
        boxs_disk("/dev/nvme0n1", model=None, serial=None),
    ]
    listing = json.dumps({"blockdevices": told})
    found = install.choosable(listing)
    assert [each.path for each in found] == ["/dev/sda", "/dev/sdc", "/dev/nvme0n1"], "a name makes no stick"
    assert install.image_of(listing) == Path("/dev/sdb4")
    assert [each.holds_box for each in found] == [False, False, True]
    assert str(found[0]) == "/dev/sda   500 GB   M S"
    assert "données d'un boîtier" in str(found[2]), "whoever reinstalls a box is told what is on its disk"


def test_this_machines_own_disks_are_read() -> None:
    install = loaded(PROGRAM)
    for each in install.choosable(install.listed()):
        assert each.path.startswith("/dev/") and each.size_bytes >= install.SMALLEST_BYTES


def machine_with_a_stick(root: Path) -> None:
    """What the kernel and udev tell of a machine with an empty disk and the stick, below `root`: lsblk reads it there."""
    devices = {
        "sda": ("8:0", 8 << 30, {}),
        "sdb": ("8:16", 2 << 30, {}),
        "sdb/sdb1": ("8:17", 512 << 20, {"ID_PART_ENTRY_NAME": "esp"}),
        "sdb/sdb4": ("8:20", 1 << 30, {"ID_PART_ENTRY_TYPE": loaded(PROGRAM).IMAGE_TYPE}),
    }
    numbers, udev = root / "sys/dev/block", root / "dev"
    for folder in (numbers, udev, root / "proc/self", root / "sys/block"):
        folder.mkdir(parents=True)
    (root / "proc/self/mountinfo").touch()
    (root / "proc/swaps").touch()
    for name, (number, size, known) in devices.items():
        told, partition = root / "sys/devices" / name, name[-1].isdigit()
        for each in ("holders", "slaves"):
            (told / each).mkdir(parents=True)
        values = {"dev": number, "size": size // 512, "ro": 0} | (
            {"partition": name[-1], "start": 0} if partition else {}
        )
        for each, value in values.items():
            (told / each).write_text(f"{value}\n")
        (numbers / number).symlink_to(Path("../../devices") / name)
        if not partition:
            (root / "sys/block" / name).symlink_to(Path("../devices") / name)
        (udev / told.name).write_text("".join(f"{key}={value}\n" for key, value in known.items()))


def test_the_stick_and_the_disk_are_found_in_what_lsblk_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install, lsblk = loaded(PROGRAM), shutil.which("lsblk")
    assert lsblk is not None
    machine_with_a_stick(tmp_path / "root")
    instead = tmp_path / "lsblk"
    instead.write_text(f'#!/bin/sh\nexec {lsblk} --sysroot {tmp_path}/root "$@"\n')
    instead.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    image, disks = install.looked()
    assert image == Path("/dev/sdb4")
    assert [(each.path, each.size_bytes) for each in disks] == [("/dev/sda", 8 << 30)], "and never the stick"


def test_the_stick_starts_the_installer_and_nothing_of_a_box() -> None:
    text = (BUILD / "scripts/install-uki").read_text()
    for word in (
        "systemd.verity_root_data=/dev/disk/by-partuuid/$root",
        "systemd.verity_root_hash=/dev/disk/by-partuuid/$verity",
        "systemd.unit=install.target",
        "rd.systemd.mask=systemd-repart.service",
        " systemd.mask=systemd-repart.service",  # the one above is of the initrd alone
        "luks=no",
        "fstab=no",
    ):
        assert word in text, "or it makes itself a box's partitions, or looks for a box's /var"
    commands = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    assert "--secureboot-private-key" in commands
    assert "pcr" not in commands, "whatever it measures, a TPM2 must give it no box's key"
    assert "import_credentials" not in commands, "it refuses what the hardware hands over, as a box does"
    units = EXTRA / "usr/lib/systemd/system"
    for name in ("install.target", "install.service"):
        unit = (units / name).read_text()
        assert "ConditionKernelCommandLine=systemd.unit=install.target\n" in unit, (
            "on a box it can't be started"
        )
        assert "[Install]" not in unit
    service = (units / "install.service").read_text()
    assert service.index("ExecStartPre=-/usr/bin/udevadm settle") < service.index("ExecStart=/usr/lib"), (
        "the types of partitions are udev's to know"
    )


def test_the_stick_is_known_by_a_type_that_the_build_gives_its_partition_and_nothing_else_has() -> None:
    build = (BUILD / "build").read_text()
    kind = loaded(PROGRAM).IMAGE_TYPE
    assert f"readonly image_type={kind}\n" in build
    assert build.count(kind) == 1
    assert (
        """'start=%sMiB, size=%sMiB, type=%s, name=appliance-image\\n' "$end" "$size" "$image_type\""""
        in build
    )
    others = "".join(each.read_text() for each in (EXTRA / "usr/lib/repart.d").iterdir())
    assert kind not in others
