"""What the machine in QEMU is made of, as far as it shows without starting it."""

import re
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.image.machine import SLOW_UNITS
from tests.provisioning import clocks, emulated, shutting
from tests.provisioning.__main__ import SUITE_OF, chosen
from tests.provisioning.limits import SERVICES
from tests.provisioning.machine import Machine
from tests.provisioning.playing import ROOT, hosts

UNITS = Path(__file__).parents[2] / "systemd/system"
PORTS = {22: 40022, 443: 40443, 11112: 41112}


def words_after(word: str, command: list[str]) -> list[str]:
    return [after for before, after in pairwise(command) if before == word]


@pytest.mark.parametrize(
    ("words", "so"),
    [
        ([], ("", "trixie")),
        (["12"], ("", "bookworm")),
        (["vm"], ("vm", "trixie")),
        (["vm", "12"], ("vm", "bookworm")),
        (["12", "vm"], ("vm", "bookworm")),
        (["runbooks", "12"], ("runbooks", "bookworm")),
        (["shut"], ("shut", "trixie")),
        (["vm", "runbooks"], None),
        (["11"], None),
        (["12", "13"], None),
        (["vm", "vm"], None),
    ],
)
def test_one_word_says_where_and_one_says_which(words: list[str], so: object) -> None:
    assert chosen(words) == so


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_what_is_brought_to_a_box_without_a_way_in_is_pinned_by_hash(version: str) -> None:
    told = shutting.locked((ROOT / f"requirements-{version}.lock").read_text())
    assert set(re.findall(r"^([\w-]+)==", told, re.MULTILINE)) == set(shutting.ANSIBLE)
    assert told.count("--hash=sha256:") > len(shutting.ANSIBLE)


def test_its_cables_lead_to_this_machine_alone(tmp_path: Path) -> None:
    cable, time = words_after("-netdev", emulated.command(tmp_path, PORTS, 42224))
    parts = cable.split(",")
    assert "restrict=on" in parts, "nothing else of the network is to be had"
    forwarded = [each for each in parts if each.startswith("hostfwd=")]
    assert forwarded == [f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in PORTS.items()]
    (clinic,) = [each for each in parts if each.startswith("guestfwd=")]
    address, port = emulated.CLINIC
    assert clinic.startswith(f"guestfwd=tcp:{address}:{port}-cmd:")
    assert clinic.endswith(" 42224")
    assert time == "tap,id=time,ifname=box-time,script=no,downscript=no"


def test_it_starts_from_its_own_disk_and_has_another_for_backups(tmp_path: Path) -> None:
    command = emulated.command(tmp_path, PORTS, 42224)
    assert words_after("-accel", command) == ["tcg,thread=multi"], "it runs where no hardware can be lent"
    (told,) = words_after("-append", command)
    assert f"root=LABEL={emulated.SYSTEM}" in told.split()
    drives = words_after("-drive", command)
    assert [each.rsplit("file=", 1)[1] for each in drives] == [
        f"{tmp_path}/{emulated.SYSTEM}.raw",
        f"{tmp_path}/{emulated.BACKUP}.raw",
        f"{tmp_path}/{emulated.SWAP}.raw",
    ]
    assert "-no-reboot" not in command, "a start of its own is what it is for"


def test_a_disk_has_its_label_and_what_is_laid_on_it(tmp_path: Path) -> None:
    if shutil.which("mke2fs") is None:
        pytest.fail("apt-get install e2fsprogs")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hostname").write_text("clinicbox\n")
    emulated.disk(tmp_path / "disk.raw", emulated.SYSTEM, 16 << 20, root)
    told = [
        subprocess.run(
            ["debugfs", "-R", words, tmp_path / "disk.raw"], capture_output=True, text=True, check=True
        ).stdout
        for words in ("stats", "cat /etc/hostname")
    ]
    assert f"Filesystem volume name:   {emulated.SYSTEM}\n" in told[0]
    assert told[1] == "clinicbox\n"
    with (tmp_path / "disk.raw").open("rb") as stream:
        stream.seek(16 << 20)
        assert stream.read() == bytes(emulated.TAIL_BYTES), "room for what a search must find"


def test_patience_goes_to_the_units_that_there_are() -> None:
    assert [f"appliance-{name}.service" for name in SERVICES] == list(SLOW_UNITS)
    assert all((UNITS / unit).is_file() for unit in SLOW_UNITS)


def test_and_to_the_backup_disk_after_what_its_line_of_fstab_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd writes the line's patience into `50-device-timeout.conf`; of what is said twice it takes the name that comes last."""
    monkeypatch.setattr(emulated, "run", lambda *words: None)
    emulated.at_home(tmp_path)
    disk = tmp_path / f"etc/systemd/system/dev-disk-by\\x2dlabel-{emulated.BACKUP}.device.d"
    (told,) = disk.iterdir()
    assert told.name > "50-device-timeout.conf"
    assert told.read_text() == emulated.SLOW_DISK
    line = (tmp_path / "etc/fstab").read_text()
    assert emulated.BACKUP not in line, "its line is the playbook's to write"


def test_who_tells_the_time_says_this_machines_to_whoever_asked() -> None:
    asked = bytes([0x23, 0, 6, 0xE9]) + bytes(36) + b"ITS HOUR"
    told = clocks.answer(asked, 1_000.5)
    mode, stratum, poll, _, delay, _, _, _, origin, came, goes = struct.unpack(">BBbbII4s8s8sQQ", told)
    assert (mode >> 6, mode >> 3 & 7, mode & 7, stratum, poll, delay) == (0, 4, 4, 1, 6, 0)
    assert origin == b"ITS HOUR", "or a client takes it for somebody else's answer"
    assert came == goes == (2_208_988_800 + 1_000 << 32) + (1 << 31)


def test_a_clock_follows_where_one_is_marked_as_followed() -> None:
    """As chronyc prints it before and after a server was found to be good, and beside another."""
    before, after = (
        "^? 192.0.2.1 1 6 3 1 +0ns[ +0ns] +/- 1ms\n",
        "^* 192.0.2.1 1 6 377 9 +2us[ +3us] +/- 1ms\n",
    )
    assert clocks.followed("MS Name/IP address\n====\n" + before) == []
    assert clocks.followed("MS Name/IP address\n====\n" + after) == [clocks.HERE]
    assert clocks.followed(after + "^- 203.0.113.5 2 6 377 9 +2us[ +3us] +/- 1ms\n") == [
        clocks.HERE,
        "203.0.113.5",
    ]


def test_the_playbook_finds_it_where_it_is_forwarded() -> None:
    with subprocess.Popen(["true"]) as process:
        box = Machine(Path("key"), process, address="127.0.0.1", ports=PORTS, here=emulated.HERE)
    said = hosts(box, f"LABEL={emulated.BACKUP}")["appliances"]["hosts"]["box"]  # type: ignore[index]
    assert (said["ansible_host"], said["ansible_port"]) == ("127.0.0.1", 40022)
    assert said["firewall_ssh_from"] == [f"{emulated.HERE}/32"], "or the second run would find the door shut"
    assert said["appliance_backup_type"] == "ext4"
    assert set(SUITE_OF) == {"12", "13"}
