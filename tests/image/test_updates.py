"""How a version comes to a box, waits, starts and is left again, as far as it shows without a machine."""

import configparser
import contextlib
import functools
import http.server
import os
import re
import runpy
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import disk_pin
from appliance.cli.updates import Answer
from appliance.errors import ApplianceError, OperatorNeeded, Refused, Transient
from appliance.fleet import taking
from appliance.health import gathering, looks
from appliance.updates import night, restarting
from tests.image import offers
from tests.image.machine import DOOR
from tests.image.test_configuration import (
    BUILD,
    CONFIG,
    EXTRA,
    SLOTS,
    allowed,
    finish,
    script,
    settings,
    unfinished,
)
from tests.image.update_script import update_in
from tests.image.way import way
from tests.told_disk import told_disk

TRANSFERS = sorted((EXTRA / "usr/share/appliance/update").glob("*.transfer"))


def test_an_update_is_signed_newer_and_tried_three_times() -> None:
    assert [each.stem for each in TRANSFERS] == ["10-root-verity", "20-root", "30-uki"], "the UKI comes last"
    read = [settings(each) for each in TRANSFERS]
    for transfer in read:
        assert transfer["Verify"] == ["yes"]
        assert transfer["Type"][0] == "url-file"
        assert transfer["Path"][0] == "@SOURCE@"
        assert transfer["ProtectVersion"] == ["%A"], "the version that runs is never overwritten"
    types = {settings(each)["MatchPartitionType"][0] for each in TRANSFERS[:2]}
    assert types == set(SLOTS)
    labels = {settings(path)["Label"][0] for path in sorted((BUILD / "mkosi.repart").glob("[12]*"))}
    assert labels == {"%M_%A"}
    for transfer in read[:2]:
        assert transfer["MatchPattern"][0].endswith(".raw.gz"), (
            "an empty slot is not sent over a clinic's line"
        )
        assert transfer["MatchPattern"][1] == "appliance_@v", (
            "as mkosi.repart labels them, of image appliance"
        )
    uki = read[2]
    assert (uki["TriesLeft"], uki["TriesDone"], uki["InstancesMax"]) == (["3"], ["0"], ["2"])
    assert CONFIG["ImageId"] == ["appliance"]
    assert CONFIG["UnifiedKernelImageFormat"] == ["%i_%v"], (
        "or sysupdate does not know the first version for one"
    )
    update = (EXTRA / "usr/lib/appliance/libexec/update").read_text()
    assert "--verify=yes" in update
    assert "reboot" not in update, "by day somebody may be between two patients"


def test_a_start_is_good_only_if_the_box_says_so() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(EXTRA / "usr/lib/systemd/system/boot-check.service")
    assert unit["Install"]["requiredby"] == "boot-complete.target"
    assert unit["Unit"]["before"] == "boot-complete.target"
    assert unit["Unit"]["failureaction"] == "reboot-force"
    assert "LoaderBootCountPath" in unit["Unit"]["conditionpathexists"], (
        "a version that proved itself is not doubted"
    )
    assert unit["Unit"]["after"] == "local-fs.target", "what never comes up is not waited for"
    text = (EXTRA / "usr/lib/appliance/libexec/boot-check").read_text()
    assert "http://127.0.0.1:8080/health/deep" in text
    for name in ("dicom", "courier", "jobs", "web"):
        assert f"appliance-{name}.service" in text


