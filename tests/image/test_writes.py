"""What a disk may hold after a cut, made of a log written by hand; and that what a cut has cost is found."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS

from appliance.errors import Corrupt
from appliance.ingest import Reception
from appliance.store import keys
from tests.boxes import box_in, recorded, send
from tests.image import unflushed
from tests.image.unflushed import Acknowledged, _look
from tests.image.writes import (
    FLUSH,
    FUA,
    SECTOR,
    Kept,
    Replay,
    Volume,
    Write,
    entries,
    entries_told,
    surviving,
    volume_of,
)
from tests.instances import Instance
from tests.rot import last_byte_changed

KEY = bytes(range(64))
BEGIN = 3 * 4096
SIZE = 16 * 4096


def sealed(offset: int, data: bytes, sector: int) -> bytes:
    """As dm-crypt writes `data` at `offset` of its payload: aes-xts-plain64, whose tweak counts 512 bytes."""
    parts = []
    for at in range(0, len(data), sector):
        tweak = struct.pack("<QQ", (offset + at) // 512, 0)
        parts.append(Cipher(AES(KEY), XTS(tweak)).encryptor().update(data[at : at + sector]))
    return b"".join(parts)


class Log:
    """A log as QEMU writes it."""

    def __init__(self, path: Path) -> None:
        self.path, self.entries = path, 0
        path.write_bytes(bytes(SECTOR))
        self.head()

    def head(self, count: int | None = None) -> None:
        with self.path.open("r+b") as file:
            file.write(
                struct.pack("<QQQI", 0x6A736677736872, 1, self.entries if count is None else count, SECTOR)
            )

    def add(self, offset: int, data: bytes, flags: int = 0) -> None:
        self.entries += 1
        with self.path.open("ab") as file:
            file.write(
                struct.pack("<QQQQ", offset // SECTOR, len(data) // SECTOR, flags, 0).ljust(SECTOR, b"\0")
            )
            file.write(data)
        self.head()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "writes.log")


def test_a_log_is_read_up_to_the_entry_that_was_not_written_to_its_end(log: Log) -> None:
    log.add(4096, b"a" * 1024)
    log.add(0, b"", FLUSH)
    log.add(8192, b"b" * 512, FUA)
    found = list(entries(log.path))
    assert [(each.offset, each.size_bytes, each.flags) for each in found] == [
        (4096, 1024, 0),
        (0, 0, FLUSH),
        (8192, 512, FUA),
    ]
    log.add(0, b"c" * 4096)
    with log.path.open("r+b") as file:
        file.truncate(log.path.stat().st_size - 1)
    assert (len(list(entries(log.path))), entries_told(log.path)) == (3, 4)
    with log.path.open("r+b") as file:
        file.truncate(1 << 20)  # as it is made: nothing but zeroes behind its end
    assert len(list(entries(log.path))) == 4


def test_what_a_flush_has_confirmed_stays_and_of_the_rest_what_the_dice_say() -> None:
    def write(number: int, flags: int = 0) -> Write:
        return Write(number * 4096, 4096, 0, flags)

    told = [write(0), write(1), Write(0, 0, 0, FLUSH), write(2), write(3, FUA), write(4), write(5)]
    seen: dict[Kept, set[int]] = {kept: set() for kept in Kept}
    for seed in range(200):
        for kept in Kept:
            confirmed, stay = surviving(told, 7, kept, random.Random(seed))
            assert confirmed == 3
            assert (told[4], 4096) in stay, "written through"
            assert [each for each, _ in stay] == sorted((each for each, _ in stay), key=told.index)
            assert all(0 < size <= 4096 and size % SECTOR == 0 for _, size in stay)
            seen[kept].add(len(stay))
            if kept is not Kept.TORN:
                assert {size for _, size in stay} == {4096}
    assert seen == {Kept.ALL: {4}, Kept.NONE: {1}, Kept.SOME: {1, 2, 3, 4}, Kept.TORN: {1, 2, 3, 4}}
    assert surviving(told, 2, Kept.NONE, random.Random(1)) == (0, [])
    assert surviving(told, 3, Kept.NONE, random.Random(1)) == (3, [])


def test_a_volume_is_where_its_partition_and_its_header_say() -> None:
    segment = {"type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0", "sector_size": 4096}
    told = json.dumps({"segments": {"0": {**segment, "encryption": "aes-xts-plain64"}}})
    found = volume_of("2048\n131072\n", told, KEY)
    assert found == Volume(2048 * 512 + 16777216, 131072 * 512 - 16777216, 4096, KEY)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_state_is_what_was_confirmed_with_what_survived(tmp_path: Path, log: Log, sector: int) -> None:
    """Against a model that knows nothing of a cipher: each write goes through a dictionary of the volume's sectors."""
    dice = random.Random(sector)
    disk = tmp_path / "disk.raw"
    base = dice.randbytes(4 * 4096)
    with disk.open("wb") as file:
        file.write(b"another partition".ljust(BEGIN, b"!"))
        file.write(sealed(0, base, sector))
        file.truncate(BEGIN + SIZE + 4096)
    volume = Volume(BEGIN, SIZE, sector, KEY)
    plain: list[tuple[int, bytes]] = []
    for number in range(60):
        if number % 7 == 6:
            log.add(0, b"", FLUSH)
            plain.append((0, b""))
            continue
        at = sector * dice.randrange((SIZE - 3 * 4096) // sector)
        data = dice.randbytes(sector * dice.randint(1, 2))
        log.add(BEGIN + at, sealed(at, data, sector), FUA if dice.random() < 0.1 else 0)
        plain.append((at, data))
    log.add(4096, b"x" * 512)  # beside the volume
    plain.append((0, b""))
    replay = Replay(disk, log.path, volume, tmp_path / "clear.raw")
    assert len(replay.writes) == 61
    lost = 0
    for number, cut in enumerate(sorted(dice.randint(1, 61) for _ in range(40))):
        kept = list(Kept)[number % 4]
        lost += replay.state(cut, kept, random.Random(number), tmp_path / "state.raw")
        confirmed, stay = surviving(replay.writes, cut, kept, random.Random(number))
        model = bytearray(base.ljust(SIZE, b"\0"))
        for at, data in plain[:confirmed]:
            model[at : at + len(data)] = data
        for each, size in stay:
            at, data = plain[replay.writes.index(each)]
            model[at : at + min(size, len(data))] = data[:size]
        found = (tmp_path / "state.raw").read_bytes()
        touched = {at + by for at, data in plain for by in range(0, len(data), 512)} | set(
            range(0, len(base), 512)
        )
        for at in touched:
            assert found[at : at + 512] in (bytes(model[at : at + 512]), bytes(512)), (cut, kept, at)
            if found[at : at + 512] != model[at : at + 512]:
                assert at >= len(base), "a hole of the disk is a hole in clear"
    assert lost > 0


def test_an_answer_is_noted_behind_the_flush_that_it_waited_for(log: Log) -> None:
    answered = Acknowledged(log.path)
    first, second = Instance(1, pixel_bytes=100), Instance(2, pixel_bytes=100)
    log.add(0, bytes(512))
    log.add(0, b"", FLUSH)
    answered.note(first)
    log.head(1)  # an earlier flush writes the head late
    answered.note(second)
    assert answered.by(1) == {}
    assert set(answered.by(2)) == {first.sop_instance_uid, second.sop_instance_uid}


@pytest.fixture
def after_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str, dict[str, str]]:
    """A data folder with two images and one that is only in the intake log, its paper, and what was acknowledged."""
    sent = [Instance(number, pixel_bytes=5000) for number in (1, 2, 3)]
    with box_in(tmp_path / "box") as box:
        paper = str(keys.show_recovery(tmp_path / "box" / "keys", box.root))
        reception = Reception(box, "dicom-0")
        for each in sent[:2]:
            send(reception, each)
        reception.close()
        with monkeypatch.context() as cut:
            cut.setattr(Reception, "_run", lambda _: None)
            reception = Reception(box, "dicom-0")
            send(reception, sent[2])
            reception._log.close()
        assert len(recorded(box)) == 2
    return (
        tmp_path / "box",
        paper,
        {each.sop_instance_uid: hashlib.sha256(each.data_set).hexdigest() for each in sent},
    )


