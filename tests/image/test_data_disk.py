"""The disk of `/var`: known by more than its label, and opened where it is the only one of its kind."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.image.test_configuration import BUILD, EXTRA

SYSTEM = EXTRA / "usr/lib/systemd/system"
RULE = EXTRA / "usr/lib/udev/rules.d/92-data.rules"
ALONE = EXTRA / "usr/lib/appliance/libexec/disk-alone"
NAME = "/dev/disk/by-box/data"


def test_whatever_opens_or_changes_the_disk_knows_it_by_the_name_that_the_rule_gives() -> None:
    assert f"data {NAME} none " in (EXTRA / "etc/crypttab").read_text()
    for unit in ("disk-enrolment", "disk-pin", "disk-recovery-key", "disk-unopened"):
        text = (SYSTEM / f"{unit}.service").read_text()
        assert NAME in text and "by-partlabel" not in text, unit


def test_a_stick_with_a_partition_of_that_label_is_not_taken_for_it() -> None:
    (rule,) = [line for line in RULE.read_text().splitlines() if not line.startswith("#")]
    asked = set(re.findall(r'(ENV\{\w+\}=="[^"]+")', rule))
    assert asked == {'ENV{ID_PART_ENTRY_NAME}=="data"', 'ENV{ID_FS_TYPE}=="crypto_LUKS"'}
    assert 'SYMLINK+="disk/by-box/data disk/by-box/each/%k"' in rule
    made = (EXTRA / "usr/lib/repart.d/30-data.conf").read_text()
    assert "\nLabel=data\n" in made and "\nEncrypt=tpm2\n" in made
    assert RULE.name > "60-persistent-storage.rules", "which finds out what these ask"


@pytest.mark.parametrize(("disks", "ends"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_of_two_disks_with_a_boxs_data_neither_is_opened_and_the_screen_says_so(
    disks: int, ends: int, tmp_path: Path
) -> None:
    each, screen = tmp_path / "each", tmp_path / "console"
    screen.touch()
    if disks:
        each.mkdir()
    for number in range(disks):
        (tmp_path / f"sd{number}").touch()
        (each / f"sd{number}").symlink_to(tmp_path / f"sd{number}")
    done = subprocess.run([ALONE, each, screen], capture_output=True, text=True, check=False)
    assert done.returncode == ends, done.stderr
    said = screen.read_text()
    assert ("take the old one out" in said, "retirez l'ancien" in said) == (bool(ends), bool(ends))
    assert (f"There are {disks} disks" in said) == bool(ends)
    away = subprocess.run([ALONE, each, tmp_path / "no/screen"], capture_output=True, check=False)
    assert away.returncode == ends, "also where there is no screen"


def test_it_is_asked_before_the_disk_is_opened() -> None:
    text = (SYSTEM / "systemd-cryptsetup@data.service.d/alone.conf").read_text()
    settled, alone = re.findall(r"^ExecStartPre=(.*)$", text, re.MULTILINE)
    assert settled.startswith("-/usr/bin/udevadm settle --timeout="), "or the other disk may not be seen yet"
    assert alone == "/usr/lib/appliance/libexec/disk-alone /dev/disk/by-box/each /dev/console"


def test_the_installing_stick_has_identifiers_of_its_own() -> None:
    build = (BUILD / "build").read_text()
    body = build[build.index("make_installer() {") :].partition("\n}\n")[0]
    for number, name in ((1, '"$(identifier_like "$disk" esp)"'), (2, '"$verity_id"'), (3, '"$root_id"')):
        assert f'sfdisk --quiet --part-uuid "$stick" {number} {name}' in body
    assert body.index("--part-uuid") > body.index("cp --sparse=always")
    function = build[build.index("identifier_like() {") :].partition("\n}\n")[0] + "\n}\n"
    told = [
        subprocess.run(
            [
                "bash",
                "-euc",
                f'root_hash() {{ echo {of}; }}\n{function}identifier_like "$@"',
                "x",
                "disk",
                part,
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for of in ("aa", "bb")
        for part in ("esp", "root", "verity", "root")
    ]
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in told)
    assert len(set(told)) == 6, "of each version and part another, and at each build the same"


@pytest.mark.parametrize(
    ("language", "out", "told"),
    [
        ("en", "Take the old disk out and keep it", "several disks have a box’s data"),
        ("fr", "Retirez l’ancien disque et gardez-le", "plusieurs disques ont les données d’un boîtier"),
    ],
)
def test_whoever_replaces_a_disk_is_told_to_take_the_old_one_out(language: str, out: str, told: str) -> None:
    text = (BUILD.parent / "web-ui/help" / language / "runbooks.html").read_text("utf-8")
    steps = text[text.index('id="replace-disk"') : text.index('id="replace-box"')]
    assert steps.count(out) == 2, "on the image, and on a machine that was provisioned"
    again = text[text.index('id="starts-again"') : text.index('id="kept-choice"')]
    assert told in again
