"""What the harness reads of a box, it reads right, and each of its checks can fail: on made-up answers, terminals and disks."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from appliance.cli.screen import Screen
from tests import synthetic
from tests.image import confinement, remains, screen
from tests.image.__main__ import COUNT, morning
from tests.image.machine import Machine
from tests.image.test_configuration import EXTRA, settings

FILMS = morning()


class Answers:
    """A box that says the same to each command for ever, by a word in it."""

    def __init__(self, told: Mapping[str, str]) -> None:
        self.told = told

    def inside(self, command: str, check: bool = True) -> str:
        return next(said for word, said in self.told.items() if word in command)


# --- the screen ------------------------------------------------------------------------------------------------------

COLUMNS, ROWS = 160, 50
FINGERPRINT = ":".join(f"{each:02X}" for each in range(32))


def terminal() -> bytes:
    """The letters of the first terminal of a new box, as /dev/vcs1 gives them."""
    shown = Screen(
        addresses=("10.0.2.15",),
        ae_title="CLINICBOX",
        dicom_port=11112,
        claim_code="ABCD-EFGH",
        authority_words="",
        certificate_words="babab dobob zuzuz lalal mumum titit",
        certificate=FINGERPRINT,
        disk_recovery="cbcdefgh-ijklnrtu-vcbcdefg-hijklnrt-uvcbcdef-ghijklnr-tuvcbcde-fghijkln",
    )
    lines = [line.ljust(COLUMNS) for line in shown.lines()]
    return "".join([*lines, *[" " * COLUMNS] * (ROWS - len(lines))]).encode("cp437")


def test_a_terminal_is_read_as_a_telephone_and_a_person_do() -> None:
    lines = screen.lines_of(terminal(), COLUMNS)
    assert screen.photographed(lines) == "https://10.0.2.15"
    assert screen.shown_fingerprint(lines) == FINGERPRINT
    assert screen.shown_words(lines) == "babab dobob zuzuz lalal mumum titit"
    assert "  Console      https://10.0.2.15" in lines


def test_a_picture_that_is_cut_off_says_nothing() -> None:
    lines = screen.lines_of(terminal(), COLUMNS)
    assert screen.photographed(lines[:-4]) == ""
    assert screen.photographed([]) == ""
    assert screen.shown_fingerprint(lines[-5:]) == ""
    assert screen.shown_words(lines[-5:]) == ""


# --- AppArmor, cores -------------------------------------------------------------------------------------------------

LABELS = [
    *(
        f"appliance-{name}.service appliance appliance (enforce)"
        for name in ("dicom", "courier", "jobs", "web")
    ),
    "appliance-web.service appliance appliance (enforce)",
    "screen.service screen screen (enforce)",
    "nginx.service none nginx-front (enforce)",
    "nginx.service none nginx-front (enforce)",
    "nginx.service none ",
    "chrony.service none unconfined",
]
LOADED = "appliance (enforce)\nnginx-front (enforce)\nscreen (enforce)\nsupport-line (enforce)\nupdate-way (enforce)\n"


def walls(labels: list[str], loaded: str = LOADED, refused: str = "") -> None:
    told = {"apparmor/profiles": loaded, "list-units": "\n".join(labels), "DENIED": refused}
    confinement.walls(cast(Machine, Answers(told)))


def test_every_process_with_a_profile_must_be_held_by_it() -> None:
    walls(LABELS)
    for spoilt in (
        [*LABELS, "nginx.service none unconfined"],
        [*LABELS, "appliance-web.service appliance appliance (complain)"],
        [*LABELS, "appliance-web.service none unconfined"],
        [*LABELS, "support-line.service support-line appliance (enforce)"],
        [each for each in LABELS if not each.startswith("nginx")],
        [],
    ):
        with pytest.raises(SystemExit):
            walls(spoilt)
    for loaded in (
        LOADED.replace("nginx-front (enforce)", "nginx-front (complain)"),
        LOADED + "x (enforce)\n",
        "",
    ):
        with pytest.raises(SystemExit):
            walls(LABELS, loaded)
    with pytest.raises(SystemExit):
        walls(LABELS, refused="DENIED")


def test_the_harness_knows_each_profile_of_the_image_and_who_says_it() -> None:
    assert {each.name for each in (EXTRA / "etc/apparmor.d").iterdir()} == confinement.PROFILES
    said = {
        value
        for each in (EXTRA / "usr/lib/systemd/system").rglob("*.*")
        if each.is_file()
        for value in settings(each).get("AppArmorProfile", [])
    }
    assert said | set(confinement.BY_PROGRAM.values()) == confinement.PROFILES


def test_a_core_is_found_by_how_it_begins_and_nothing_else_is(tmp_path: Path) -> None:
    begins = subprocess.run(
        ["sh", "-c", confinement.PLANT.replace(confinement.PLANTED, str(tmp_path / "a core"))], check=True
    )
    assert begins.returncode == 0
    (tmp_path / "program").write_bytes(bytes.fromhex("7f454c46") + bytes(12) + b"\3\0")
    (tmp_path / "short").write_bytes(b"\x7fELF")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "systemd/coredump").mkdir(parents=True)
    (tmp_path / "systemd/coredump/core.zst").touch()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"none {tmp_path} tmpfs rw,nosuid 0 0\nnone /nonexistent erofs ro 0 0\n")
    found = subprocess.run(
        [sys.executable, "-I", "-c", confinement.CORES.replace("/proc/mounts", str(mounts))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert sorted(found) == [str(tmp_path / "a core"), str(tmp_path / "systemd/coredump/core.zst")]


# --- what is left on a disk ------------------------------------------------------------------------------------------

BEGINS = 1 << 20


def disk(path: Path, *written: bytes) -> Path:
    """A disk with a hole in it, and each of `written` in its one partition."""
    with path.open("wb") as stream:
        stream.truncate(64 << 20)
        for number, each in enumerate((b"software of H\xc3\xa9l\xc3\xa8ne", *written)):
            os.pwrite(stream.fileno(), each, BEGINS + (number << 22))
    return path


def test_what_was_sent_is_found_however_it_is_written(tmp_path: Path) -> None:
    unpacked = disk(tmp_path / "unpacked")
    remains.nothing_in_clear(disk(tmp_path / "clean"), unpacked, FILMS)
    film = FILMS[0]
    for word in (
        film.PatientID,
        film.SOPInstanceUID,
        film.StudyInstanceUID,
        film.StudyDate,
        "Lévesque",
        "Marqueur",
    ):
        for form in remains.forms(str(word)) & (
            synthetic.marker_bytes()
            | {made for each in remains.sent_words(FILMS) for made in remains.forms(each)}
            | remains.forms("Marqueur")
        ):
            with pytest.raises(SystemExit, match="frozenset"):
                remains.nothing_in_clear(
                    disk(tmp_path / "spoilt", b"x" * 5000 + form + b"x"), unpacked, FILMS
                )


def test_a_number_that_the_image_holds_already_is_no_proof(tmp_path: Path) -> None:
    number = str(FILMS[0].PatientID).encode()
    unpacked = disk(tmp_path / "unpacked", number)
    with pytest.raises(SystemExit):
        remains.nothing_in_clear(disk(tmp_path / "disk", number), unpacked, FILMS)


def test_a_scan_that_finds_nothing_it_planted_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remains, "plant", lambda *_: None)
    with pytest.raises(SystemExit):
        remains.nothing_in_clear(disk(tmp_path / "disk"), disk(tmp_path / "unpacked"), FILMS)


# --- the morning -----------------------------------------------------------------------------------------------------


def test_the_images_of_the_study_that_was_sent_are_counted() -> None:
    (study,) = {str(each.StudyInstanceUID) for each in FILMS}
    listed = f'[{{"study_instance_uid": "1.2", "instances": 7}}, {{"study_instance_uid": "{study}", "instances": 3}}]'
    told = subprocess.run(
        ["sh", "-c", f"{sys.executable} -I -c '{COUNT}' {study}"],
        input=listed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "3\n"
