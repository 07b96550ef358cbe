"""What a disk was told, write by write and flush by flush, and what it may hold if the power had gone at any of them.

QEMU's filter ``blklogwrites`` writes it down in the form of Linux's dm-log-writes: a first sector with the number of entries, then for
each entry a sector that says where, how much and of which kind, and behind it what was written. An entry comes when the disk has
done it, before the machine is told so.

A disk keeps what it was told before the last flush that it has answered, and what was written through (FUA). Of what came since it may
have kept all, nothing, or any part, in any order, and of a single write the first sectors alone.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS

SECTOR: Final = 512
MAGIC: Final = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
HEAD: Final = struct.Struct("<QQQI")
ENTRY: Final = struct.Struct("<QQQQ")
PIECE: Final = 1 << 20


class Kept(Enum):
    """What a disk has kept of the writes that no flush had confirmed."""

    ALL = "all"
    NONE = "none"
    SOME = "some"
    TORN = "torn"  # some, each of them up to a sector


@dataclass(frozen=True)
class Write:
    """One entry of the log: `size_bytes` at `offset` of the disk, of which `at` says where they lie in the log."""

    offset: int
    size_bytes: int
    at: int
    flags: int


def entries_told(log: Path) -> int:
    """How many entries the log has by what its first sector says, which is brought up to date with each flush."""
    with log.open("rb") as file:
        magic, _, count, sector = HEAD.unpack(file.read(HEAD.size))
    assert (magic, sector) == (MAGIC, SECTOR), "this is no log of a disk's writes"
    return int(count)


def entries(log: Path) -> Iterator[Write]:
    """Every entry, up to the first that is not whole: the machine was killed while it was written."""
    size, at = log.stat().st_size, SECTOR
    with log.open("rb") as file:
        while at + SECTOR <= size:
            file.seek(at)
            sector, count, flags, data = ENTRY.unpack(file.read(ENTRY.size))
            if not (count or flags):
                return
            at += SECTOR
            length = 0 if flags & DISCARD else count * SECTOR
            if at + length > size:
                return
            yield Write(sector * SECTOR, count * SECTOR, at, flags)
            at += length + data


def surviving(
    writes: Sequence[Write], cut: int, kept: Kept, dice: random.Random
) -> tuple[int, list[tuple[Write, int]]]:
    """Of the first `cut` entries: how many a flush has confirmed, and which of the others are kept, each with how many of its bytes. Pure."""
    confirmed = next((n for n in range(cut, 0, -1) if writes[n - 1].flags & FLUSH), 0)
    stay: list[tuple[Write, int]] = []
    for each in writes[confirmed:cut]:
        if each.flags & FUA or kept is Kept.ALL:
            stay.append((each, each.size_bytes))
        elif kept is not Kept.NONE and dice.random() < 0.5:
            sectors = each.size_bytes // SECTOR
            some = dice.randint(1, sectors) if kept is Kept.TORN and sectors else sectors
            stay.append((each, some * SECTOR))
    return confirmed, stay


@dataclass(frozen=True)
class Volume:
    """What lies encrypted (LUKS2, aes-xts-plain64) on a disk: where its payload begins, how it is cut, and its key."""

    begin: int
    size_bytes: int
    sector_bytes: int
    key: bytes

    def clear(self, offset: int, data: bytes) -> bytes:
        """Decrypt `data`, which lies at `offset` of the payload; both are whole sectors. Its tweak counts 512 bytes, whatever a sector is."""
        cipher, clear = AES(self.key), []
        for at in range(0, len(data), self.sector_bytes):
            tweak = ((offset + at) // SECTOR).to_bytes(16, "little")
            piece = data[at : at + self.sector_bytes]
            clear.append(Cipher(cipher, XTS(tweak)).decryptor().update(piece))
        return b"".join(clear)


def volume_of(partition: str, metadata: str, key: bytes) -> Volume:
    """The volume of a LUKS2 partition: `partition` is where it begins and how large it is, in sectors, as the kernel says it; `metadata`
    what ``cryptsetup luksDump --dump-json-metadata`` says."""
    begin, size = (int(each) * SECTOR for each in partition.split())
    (segment,) = json.loads(metadata)["segments"].values()
    assert (segment["encryption"], segment["iv_tweak"]) == ("aes-xts-plain64", "0"), segment
    payload = int(segment["offset"])
    return Volume(begin + payload, size - payload, int(segment["sector_size"]), key)


class Replay:
    """The file system of a `volume`, in clear, as it was after any number of the entries of a log; they only ever grow in number."""

    def __init__(self, disk: Path, log: Path, volume: Volume, clear: Path) -> None:
        self._log, self._volume, self._clear = log, volume, clear
        self.writes = list(entries(log))
        self._done = 0
        _decrypt(disk, volume, clear)

    def state(self, cut: int, kept: Kept, dice: random.Random, at: Path) -> int:
        """Lay at `at` what the disk holds after a cut behind entry `cut`; how many writes were lost or torn."""
        confirmed, stay = surviving(self.writes, cut, kept, dice)
        assert confirmed >= self._done, "cuts come in their order"
        self._apply(self._clear, [(each, each.size_bytes) for each in self.writes[self._done : confirmed]])
        self._done = confirmed
        subprocess.run(["cp", "--sparse=always", self._clear, at], check=True)
        self._apply(at, stay)
        whole = sum(size == each.size_bytes for each, size in stay)
        return cut - confirmed - whole

    def _apply(self, image: Path, some: Sequence[tuple[Write, int]]) -> None:
        volume = self._volume
        with self._log.open("rb") as log, image.open("r+b") as file:
            for each, size in some:
                begin = each.offset - volume.begin
                if each.flags & (DISCARD | MARK) or not size or begin + size > volume.size_bytes:
                    continue
                if begin < 0:  # another partition, or the volume's own header
                    continue
                log.seek(each.at)
                self._write(file.fileno(), begin, log.read(size))

    def _write(self, image: int, begin: int, data: bytes) -> None:
        """Write `data` in clear at `begin`. A part of an encrypted sector is in clear what that part of it says, for its cipher
        works on 16 bytes at a time."""
        volume, at = self._volume, begin
        first = -begin % volume.sector_bytes
        for piece in (data[:first], data[first:]):
            skipped = at % volume.sector_bytes
            clear = volume.clear(at - skipped, bytes(skipped) + piece)[skipped:] if piece else b""
            os.pwrite(image, clear, at)
            at += len(piece)


def _decrypt(disk: Path, volume: Volume, clear: Path) -> None:
    """Write what was ever written in the volume to the new file `clear`, in clear; the rest of it is a hole."""
    source = os.open(disk, os.O_RDONLY)
    target = os.open(clear, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(target, volume.size_bytes)
        at, end = volume.begin, volume.begin + volume.size_bytes
        while at < end:
            try:
                at = max(at, os.lseek(source, at, os.SEEK_DATA))
            except OSError:  # nothing but a hole comes
                break
            at -= (at - volume.begin) % volume.sector_bytes
            until = min(end, os.lseek(source, at, os.SEEK_HOLE))
            while at < until:
                data = os.pread(source, min(PIECE, until - at), at)
                data = data.ljust(-(-len(data) // volume.sector_bytes) * volume.sector_bytes, b"\0")
                os.pwrite(target, volume.clear(at - volume.begin, data), at - volume.begin)
                at += len(data)
    finally:
        os.close(source)
        os.close(target)


def room(folder: Path) -> Path:
    """An empty log in `folder`, that has room for what a disk is told in an hour."""
    log = folder / "writes.log"
    log.write_bytes(b"")
    os.truncate(log, 64 << 30)
    return log
