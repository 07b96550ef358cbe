"""Whether the disk asks for a PIN: the script, with programs in the place of the disk's and the TPM2's."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance import disk_pin
from appliance.disk_pin import Ended, State
from tests.image.test_configuration import settings

EXTRA = Path(__file__).parents[2] / "image-build/mkosi.extra"
PROGRAM = EXTRA / "usr/lib/appliance/libexec/disk-pin"
UNOPENED = EXTRA / "usr/lib/appliance/libexec/disk-unopened"
UNITS = EXTRA / "usr/lib/systemd/system"
KEY = "cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv"
ATTEMPT = "0123456789abcdef"
PIN = "48270915"

CRYPTSETUP = '#!/bin/sh\n[ "$1" = luksDump ] && cat {header}\n'
CRYPTENROLL = """#!/usr/bin/env python3
import json, os, sys
from pathlib import Path
folder = Path({folder!r})
key = next(Path(each.split("=", 1)[1]).read_text() for each in sys.argv if each.startswith("--unlock-key-file="))
said = dict(words=sys.argv[1:], key=key, pin=os.environ.get("NEWPIN"), left=(folder / "asked").exists(), told=(folder / "pin").read_text())
(folder / "enrolled").write_text(json.dumps(said))
if {fails!r}:
    sys.exit(1)
entries = json.loads((folder / "header").read_text())["tokens"]
registers = next(each.split("=", 1)[1] for each in sys.argv if each.startswith("--tpm2-pcrs="))
new = {{
    "type": "systemd-tpm2",
    "tpm2-pcrs": [int(each) for each in registers.split("+")],
    "tpm2-pin": "--tpm2-with-pin=yes" in sys.argv,
}}
if new in entries.values():  # as it is, whatever the PIN, and whatever the chip
    print("This PCR set is already enrolled, executing no operation.")
    sys.exit(0)
new["pin"] = os.environ.get("NEWPIN")
kept = {{name: each for name, each in entries.items() if each["type"] != "systemd-tpm2"}}
if {cut!r}:
    kept = entries
