"""What `tests.image.steps` goes by, without the tools of a build: the program that is stopped before a step, and what a start finds."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
import uuid
import zlib
from pathlib import Path

import pytest

from tests.image.offers import HAD, SLOT_BYTES, Offer
from tests.image.steps import SLOTS_BEGIN, STOPPING, Slot, State, cuts_of, first_of, runs, starts, table
from tests.image.test_configuration import CONFIG

PROGRAM = """
import os, subprocess, sys
os.chdir(sys.argv[1])
with open("disk", "wb", buffering=0) as disk:
    for _ in range(3):
        disk.write(b"root" * 4)
    disk.seek(3, os.SEEK_CUR)
    disk.write(b"root")
    disk.seek(0)
    disk.write(b"label")
subprocess.run([sys.executable, "-I", "-c", "import os; os.rename('disk', 'slot')"], check=True)
os.chmod("slot", 0o400)
with open("/dev/null", "wb", buffering=0) as elsewhere:
    elsewhere.write(b"x")
os.unlink("slot")
sys.exit(3)
"""
"""Twelve bytes of zeros are no end of a step, a place further back is; one step is another process's, and one is somewhere else."""

CHANGES = [
    "1.1 openat disk",
    "2.1 write disk",
    "2.2 write disk",
    "2.3 write disk",
    "2.4 write disk",
    "3.1 write disk",
    "4.1 rename slot",
    "5.1 chmod slot",
    "6.1 unlink slot",
]


