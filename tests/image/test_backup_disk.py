"""A disk for backups on the appliance's own system: by its label, for the appliance alone, and never over what somebody has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.wizard import places
from tests.image.test_configuration import EXTRA, finish, settings, unfinished

UNITS = EXTRA / "usr/lib/systemd/system"
RULES = EXTRA / "usr/lib/udev/rules.d/91-backup-disk.rules"
SCRIPT = EXTRA / "usr/lib/appliance/backup_disk.py"
AT = "/media/backup"


def rules() -> dict[str, str]:
    """Each rule by the unit that it starts."""
    lines = [each for each in RULES.read_text().splitlines() if not each.startswith("#")]
    return {line.rsplit('+="', 1)[1].rstrip('"'): line for line in lines}


def test_only_a_disk_of_that_name_is_taken_and_only_over_usb_is_one_made() -> None:
    found = rules()
    assert set(found) == {"backup-disk.service", "backup-disk-prepare@%k.service"}
    assert all('ENV{ID_FS_LABEL}=="BOXBACKUP"' in each for each in found.values())
    assert all('TAG+="systemd"' in each for each in found.values())
    assert 'ENV{ID_FS_TYPE}=="ext4"' in found["backup-disk.service"]
    assert 'ENV{ID_BUS}=="usb"' in found["backup-disk-prepare@%k.service"]
    assert 'ENV{ID_FS_TYPE}=="vfat|exfat"' in found["backup-disk-prepare@%k.service"], (
        "ext4 is never made anew"
    )


def test_it_is_mounted_where_the_console_says_and_nothing_on_it_runs(tmp_path: Path) -> None:
    mount = settings(UNITS / "media-backup.mount")
    assert mount["Where"] == [AT]
    assert any(AT.startswith(f"{below}/") for below in places._MOUNTED_BELOW), "the console finds it there"
    assert {"nodev", "nosuid", "noexec"} <= set(mount["Options"][0].split(","))
    assert mount["Type"] == ["ext4"]
    assert mount["What"] == ["/dev/disk/by-label/BOXBACKUP"]
    root = unfinished(tmp_path)
    finish(root)
    assert (root / AT.lstrip("/")).is_dir(), "the root is read-only: its place is there before"


def test_no_start_waits_for_it_and_it_goes_with_its_disk() -> None:
    mount, gift = settings(UNITS / "media-backup.mount"), settings(UNITS / "backup-disk.service")
    device = r"dev-disk-by\x2dlabel-BOXBACKUP.device"
    assert mount["BindsTo"] == [device]
    assert mount["DefaultDependencies"] == ["no"], "or local-fs.target would wait for it"
    assert mount["LazyUnmount"] == ["yes"]
    assert "Requires" not in mount
    assert gift["BindsTo"] == ["media-backup.mount"]
    fstab = (EXTRA / "etc/fstab").read_text()
    assert AT not in fstab


def test_it_is_the_appliances_alone_and_its_walls_let_it_through() -> None:
    assert settings(UNITS / "backup-disk.service")["ExecStart"] == [
        f"/usr/bin/chown appliance:appliance {AT}",
        f"/usr/bin/chmod 0700 {AT}",
    ]
    assert "  /{media,mnt,srv}/** rwkl,\n" in (EXTRA / "etc/apparmor.d/appliance").read_text()


def prepared(tmp_path: Path, *names: str) -> tuple[subprocess.CompletedProcess[str], bytes, bytes, str]:
    """Run it on a stick of 16 MiB, a file, on which `names` lie: what it said, the stick before and after, what it called.

    Only the mount is left out, and what systemd does: the file system is made by what makes it on a box.
    """
    stick, folder, programs = tmp_path / "stick", tmp_path / "mounted", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name in names:
        (folder / name).mkdir()
    stick.write_bytes(b"what lies on it" + bytes((16 << 20) - 15))
    before = stick.read_bytes()
    for name in ("mount", "umount", "udevadm", "systemctl"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/called\n')
        (programs / name).chmod(0o755)
    text = SCRIPT.read_text().replace("/run/backup-disk", str(folder))
    done = subprocess.run(
        [sys.executable, "-c", text, str(stick)],
        env={"PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, before, stick.read_bytes(), (tmp_path / "called").read_text()


@pytest.mark.parametrize("names", [(), ("System Volume Information", "$RECYCLE.BIN")])
def test_an_empty_stick_becomes_a_disk_for_backups(tmp_path: Path, names: tuple[str, ...]) -> None:
    done, _, after, called = prepared(tmp_path, *names)
    assert done.returncode == 0, done.stderr
    assert after[0x438:0x43A] == b"\x53\xef", "ext4"
    assert after[0x478 : 0x478 + 16].rstrip(b"\0") == b"BOXBACKUP"
    told = called.splitlines()
    assert told[0].startswith("mount -t vfat,exfat -o ro,"), "it is looked into, and not written to"
    assert told[1].startswith("umount ")
    assert told[-1] == "systemctl start --no-block backup-disk.service"


def test_a_stick_on_which_anything_lies_is_left_as_it_is(tmp_path: Path) -> None:
    done, before, after, called = prepared(tmp_path, "System Volume Information", "thesis")
    assert done.returncode == 0, "nothing has failed, for a stick"
    assert "left as it is" in done.stdout
    assert "thesis" not in done.stdout + done.stderr, "a name may be a patient's"
    assert after == before
    assert "systemctl" not in called
    assert "umount" in called