@pytest.mark.parametrize(
    "down", ["", *(f"appliance-{each}" for each in ("dicom", "courier", "jobs", "web")), "nginx", "nftables"]
)
def test_a_start_with_any_unit_down_is_not_good(tmp_path: Path, down: str) -> None:
    """systemctl, asked about several units, is content with any of them (systemctl(1), is-active): so is the one here."""
    text = (EXTRA / "usr/lib/appliance/libexec/boot-check").read_text()
    script = tmp_path / "boot-check"
    script.write_text(text.replace("/usr/lib/appliance/venv/bin/python -I -c", "true"))
    for name, does in {
        "systemctl": f'shift 2\nfor each; do [ "$each" = {down}.service ] || exit 0; done\nexit 3\n',
        "sleep": 'kill "$PPID"\n',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{does}")
        program.chmod(0o755)
    judged = subprocess.run(
        ["sh", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("this start is good" in judged.stdout) == (down == "")
    assert judged.stderr == (f"{down}.service is not up\n" if down else "")


def test_a_clock_that_is_behind_refuses_no_signature(tmp_path: Path) -> None:
    """gpg takes none of a key from the future: so the key says that it is old, and a start never is before its version.

    `tests.image.offers` shows what sysupdate makes of signatures from ten years ago, and from in ten years.
    """
    root = unfinished(tmp_path / "root")
    finish(root)
    assert (root / "usr/lib/clock-epoch").stat().st_mtime == 1764000000, "of the root: systemd(1)"
    told = (BUILD / "mkosi.images/initrd/mkosi.conf").read_text()
    assert "../../clock" in told, "of what starts before it: that is where the clock is set"
    assert (BUILD / "clock/usr/lib/clock-epoch").read_bytes() == b""
    build = (BUILD / "build").read_text()
    made = re.search(r"--faked-system-time (\d{8})T000000 .*\n\s*--quick-generate-key", build)
    assert made is not None
    assert datetime.strptime(made[1], "%Y%m%d").replace(tzinfo=UTC).timestamp() < 1764000000


def test_a_version_that_fails_its_check_is_left_within_five_minutes() -> None:
    """Reckoned for a box, not measured: of what is added here only the unit's limit is held by anything. Emulated, where everything takes twenty
    times as long, the test's own drop-ins hold instead."""
    unit = settings(EXTRA / "usr/lib/systemd/system/boot-check.service")
    tries = int(settings(EXTRA / "usr/share/appliance/update/30-uki.transfer")["TriesLeft"][0])
    to_the_disk, to_go_down, to_be_up = 20, 10, 30
    (limit,) = unit["TimeoutStartSec"]
    assert tries * (to_the_disk + int(limit) + to_go_down) + to_be_up <= 300
    own = [each for each in DOOR if "unit-dropin.boot-check.service" in each]
    assert len(own) == 1
    failing = re.findall(r"unit-dropin\.(boot-check\.service[^:]*):", (BUILD / "build").read_text())
    assert failing == ["boot-check.service"]
    assert "boot-check.service~40-emulated=" in own[0], (
        "50-credential.conf, the failing one's, comes after it"
    )


def test_the_version_that_is_to_fail_has_all_its_units_up_and_cannot_keep_an_image() -> None:
    """One whose console is masked would be left by a check that sends nothing, too."""
    build = (BUILD / "build").read_text()
    assert "systemd.mask=" not in build
    (folder,) = re.findall(r"reception=.*ReadOnlyPaths=/var/lib/appliance/(\w+)\\n", build)
    assert f'ObjectStore(data / "{folder}"' in (BUILD.parent / "appliance/box.py").read_text()
    (name,) = re.findall(r"unit-dropin\.(appliance-dicom\.service[^:]*):\$reception", build)
    assert not [each for each in DOOR if f"unit-dropin.{name}=" in each], "what comes by SMBIOS would hold"


def test_a_box_looks_for_updates_at_night_and_each_at_a_minute_of_its_own() -> None:
    timer = settings(EXTRA / "usr/lib/systemd/system/update.timer")
    assert timer["OnCalendar"] == ["*-*-* 02:00"]
    assert (timer["RandomizedDelaySec"], timer["FixedRandomDelay"]) == (["2h"], ["yes"])
    assert timer["Persistent"] == ["yes"], "a box that was off at night looks when it is on again"
    assert settings(EXTRA / "usr/lib/systemd/system/update.service")["Type"] == ["oneshot"]


def test_what_was_taken_starts_in_its_hours_or_with_the_next_start() -> None:
    units = EXTRA / "usr/lib/systemd/system"
    timer, restart = settings(units / "update-restart.timer"), settings(units / "update-restart.service")
    assert timer["OnCalendar"] == [f"*:00/{night.EVERY_MINUTES}"], "the appliance knows the hours"
    assert "Persistent" not in timer, "a box that was off does not make up for it"
    asked = [f"/usr/bin/test -s {gathering.UPDATES}/{gathering.WAITING}"]
    asked.append("/usr/bin/flock --nonblock /run/update.lock /usr/bin/true")
    asked.append("/usr/lib/appliance/libexec/update-restart-condition")
    assert restart["ExecCondition"] == asked, (
        "something waits, nothing is being written, and the box is not in use"
    )
    assert "exec 9>/run/update.lock\n" in (EXTRA / "usr/lib/appliance/libexec/update").read_text()
    starters = [
        each.name
        for each in (EXTRA / "usr/lib").rglob("*update*")
        if each.is_file() and "reboot" in each.read_text()
    ]
    asked = ["update-restart-asked", "update-restart.service"]
    assert sorted(starters) == asked, "nothing else of updates starts the box again"


@pytest.mark.parametrize("waiting", ["0.2.0", ""])
def test_a_person_starts_what_waits_and_what_asked_for_it_is_gone_before(
    waiting: str, tmp_path: Path
) -> None:
    units = EXTRA / "usr/lib/systemd/system"
    path = settings(units / "update-restart-asked.path")
    assert path["PathExists"] == [f"/var/lib/appliance/{restarting.ASKED}"]
    preset = (EXTRA / "usr/lib/systemd/system-preset/00-appliance.preset").read_text()
    assert "enable update-restart-asked.path\n" in preset
    asked, told = tmp_path / restarting.ASKED, tmp_path / "started"
    asked.touch()
    (tmp_path / "waiting").write_text(waiting)
    starts = tmp_path / "systemctl"
    starts.write_text(f'#!/bin/sh\n[ ! -e {asked} ] && echo "$@" >{told}\n')
    starts.chmod(0o755)
    text = (EXTRA / "usr/lib/appliance/libexec/update-restart-asked").read_text()
    for place, here in (
        ("/var/lib/appliance/restart-asked", asked),
        ("/run/appliance-update/waiting", tmp_path / "waiting"),
        ("/run/update.lock", tmp_path / "update.lock"),
        ("/usr/bin/systemctl", starts),
    ):
        assert place in text
        text = text.replace(place, str(here))
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not asked.exists(), "or the machine starts again and again"
    assert told.exists() == bool(waiting)


MOST = 2 * night.NIGHT.tries_a_week
FAILURES = (1, 64, Refused.exit_code, Transient.exit_code, OperatorNeeded.exit_code, 124, 203)
"""What an appliance may end with that does not answer: a catalog that is busy, settings that it can't read, the time that is up."""


@pytest.mark.parametrize(
    ("kept", "answer", "hour", "told", "may", "left"),
    [
        ("", 0, "1200", 0, True, "0.1.0 0"),
        (f"0.1.0 {MOST}", 0, "1200", MOST, True, "0.1.0 0"),
        ("", Answer.OUTSIDE, "0500", 0, False, ""),
        ("0.1.0 5", Answer.OUTSIDE, "0500", 5, False, "0.1.0 5"),
        (f"0.1.0 {MOST}", Answer.OUTSIDE, "0500", MOST, False, f"0.1.0 {MOST}"),
        ("", Answer.IN_USE, "2300", 0, False, "0.1.0 1"),
        ("0.1.0 5", Answer.IN_USE, "0430", 5, False, "0.1.0 6"),
        ("0.0.9 5", Answer.IN_USE, "0430", 0, False, "0.1.0 1"),
        ("0.1.0 what", Answer.IN_USE, "0430", 0, False, "0.1.0 1"),
        ("0.1.0 5", Answer.PERSON, "0430", 5, False, "0.1.0 5"),
        (f"0.1.0 {MOST}", Answer.PERSON, "0430", MOST, False, f"0.1.0 {MOST}"),
        ("0.1.0 5", 70, "0430", 5, False, "0.1.0 6"),
        ("0.1.0 5", 70, "0429", 5, False, "0.1.0 5"),
        ("0.1.0 5", 70, "0600", 5, False, "0.1.0 5"),
        (f"0.1.0 {MOST - 1}", 70, "0559", MOST - 1, False, f"0.1.0 {MOST}"),
        (f"0.1.0 {MOST}", 70, "0559", MOST, True, "0.1.0 0"),
        (f"0.1.0 {MOST}", 70, "1200", MOST, False, f"0.1.0 {MOST}"),
        *(("0.1.0 5", code, "1200", 5, False, "0.1.0 5") for code in FAILURES),
        *(("0.1.0 5", code, "0430", 5, False, "0.1.0 6") for code in FAILURES),
        *((f"0.1.0 {MOST}", code, "0430", MOST, True, "0.1.0 0") for code in FAILURES),
    ],
)
def test_the_restart_asks_the_appliance_and_without_an_answer_goes_by_the_night(
    kept: str, answer: int, hour: str, told: int, may: bool, left: str, tmp_path: Path
) -> None:
    """`told` is how often the appliance, 0.1.0, is told that a version was put off; it ends with `answer`, or with another code when something is
    wrong with it."""
    for name, does in (
        ("appliance", f'echo "$@" >{tmp_path}/asked\nexit {answer}'),
        ("date", f"echo {hour}"),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)
    (tmp_path / "waiting").write_text("0.2.0\n")
    (tmp_path / "put-off-times").write_text(f"{kept}\n" if kept else "")
    (tmp_path / "pin").write_text("none\n \n")
    (tmp_path / "os-release").write_text("IMAGE_VERSION=0.1.0\n")
    text = (EXTRA / "usr/lib/appliance/libexec/update-restart-condition").read_text()
    places = (
        "/run/appliance-update/waiting",
        "/var/lib/update/put-off-times",
        "/usr/bin/appliance",
        "/usr/bin/date",
        "/usr/lib/os-release",
        str(disk_pin.TOLD),
    )
    for place in places:
        assert place in text
        text = text.replace(place, str(tmp_path / place.rsplit("/", 1)[1]))
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if may else 1), done.stderr
    assert "0.2.0" in done.stdout, "the journal says what it decided"
    assert (tmp_path / "asked").read_text() == f"update may-restart --put-off {told}\n"
    assert (tmp_path / "put-off-times").read_text().rstrip() == left


def test_what_the_appliance_answers_is_nothing_that_it_fails_with() -> None:
    def errors(kind: type[ApplianceError]) -> set[int]:
        return {kind.exit_code}.union(*map(errors, kind.__subclasses__()))

    others = errors(ApplianceError) | {*range(1, 79), *range(124, 256)}
    assert not others & set(Answer)
    text = (EXTRA / "usr/lib/appliance/libexec/update-restart-condition").read_text()
    assert set(map(int, re.findall(r"^  (\d+)\)", text, re.MULTILINE))) == set(Answer)


(LAID_AT_A_START,) = re.findall(
    rf"^f {disk_pin.TOLD} +0644 root +root +- (\w+)$",
    (EXTRA / "usr/lib/tmpfiles.d/image.conf").read_text(),
    re.MULTILINE,
)
"""What stands where the image says whether the disk asks for a PIN, until it says so."""


def test_the_appliance_waits_for_a_person_where_the_image_does(tmp_path: Path) -> None:
    with told_disk(tmp_path / "told") as root:
        assert not disk_pin.wants_somebody(), "a Debian has no such disk"
        for word in (LAID_AT_A_START, "", "wanted", "unfinished"):
            root.says(word)
            assert disk_pin.wants_somebody(), word
        root.says("none")
        assert not disk_pin.wants_somebody()


@pytest.mark.parametrize(
    "said", ["wanted\n \n", "unfinished\n0123456789abcdef chip\n", LAID_AT_A_START, "", None]
)
def test_a_box_that_may_ask_for_a_pin_starts_no_version_by_itself_however_often_it_was_put_off(
    said: str | None, tmp_path: Path
) -> None:
    """`None`: nothing stands there at all."""
    (tmp_path / "waiting").write_text("0.2.0\n")
    (tmp_path / "put-off-times").write_text(f"0.1.0 {MOST}\n")
    (tmp_path / "os-release").write_text("IMAGE_VERSION=0.1.0\n")
    if said is not None:
        (tmp_path / "pin").write_text(said)
    (tmp_path / "appliance").write_text("#!/bin/sh\n")
    (tmp_path / "appliance").chmod(0o755)
    text = (EXTRA / "usr/lib/appliance/libexec/update-restart-condition").read_text()
    places = ("/run/appliance-update/waiting", "/var/lib/update/put-off-times", str(disk_pin.TOLD))
    for place in (*places, "/usr/bin/appliance", "/usr/lib/os-release"):
        assert place in text
        text = text.replace(place, str(tmp_path / place.rsplit("/", 1)[1]))
    held = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert held.returncode == 1, held.stderr
    assert "version 0.2.0 waits for a person" in held.stdout
    (tmp_path / "pin").write_text("none\n \n")
    assert subprocess.run(["sh", "-c", text], capture_output=True, check=False).returncode == 0


def test_the_vendors_address_comes_with_the_image_if_he_names_one(tmp_path: Path) -> None:
    source = "usr/share/appliance/update/source"
    assemble = script("assemble").assemble
    assemble(tmp_path / "named", None, "https://updates.example")
    assert (tmp_path / "named" / source).read_text() == "https://updates.example\n"
    assemble(tmp_path / "unnamed", None, "")
    assert not (tmp_path / "unnamed" / source).exists()
    assert f"/{source}" in (EXTRA / "usr/lib/appliance/libexec/update").read_text()


def test_a_stick_is_judged_by_the_same_signature_as_the_line(tmp_path: Path) -> None:
    rule = (EXTRA / "usr/lib/udev/rules.d/90-update-from-stick.rules").read_text()
    assert 'ENV{ID_FS_LABEL}=="BOXUPDATE"' in rule
    assert 'ENV{SYSTEMD_WANTS}+="update-from-stick.service"' in rule
    assert (
        "/dev/disk/by-label/BOXUPDATE"
        in (EXTRA / "usr/lib/systemd/system/update-from-stick.service").read_text()
    )
    # It runs: the mount is left out, `update` asks for the address that it is given and finds what lies on the stick.
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "SHA256SUMS").write_text("what was signed")
    update = tmp_path / "update"
    update.write_text(
        "#!/usr/bin/env python3\nimport sys, urllib.request\n"
        "assert sys.argv[1].startswith('http://127.0.0.1:')\n"
        "sys.exit(urllib.request.urlopen(sys.argv[1] + '/SHA256SUMS').read() != b'what was signed')\n"
    )
    update.chmod(0o755)
    mounts = tmp_path / "mount"
    mounts.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/mounted\n')
    mounts.chmod(0o755)
    text = (EXTRA / "usr/lib/appliance/update_from_stick.py").read_text()
    text = text.replace("/run/update-stick", str(stick)).replace(
        "/usr/lib/appliance/libexec/update", str(update)
    )
    done = subprocess.run(
        [sys.executable, "-c", text, "/dev/stick"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mounted").read_text().split() == [
        *("-t", "vfat", "-o", "ro,nodev,nosuid,noexec", "/dev/stick", str(stick)),
    ]


def test_what_was_left_and_what_waits_is_told_to_the_box(tmp_path: Path) -> None:
    for name in ("1.0.0.efi", "1.0.1+0-3.efi", "1.0.2+2-1.efi", "1.0.10+3.efi", "0.9.9+3-0.efi"):
        (tmp_path / f"appliance_{name}").touch()
    release, folder, chosen = tmp_path / "os-release", tmp_path / "told", tmp_path / "LoaderEntryDefault"
    folder.mkdir()

    def told(running: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        release.write_text(f"NAME=x\nIMAGE_VERSION={running}\n")
        program = EXTRA / "usr/lib/appliance/libexec/update-outcome"
        subprocess.run([str(program), *map(str, (folder, tmp_path, release, chosen))], check=True)
        assert sorted(each.name for each in folder.iterdir()) == ["chosen", "left", "waiting"]
        return gathering.versions(folder / gathering.LEFT), gathering.versions(folder / gathering.WAITING)

    (tmp_path / "appliance_1.0.2+2-1.efi").rename(tmp_path / "held")
    assert told("1.0.0") == (("1.0.1",), ("1.0.10",)), "what waits still has tries, and is newer"
    assert told("1.0.10") == (("1.0.1",), ()), "what runs does not wait, proven or not"
    (tmp_path / "appliance_1.0.1+0-3.efi").unlink()
    (tmp_path / "appliance_1.0.10+3.efi").unlink()
    (tmp_path / "held").rename(tmp_path / "appliance_1.0.2+2-1.efi")
    assert told("1.0.0") == ((), ("1.0.2",)), "nor is a start that was cut off the last of its tries"
    chosen.write_bytes(b"\7\0\0\0a\0\0\0")
    assert told("1.0.0") == ((), ()), "what the firmware keeps starts at each start, and nothing else"
    chosen.unlink()
    assert told("1.0.2") == ((), ())
    (tmp_path / "appliance_1.0.2+2-1.efi").rename(tmp_path / "appliance_1.0.2+0-3.efi")
    assert told("1.0.0") == (("1.0.2",), ())
    assert told("1.0.2") == ((), ()), (
        "what runs was not left, be it on its last try or because somebody chose it"
    )
    (tmp_path / "appliance_1.0.2+0-3.efi").rename(tmp_path / "appliance_1.0.2+2-1.efi")
    (tmp_path / "appliance_1.0.2+2-1.efi").rename(tmp_path / "appliance_1.0.2.efi")
    assert told("1.0.0") == ((), ()), "what has proved itself does not wait"
    assert gathering.versions(tmp_path / "no image") == ()
    unit = (EXTRA / "usr/lib/systemd/system/update-outcome.service").read_text()
    assert f"update-outcome {gathering.UPDATES}\n" in unit


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        (None, ""),
        ("appliance_1.0.0.efi", "1.0.0"),
        ("appliance_1.0.1.efi", "1.0.1"),
        ("appliance_0.9.0.efi", ""),
        ("appliance_1.0.efi", ""),
        ("@saved", "1.0.0"),
        ("auto-reboot-to-firmware-setup", "auto-reboot-to-firmware-setup"),
    ],
)
def test_what_the_firmware_keeps_for_every_start_is_told(
    entry: str | None, kept: str, tmp_path: Path
) -> None:
    """1.0.0 runs, and 1.0.1 has tries; of what is not there any more the loader takes no notice, and starts the newest."""
    for name in ("1.0.0.efi", "1.0.1+3.efi"):
        (tmp_path / f"appliance_{name}").touch()
    release, folder, chosen = tmp_path / "os-release", tmp_path / "told", tmp_path / "LoaderEntryDefault"
    folder.mkdir()
    release.write_text("IMAGE_VERSION=1.0.0\n")
    if entry is not None:
        chosen.write_bytes(b"\7\0\0\0" + f"{entry}\0".encode("utf-16-le"))
    # A variable of the firmware is a file in which nobody can seek, as tail does in any file that it is given by name.
    (tmp_path / "tail").write_text(
        '#!/bin/sh\n[ $# -eq 2 ] && [ -p /dev/stdin ] || exit 1\nexec /usr/bin/tail "$@"\n'
    )
    (tmp_path / "tail").chmod(0o755)
    searched = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    program = EXTRA / "usr/lib/appliance/libexec/update-outcome"
    subprocess.run([str(program), *map(str, (folder, tmp_path, release, chosen))], check=True, env=searched)
    assert (folder / gathering.CHOSEN).read_text() == f"{kept}\n"
    assert (folder / gathering.CHOSEN).stat().st_mode & 0o777 == 0o644
    assert gathering.versions(folder / gathering.WAITING) == (() if kept else ("1.0.1",))
    assert "w" not in allowed(f"{gathering.UPDATES}/{gathering.CHOSEN}") and allowed(
        f"{gathering.UPDATES}/{gathering.CHOSEN}"
    )


@pytest.mark.parametrize(
    ("wanted", "waiting", "brought", "taken"),
    [
        ("", "", "", "update"),
        ("0.2.0", "", "", "update 0.2.0"),
        ("0.10.0", "", "", "update 0.10.0"),
        ("0.1.0", "", "", None),
        ("0.0.9", "", "", None),
        ("0.2.0", "0.3.0", "", None),
        ("0.3.0", "0.3.0", "", None),
        ("0.10.0", "0.3.0", "", "update 0.10.0"),
        ("unknown", "", "", None),
        (taking.NO_VERSION, "", "", None),
        ("0.1.0", "", "http://127.0.0.1:1", "update"),
        (taking.NO_VERSION, "", "http://127.0.0.1:1", "update"),
    ],
)
def test_the_version_that_a_ring_names_is_taken_and_no_other(
    wanted: str, waiting: str, brought: str, taken: str | None, tmp_path: Path
) -> None:
    """0.1.0 runs, and `waiting` starts next; `brought` is the address of a stick, which no ring holds back; of `unknown` the
    appliance cannot say."""
    says = "exit 70" if wanted == "unknown" else f"echo {wanted}" if wanted else ":"
    programs = {
        "/usr/bin/appliance": f'[ "$*" = "heartbeat wanted" ] || exit 64\n{says}',
        "/usr/lib/systemd/systemd-sysupdate": f'echo "$@" >{tmp_path}/asked\ncat {tmp_path}/fetching >{tmp_path}/since',
        "/usr/lib/appliance/libexec/update-outcome": f'echo "$@" >{tmp_path}/told',
    }
    (tmp_path / "source").write_text("https://updates.example\n")
    (tmp_path / "waiting").write_text(waiting)
    text = update_in(tmp_path, programs)
    done = subprocess.run(
        ["sh", "-c", text, "update", *([brought] if brought else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == (wanted == "unknown"), done.stderr
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else None) == (f"--verify=yes {taken}\n" if taken else None)
    assert (tmp_path / "told").exists() == (taken is not None), "what waits is said at once"
    assert not (tmp_path / "fetching").exists()
    looked = looks.told((tmp_path / "looked").read_text()) if (tmp_path / "looked").exists() else None
    ended = looks.Came.UNFINISHED if wanted == "unknown" else looks.Came.NONE if taken else looks.Came.HELD
    assert (looked and looked[1]) == (None if brought else ended)
    if taken:
        assert (tmp_path / "since").read_text().strip().isdecimal(), (
            "while it is fetched, the console knows since when"
        )
        made = (tmp_path / "sysupdate.d/20-root.transfer").read_text()
        path = re.escape(brought) or r"http://127\.0\.0\.1:\d+"
        assert re.search(f"^Path={path}$", made, re.MULTILINE), (
            "what is on the network is asked by the way there"
        )


@pytest.mark.parametrize("is_on_the_network", [False, True])
def test_why_nothing_was_taken_is_told_apart(is_on_the_network: bool, tmp_path: Path) -> None:
    """A real server and real signatures: one of the vendor's, one of somebody else, one that has expired, none, a page of a proxy, and nobody there; asked as a
    stick's is, and by the way to the network."""
    refusal = runpy.run_path(str(EXTRA / "usr/lib/appliance/update_refusal.py"))
    vendor = offers.signer(tmp_path, "vendor", "--faked-system-time", "20250101T000000")
    other = offers.signer(tmp_path, "other")
    ring = subprocess.run(["gpg", "--homedir", vendor, "--export"], capture_output=True, check=True).stdout
    (tmp_path / "ring.gpg").write_bytes(ring)
    why = refusal["why"]
    why.__globals__["KEYS"] = str(tmp_path / "ring.gpg")
    served = tmp_path / "served"
    served.mkdir()
    (served / "appliance_1.efi").write_bytes(b"x")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    with contextlib.ExitStack() as ends, http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            if is_on_the_network:
                address = ends.enter_context(way(address))
            assert why(address) == "unreachable", "no list of digests"
            offers.sign(served, vendor)
            assert why(address) == "unfinished", "it is signed: what failed came after"
            (served / "SHA256SUMS").write_text("<html>")
            assert why(address) == "refused"
            (served / "SHA256SUMS").unlink()
            (served / "SHA256SUMS.gpg").unlink()
            offers.sign(served, other)
            assert why(address) == "refused"
            (served / "SHA256SUMS").unlink()
            (served / "SHA256SUMS.gpg").unlink()
            offers.sign(
                served, vendor, "--faked-system-time", "20250601T000000", "--default-sig-expire", "seconds=1"
            )
            assert why(address) == "refused", "signed long ago, for a second"
            (served / "SHA256SUMS.gpg").unlink()
            assert why(address) == "refused"
        finally:
            server.shutdown()
            server.server_close()
        assert why(address) == "unreachable"
    assert {"refused", "unreachable", "unfinished"} < set(looks.Came)


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("", 0),
        ("file:///tmp/x", 64),
        ("https://updates.example/x y", 64),
        ("https://a|b", 64),
        ("https://a/$(id)", 64),
    ],
)
def test_an_address_of_updates_that_is_none_is_refused(address: str, code: int, tmp_path: Path) -> None:
    text = (EXTRA / "usr/lib/appliance/libexec/update").read_text()
    source = tmp_path / "source"
    source.write_text(address)
    text = text.replace("/var/lib/update/source", str(source)).replace(
        "/run/sysupdate.d", str(tmp_path / "made")
    )
    text = text.replace(f"{gathering.UPDATES}/{looks.FILE}", str(tmp_path / "looked"))
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    if not address:
        assert (tmp_path / "looked").read_text().endswith(" no-address\n")
        assert str(source) not in done.stderr, "nobody can write there"
    if code:
        given = subprocess.run(["sh", "-c", text, "update", address], capture_output=True, check=False)
        assert given.returncode == code, "nor one that it is given by a stick"
    assert not (tmp_path / "made").exists()