def test_a_folder_that_is_whole_has_nothing_wrong(after_a_cut: tuple[Path, str, dict[str, str]]) -> None:
    assert _look(*after_a_cut) == (3, [])


def test_what_a_cut_has_cost_is_found(after_a_cut: tuple[Path, str, dict[str, str]]) -> None:
    folder, paper, wanted = after_a_cut
    (first, *_) = wanted
    assert any("is not there" in each for each in _look(folder, paper, {**wanted, "1.2.3": "00"})[1])
    assert any("not what was sent" in each for each in _look(folder, paper, {**wanted, first: "00"})[1])
    with box_in(folder) as box:
        (row, *_) = recorded(box)
        path = box.objects.path(row.object_id)
    path.write_bytes(last_byte_changed(path.read_bytes()))
    with pytest.raises(Corrupt):
        _look(folder, paper, wanted)


def test_a_run_of_an_image_that_is_older_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "image.raw"
    disk.write_bytes(b"")
    monkeypatch.setattr(unflushed, "image", lambda _kind: disk)
    monkeypatch.setattr(unflushed, "RUN", tmp_path)
    assert unflushed._kept_run() is None
    told = tmp_path / "run.json"
    volume = {"begin": 1, "size_bytes": 2, "sector_bytes": 512, "key": "00ff"}
    told.write_text(
        json.dumps({"digests": {"1.2": "ab"}, "entries": {"1.2": 7}, "volume": volume, "paper": "p"})
    )
    run = unflushed._kept_run()
    assert run is not None
    assert (run.answered.by(6), run.answered.by(7)) == ({}, {"1.2": "ab"})
    assert run.volume == Volume(1, 2, 512, b"\0\xff")
    os.utime(told, (1, 1))
    assert unflushed._kept_run() is None
