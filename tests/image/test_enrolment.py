"""Which key opens the disk after a change of hardware: the script, with programs in the place of the disk's and the TPM2's."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "image-build/mkosi.extra/usr/lib/appliance/libexec/disk-enrolment"
KEY = "cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv"


@dataclass
class Disk:
    """A partition whose TPM2 slot opens or doesn't, with what was asked of `systemd-cryptenroll`."""

    folder: Path
    opens: bool = False
    wants_pin: bool = False
    registers: str = "7+12"
    is_kept: bool = True
    """Whether the TPM2 gives out what it was given."""

    def start(self) -> list[str]:
        """As at a start of the machine: the words of the enrolment, and the key that it was given; empty for none."""
        programs, asked = self.folder / "bin", self.folder / "asked"
        programs.mkdir(exist_ok=True)
        pin = str(self.wants_pin).lower()
        self._write(
            programs / "cryptsetup",
            f"""case $1 in
luksDump)
  echo '{{"tokens": {{"0": {{"type": "systemd-tpm2", "tpm2-pcrs": ['
  echo '{self.registers.replace("+", ", ")}],'; echo '"tpm2-pin": {pin}}}}}}}' ;;
open) [ {int(self.opens)} = 1 ] || [ -e {self.folder}/new ] ;;
esac""",
        )
        # As the real one: registers that an entry has are enrolled already, whatever chip made it, and all is well.
        self._write(
            programs / "systemd-cryptenroll",
            f'case "$* " in *"--tpm2-pcrs={self.registers} "*) exit 0 ;; esac\n'
            f"[ {int(self.is_kept)} = 0 ] || touch {self.folder}/new\n"
            f'echo "$@" >{asked}\nfor each; do case $each in --unlock-key-file=*) cat "${{each#*=}}" >>{asked} ;; esac; done',
        )
        done = subprocess.run(
            [PROGRAM, "/dev/data", self.folder / "key"],
            env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        (self.folder / "new").unlink(missing_ok=True)
        assert done.returncode == (0 if self.is_kept else 1), done.stderr
        assert KEY not in done.stdout + done.stderr
        left = {"bin", "asked", "key"}
        assert {each.name for each in self.folder.iterdir()} <= left, "the key lies nowhere else"
        return asked.read_text().split("\n") if asked.exists() else []

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "key").write_text(f"{KEY}\n")
    return Disk(tmp_path)


def test_a_machine_whose_tpm2_opens_the_disk_is_left_as_it_is(disk: Disk) -> None:
    disk.opens = True
    assert disk.start() == []


def test_another_tpm2_gets_the_key_in_the_place_of_the_one_before(disk: Disk) -> None:
    words, key = disk.start()
    assert key == KEY, "without the line's end, which is no part of it"
    assert {
        "--wipe-slot=tpm2",
        "--tpm2-device=auto",
        "--tpm2-pcrs=7+12+14",
        "--tpm2-public-key-pcrs=11",
    } <= set(words.split())
    assert words.split()[-1] == "/dev/data"


def test_each_change_of_hardware_gets_registers_that_no_entry_has(disk: Disk) -> None:
    disk.registers = "7+12+14"
    words, _ = disk.start()
    assert "--tpm2-pcrs=7+12" in words.split()


def test_a_tpm2_that_does_not_give_the_key_out_afterwards_is_a_failure(disk: Disk) -> None:
    disk.is_kept = False
    assert disk.start(), "and the unit says so"


def test_a_disk_that_wants_a_pin_is_never_made_to_open_without_one(disk: Disk) -> None:
    disk.wants_pin = True
    assert disk.start() == []


def test_nothing_is_done_without_the_key_that_was_kept(disk: Disk) -> None:
    os.truncate(disk.folder / "key", 0)
    assert disk.start() == []