(folder / "header").write_text(json.dumps({{"tokens": kept | {{"9": new}}}}, indent=1))
"""


@dataclass
class Disk:
    """A partition with entries of a TPM2, each with a PIN or without."""

    folder: Path
    pins: tuple[bool, ...] = (False,)
    fails: bool = False
    cut: bool = False

    def start(self, asked: str | None = None) -> disk_pin.Seen | None:
        """What the appliance is told, once `asked` was asked for; None for nothing, as at a start."""
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        header = self.folder / "header"
        if not header.exists():
            tokens = {
                str(at): {"type": "systemd-tpm2", "tpm2-pcrs": [7, 12, 14][: 2 + at], "tpm2-pin": pin}
                for at, pin in enumerate(self.pins)
            }
            tokens["5"] = {"type": "systemd-recovery"}
            header.write_text(json.dumps({"tokens": tokens}, indent=1))
        texts = {
            "cryptsetup": CRYPTSETUP.format(header=header),
            "systemd-cryptenroll": CRYPTENROLL.format(
                folder=str(self.folder), fails=self.fails, cut=self.cut
            ),
        }
        for name, text in texts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        key = self.folder / "key"
        if not key.exists():
            key.write_text(KEY + "\n")
        if asked is not None:
            (self.folder / "asked").write_text(asked)
        done = subprocess.run(
            [PROGRAM, "/dev/data", key, self.folder / "asked", self.folder / "pin"],
            env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        for secret in (KEY, PIN):
            assert secret not in done.stdout + done.stderr + (self.folder / "pin").read_text()
        assert done.returncode == (1 if self.fails and self.enrolled else 0), done.stderr
        left = {"bin", "header", "key", "pin", "enrolled"}
        assert {each.name for each in self.folder.iterdir()} <= left, "neither PIN nor key lies anywhere else"
        return disk_pin.seen()

    @property
    def enrolled(self) -> dict[str, object]:
        """What `systemd-cryptenroll` was asked, and how it was around it."""
        kept = self.folder / "enrolled"
        return json.loads(kept.read_text()) if kept.exists() else {}

    @property
    def entries(self) -> list[dict[str, object]]:
        """The entries of the TPM2."""
        tokens = json.loads((self.folder / "header").read_text())["tokens"].values()
        return [each for each in tokens if each["type"] == "systemd-tpm2"]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(disk_pin, "TOLD", tmp_path / "pin")
    monkeypatch.setattr(disk_pin, "FOLDER", tmp_path)
    return Disk(tmp_path)


def chosen(pin: str = PIN, key: str = KEY, attempt: str = ATTEMPT) -> str:
    return f"{attempt}\nchoose\n{key}\n{pin}\n"


def test_at_each_start_it_is_said_whether_the_disk_asks(disk: Disk) -> None:
    assert disk.start() == disk_pin.Seen(State.NONE)
    assert (disk.folder / "pin").stat().st_mode & 0o777 == 0o644
    assert disk.enrolled == {}


@pytest.mark.parametrize(
    ("pins", "state"),
    [
        ((), State.NONE),
        ((True,), State.WANTED),
        ((False, False), State.NONE),
        ((True, True), State.UNFINISHED),
        ((False, True), State.UNFINISHED),
    ],
)
def test_a_change_that_was_cut_is_told_apart(disk: Disk, pins: tuple[bool, ...], state: State) -> None:
    disk.pins = pins
    found = disk.start()
    assert found is not None
    assert found.state is state


def test_a_pin_is_taken_with_the_key_on_paper_and_the_entry_before_goes_last(disk: Disk) -> None:
    assert disk.start(chosen()) == disk_pin.Seen(State.WANTED, ATTEMPT, Ended.DONE)
    asked = disk.enrolled
    assert (asked["pin"], asked["key"]) == (PIN, KEY)
    assert asked["left"] is False, "what holds the PIN is gone before anything is done"
    assert asked["told"] == f"none\n{ATTEMPT} running\n", "the console sees that it is under way"
    assert PIN not in str(asked["words"]), "arguments are everybody's"
    words = asked["words"]
    assert isinstance(words, list)
    assert {
        "--wipe-slot=tpm2",
        "--tpm2-device=auto",
        "--tpm2-pcrs=7+12+14",
        "--tpm2-public-key-pcrs=11",
        "--tpm2-with-pin=yes",
        "/dev/data",
    } <= set(words)


def test_it_is_changed_and_taken_away_again(disk: Disk) -> None:
    disk.pins = (True,)
    for pin in ("70419283", "38205714"):
        assert disk.start(chosen(pin)) == disk_pin.Seen(State.WANTED, ATTEMPT, Ended.DONE)
        (entry,) = disk.entries
        assert entry["pin"] == pin, "the new one is the disk's, and the one before is gone"
    assert disk.start(f"{ATTEMPT}\nremove\n\n\n") == disk_pin.Seen(State.NONE, ATTEMPT, Ended.DONE)
    assert disk.enrolled["pin"] is None
    assert disk.start() == disk_pin.Seen(State.NONE), "the next start remembers no attempt"


@pytest.mark.parametrize(
    ("asked", "ended"),
    [
        (chosen(key=KEY.replace("cbde", "cbdf", 1)), Ended.KEY),
        (chosen(key=""), Ended.KEY),
        (chosen("12345"), Ended.REFUSED),
        (chosen("4827091548271"), Ended.REFUSED),
        (chosen("48270z15"), Ended.REFUSED),
        (chosen(""), Ended.REFUSED),
        (f"{ATTEMPT}\nwipe\n{KEY}\n{PIN}\n", Ended.REFUSED),
        (f"{ATTEMPT}\n", Ended.REFUSED),
        ("", None),
        (chosen(attempt="$(touch /tmp/x)"), None),
    ],
)
def test_what_is_no_pin_or_not_the_disks_key_changes_nothing(
    disk: Disk, asked: str, ended: Ended | None
) -> None:
    found = disk.start(asked)
    assert found is not None
    assert (found.state, found.ended) == (State.NONE, ended)
    assert disk.enrolled == {}
    assert not (disk.folder / "asked").exists(), "or it is asked again and again"


def test_a_disk_without_a_recovery_key_takes_no_pin(disk: Disk) -> None:
    (disk.folder / "key").write_text("")
    found = disk.start(chosen())
    assert found is not None
    assert (found.state, found.ended) == (State.NONE, Ended.REFUSED)
    assert disk.enrolled == {}


def test_a_link_is_not_followed(disk: Disk) -> None:
    (disk.folder / "key").write_text(KEY)
    (disk.folder / "asked").symlink_to(disk.folder / "key")
    found = disk.start()
    assert found is not None
    assert (found.state, found.ended) == (State.NONE, None)
    assert (disk.folder / "key").read_text() == KEY


def test_a_chip_that_does_not_take_it_is_said(disk: Disk) -> None:
    disk.fails = True
    assert disk.start(chosen()) == disk_pin.Seen(State.NONE, ATTEMPT, Ended.CHIP)


def test_a_new_entry_beside_the_old_one_is_no_success_and_asking_again_mends_it(disk: Disk) -> None:
    disk.cut = True
    assert disk.start(chosen()) == disk_pin.Seen(State.UNFINISHED, ATTEMPT, Ended.CHIP)
    disk.cut = False
    assert disk.start(chosen()) == disk_pin.Seen(State.WANTED, ATTEMPT, Ended.DONE)


def test_what_holds_a_pin_is_memory_and_the_appliances_alone() -> None:
    service, path = settings(UNITS / "disk-pin.service"), settings(UNITS / "disk-pin.path")
    asked = str(disk_pin.FOLDER / disk_pin.ASKED)
    assert path["PathExists"] == [asked]
    (program,) = service["ExecStart"]
    assert program.split()[1:] == [
        "/dev/disk/by-box/data",
        "/var/lib/disk-recovery/key",
        asked,
        str(disk_pin.TOLD),
    ]
    assert (service["LimitCORE"], service["MemorySwapMax"]) == (["0"], ["0"])
    assert (
        f"d {disk_pin.FOLDER}       0700 appliance appliance -\n"
        in (EXTRA / "usr/lib/tmpfiles.d/image.conf").read_text()
    )
    preset = (EXTRA / "usr/lib/systemd/system-preset/00-appliance.preset").read_text()
    assert "enable disk-pin.path\nenable disk-pin.service\n" in preset
    web = Path(__file__).parents[2] / "systemd/system/appliance-web.service"
    assert f"ReadWritePaths=-{disk_pin.FOLDER}\n" in web.read_text()


def test_what_cut_changes_have_left_is_cleared_by_the_next(disk: Disk) -> None:
    disk.pins, disk.cut = (True,), True
    disk.start(chosen("70419283"))
    disk.cut = False
    assert len(disk.entries) == 2
    assert disk.start(chosen()) == disk_pin.Seen(State.WANTED, ATTEMPT, Ended.DONE)
    (entry,) = disk.entries
    assert entry["pin"] == PIN


# --- nobody types it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "has_chip", "waits"),
    [
        ([{"type": "systemd-tpm2", "tpm2-pin": True}], True, True),
        ([{"type": "systemd-tpm2", "tpm2-pin": True}], False, False),
        ([{"type": "systemd-tpm2", "tpm2-pin": False}], True, False),
        ([{"type": "systemd-recovery"}], True, False),
        (None, True, False),
    ],
)
def test_only_a_disk_that_wants_a_pin_is_waited_for(
    tmp_path: Path, entries: list[dict[str, object]] | None, has_chip: bool, waits: bool
) -> None:
    header, chip, program = tmp_path / "header", tmp_path / "tpmrm0", tmp_path / "cryptsetup"
    if entries is not None:
        header.write_text(json.dumps({"tokens": dict(enumerate(entries))}, indent=1))
    if has_chip:
        chip.touch()
    program.write_text(CRYPTSETUP.format(header=header))
    program.chmod(0o755)
    done = subprocess.run(
        [UNOPENED, "/dev/data", chip],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == (0 if waits else 1), done.stderr


def test_systemd_itself_waits_for_the_disk_without_end_and_the_machine_is_started_again_by_our_unit() -> None:
    assert "x-systemd.device-timeout=infinity" in (EXTRA / "etc/fstab").read_text()
    service, timer = settings(UNITS / "disk-unopened.service"), settings(UNITS / "disk-unopened.timer")
    assert service["FailureAction"] == ["reboot-force"]
    assert service["ConditionPathExists"] == ["!/dev/mapper/data"]
    assert timer["WantedBy"] == ["sysinit.target"], "what waits for the disk comes after it"
    assert service["DefaultDependencies"] == timer["DefaultDependencies"] == ["no"]
    assert timer["ConditionKernelCommandLine"] == ["!systemd.unit=install.target"]
    preset = (EXTRA / "usr/lib/systemd/system-preset/00-appliance.preset").read_text()
    assert "enable disk-unopened.timer\n" in preset
