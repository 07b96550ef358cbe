"""The installer of the stick, on files in the place of disks: it writes what was chosen and confirmed, and nothing else."""

import gzip
import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.image.test_configuration import BUILD, EXTRA

PROGRAM = EXTRA / "usr/lib/appliance/install.py"
SIZE = 3 << 20
"""Bytes of the box's disk here; in the field it is a thousand times that."""


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("install", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def part(path: Path | str, label: str) -> dict[str, Any]:
    return {"path": str(path), "type": "part", "size": 1, "ro": False, "partlabel": label}


class Bench:
    """A stick whose image is `packed`, a disk that was in use, and somebody who answers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install = loaded()
        self.contents = random.Random(7).randbytes(SIZE)
        self.packed, self.disk = folder / "appliance-image", folder / "disk"
        self.packed.write_bytes(gzip.compress(self.contents))
        self.was = random.Random(8).randbytes(SIZE + (2 << 20))
        self.disk.write_bytes(self.was)
        self.answers: list[str] = []
        self.asked: list[str] = []
        for name, value in (("IMAGE", self.packed), ("BLOCK_BYTES", (1 << 20) + (1 << 19))):
            monkeypatch.setattr(self.install, name, value)
        told = json.dumps(
            {"blockdevices": [disk(self.disk), disk("/dev/sdb", children=[part(self.packed, "x")])]}
        )
        monkeypatch.setattr(self.install, "listed", lambda: told)
        monkeypatch.setattr("builtins.input", self._answer)

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


def test_nothing_is_written_before_the_word_is_typed(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(IndexError):  # it asks again and again, until nobody answers
        bench.run("", "2", "0", "x", "1", "erase", "1", "")
    assert bench.disk.read_bytes() == bench.was
    said = capsys.readouterr().out
    assert "Everything on the disk that you choose is lost." in said
    assert "Tout ce qui se trouve sur le disque choisi est perdu." in said


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
    whole = bench.packed.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-8] + b"\0\0\0\0" + whole[-4:]):
        bench.packed.write_bytes(damaged)
        assert bench.run("1", "ERASE", "") == 1
        assert "It was not installed" in capsys.readouterr().out
        assert not any(bench.disk.read_bytes()[: 1 << 20])


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
    install = loaded()
    told = [
        disk("/dev/sda", 500_000_000_000),
        disk("/dev/sdb", children=[part("/dev/sdb1", "esp"), part("/dev/sdb4", "whatever")]),
        disk("/dev/sdc", children=[part("/dev/sdc4", "appliance-image")]),
        disk("/dev/sdd", 4 << 30),
        disk("/dev/sde", ro=True),
        disk("/dev/sr0", type="rom"),
        disk("/dev/zram0"),
        disk("/dev/nvme0n1", children=[part("/dev/nvme0n1p5", "data")], model=None, serial=None),
    ]
    found = install.choosable(json.dumps({"blockdevices": told}), "/dev/sdb4")
    assert [each.path for each in found] == ["/dev/sda", "/dev/nvme0n1"]
    assert [each.holds_box for each in found] == [False, True]
    assert str(found[0]) == "/dev/sda   500 GB   M S"
    assert "données d'un boîtier" in str(found[1]), "whoever reinstalls a box is told what is on its disk"


def test_this_machines_own_disks_are_read() -> None:
    install = loaded()
    for each in install.choosable(install.listed(), "/dev/none"):
        assert each.path.startswith("/dev/") and each.size_bytes >= install.SMALLEST_BYTES


def test_the_stick_starts_the_installer_and_nothing_of_a_box() -> None:
    text = (BUILD / "scripts/install-uki").read_text()
    for word in (
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