def stopped(folder: Path, step: str) -> tuple[int, list[str]]:
    """Exit status, and each change that was begun: its number, the call and the name."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "there").mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-I", str(STOPPING), f"{folder}/there", step, str(folder / "report")),
            *(sys.executable, "-I", str(folder / "program.py"), str(folder / "there")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("nobody may trace a process here")
    assert done.stderr == ""
    return done.returncode, (folder / "report").read_text().replace(f"{folder}/there/", "").splitlines()


traces = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of calls are those of x86-64")


@traces
def test_each_change_has_its_number_and_a_program_that_is_let_through_ends_as_it_ends(tmp_path: Path) -> None:
    assert stopped(tmp_path, "0.0") == (3, CHANGES)


@traces
@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("1.1", {}),
        ("2.1", {"disk": b""}),
        ("2.2", {"disk": b"root" * 4}),
        ("2.4", {"disk": b"root" * 12}),
        ("3.1", {"disk": b"root" * 12 + bytes(3) + b"root"}),
        ("4.1", {"disk": b"labelootroot" + b"root" * 9 + bytes(3) + b"root"}),
        ("6.1", {"slot": b"labelootroot" + b"root" * 9 + bytes(3) + b"root"}),
    ],
)
def test_what_is_stopped_before_a_step_has_made_all_before_it_and_nothing_after(
    step: str, left: dict[str, bytes], tmp_path: Path
) -> None:
    code, begun = stopped(tmp_path, step)
    assert code == 137
    assert begun == CHANGES[: len(begun)]
    assert begun[-1].startswith(f"{step} ")
    assert {each.name: each.read_bytes() for each in (tmp_path / "there").iterdir()} == left


def test_each_step_is_cut_and_each_that_goes_on_once_within() -> None:
    assert [cut for cut, _ in cuts_of(CHANGES)] == ["1.1", "2.1", "2.2", "3.1", "4.1", "5.1", "6.1"]
    named = cuts_of(["1.1 openat /k/.#sysupdateappliance_0.1.1+3-0.efi0123abc"])
    assert named == [("1.1", "openat /k/.#appliance_0.1.1+3-0.efi")], "the same in each run"


# --- what a start finds ----------------------------------------------------------------------------------------------

KINDS = ("root", "verity", "root", "verity")
BEGINS = [SLOTS_BEGIN + sum(SLOT_BYTES[kind] for kind in KINDS[:at]) for at in range(5)]
BYTES = BEGINS[-1] + (1 << 20)
NOW = ("appliance_0.1.0", "appliance_0.1.0", "_empty", "_empty")
THEN = ("appliance_0.1.0", "appliance_0.1.0", "appliance_0.1.1", "appliance_0.1.1")


def copies(labels: tuple[str, ...]) -> list[tuple[int, bytes]]:
    """What is written for a table of the four slots, in the order of libfdisk: entries and header at the end, then at the beginning."""
    entries = b"".join(
        struct.pack(
            "<16s16sQQQ72s",
            b"type",
            uuid.UUID(int=at + 1).bytes_le,
            begins // 512,
            BEGINS[at + 1] // 512 - 1,
            0,
            label.encode("utf-16-le"),
        )
        for at, (begins, label) in enumerate(zip(BEGINS, labels, strict=False))
    ).ljust(128 * 128, b"\0")
    last = BYTES // 512 - 1
    written = []
    for sector, other, at in ((last, 1, last - 32), (1, last, 2)):
        head = struct.pack(
            "<8sIIIIQQQQ16s", b"EFI PART", 0x10000, 92, 0, 0, sector, other, 34, last - 33, b"disk"
        )
        head += struct.pack("<QIII", at, 128, 128, zlib.crc32(entries))
        head = head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:]
        written += [(at * 512, entries), (sector * 512, head)]
    return written


def disk(labels: tuple[str, ...] = NOW) -> bytearray:
    made = bytearray(BYTES)
    for at, data in copies(labels):
        made[at : at + len(data)] = data
    return made


def test_whichever_write_of_a_table_is_the_last_one_the_slots_are_found_by_it_or_by_the_other_copy() -> None:
    made = disk()
    seen = [tuple(each.label for each in table(bytes(made)))]
    for at, data in copies(THEN):
        made[at : at + len(data)] = data
        seen.append(tuple(each.label for each in table(bytes(made))))
    assert seen == [NOW, NOW, NOW, THEN, THEN], (
        "between its entries and its header the first copy is none: the second is taken"
    )


def test_where_neither_copy_is_whole_there_is_nothing() -> None:
    made = disk()
    for sector in (1, BYTES // 512 - 1):
        made[sector * 512 + 20 + 4] ^= 1
    assert table(bytes(made)) == []


def test_a_kernel_takes_the_second_copy_only_if_it_is_told_to() -> None:
    """block/partitions/efi.c: `if (!good_agpt && force_gpt)`."""
    assert "gpt" in CONFIG["KernelCommandLine"]


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["appliance_0.1.0.efi"], "0.1.0"),
        (["appliance_0.1.0.efi", "appliance_0.1.1+3-0.efi"], "0.1.1"),
        (["appliance_0.1.0.efi", "appliance_0.1.1+0-3.efi"], "0.1.0"),
        (["appliance_0.1.9.efi", "appliance_0.1.10.efi"], "0.1.10"),
        (["appliance_0.1.0.efi", ".#sysupdateappliance_0.1.1+3-0.efi01ab"], "0.1.0"),
        ([], "nothing"),
    ],
)
def test_the_loader_takes_the_newest_that_has_tries_left(names: list[str], first: str) -> None:
    assert first_of(names) == first


@pytest.fixture
def offered(tmp_path: Path) -> Offer:
    (tmp_path / "appliance_0.1.1.efi").write_bytes(b"kernel")
    identifiers = {"root": str(uuid.UUID(int=3)), "verity": str(uuid.UUID(int=4))}
    contents = {kind: b"x" * size for kind, size in SLOT_BYTES.items()}
    return Offer(tmp_path, "0.1.1", identifiers, contents)


def taken(offered: Offer) -> State:
    made = disk(THEN)
    for kind, at in (("root", 2), ("verity", 3)):
        made[BEGINS[at] : BEGINS[at + 1]] = offered.contents[kind]
    return State(bytes(made), {f"appliance_{HAD}.efi": b"runs", "appliance_0.1.1+3-0.efi": b"kernel"})


def test_a_version_starts_if_all_of_it_is_there_and_what_runs_is_seen_to_be_untouched(offered: Offer) -> None:
    before = State(bytes(disk()), {f"appliance_{HAD}.efi": b"runs"})
    assert starts(before, before) == HAD
    after = taken(offered)
    assert starts(after, before, offered) == "0.1.1"
    assert runs(after) == runs(before)
    assert runs(after)[0] == [
        Slot(NOW[0], str(uuid.UUID(int=1)), BEGINS[0], BEGINS[1]),
        Slot(NOW[1], str(uuid.UUID(int=2)), BEGINS[1], BEGINS[2]),
    ]


@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        (BEGINS[0], None),
        (BEGINS[2], "0.1.1, whose root is not whole"),
        (BEGINS[4] - 1, "0.1.1, whose verity is not whole"),
        (-1, "0.1.1, whose kernel is not whole"),
    ],
)
def test_a_single_byte_that_is_another_is_found(at: int, wrong: str | None, offered: Offer) -> None:
    before = State(bytes(disk()), {f"appliance_{HAD}.efi": b"runs"})
    found = taken(offered)
    kernels = dict(found.kernels)
    if at < 0:
        kernels["appliance_0.1.1+3-0.efi"] = b"kerne1"
    altered = bytearray(found.disk)
    altered[max(at, 0)] ^= 1
    state = State(bytes(altered), kernels)
    if wrong is None:
        assert runs(state) != runs(before)
    else:
        assert starts(state, before, offered) == wrong
