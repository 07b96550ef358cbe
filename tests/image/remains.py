"""Whether anything of a patient stands in clear on a raw disk, byte by byte, outside any file system.

Names of invented patients are examples in our own source and help, which is on the disk too. So a word that the image holds before it
was ever started says nothing and is left out, but never a number, a UID or a date that was sent. And each scan looks for words of its
own beside them, which are planted before the first partition: one that doesn't find those has seen nothing.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from tests import synthetic
from tests.image.promises import kept
from tests.instances import Instance

GAP = 512 << 10
"""In the disk's first mebibyte, which belongs to its table of partitions and is empty from its 17th KiB on."""

BLOCK = 1 << 24


def forms(word: str) -> frozenset[bytes]:
    """How it may lie there: UTF-8, Latin-1, UTF-16, and JSON's escapes."""
    return frozenset(
        word.encode(code, "ignore")
        for code in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "unicode_escape")
    )


def sent_words(films: Iterable[Dataset]) -> frozenset[str]:
    """What tells of these films whose they are and when they were made; of the load that follows them too."""
    words = {
        Instance(0).patient_id,
        *(Instance(0, study=100 + number).study_instance_uid for number in (1, 2)),
    }
    for film in films:
        words |= {
            str(film.PatientID),
            str(film.AccessionNumber),
            str(film.StudyDate),
            str(film.PatientBirthDate),
        }
        words |= {str(film.StudyInstanceUID), str(film.SeriesInstanceUID), str(film.SOPInstanceUID)}
    return frozenset(words)


def nothing_in_clear(disk: Path, unpacked: Path, films: Iterable[Dataset], gap: int = GAP) -> None:
    """Say it, of a machine that is off: nothing of `films` or of any invented patient stands on `disk`, which began as `unpacked`; at `gap`
    nothing lies on it."""
    sent = frozenset(form for word in sent_words(films) for form in forms(word))
    names = synthetic.marker_bytes() | forms(Instance(0).patient_name.split("^")[0])
    ours = found(unpacked, sent | names)
    kept("no number, UID or date that was sent stands in the image", not ours & sent, str(ours & sent))
    planted = forms(f"Témoin^{secrets.token_hex(8)}")
    plant(disk, planted, gap)
    there = found(disk, (sent | names | planted) - ours)
    kept(
        f"what was planted on the disk is found, in {len(planted)} ways of writing",
        planted <= there,
        str(there),
    )
    kept(
        f"and nothing of a patient in clear on the whole disk: {len((sent | names) - ours)} words, {len(sent)} of them of what was sent",
        there == planted,
        str(there - planted),
    )


def plant(disk: Path, words: Iterable[bytes], at: int = GAP) -> None:
    """Write them where nothing is, before the first partition."""
    written = b"\n".join(sorted(words))
    with disk.open("r+b") as stream:
        there = os.pread(stream.fileno(), len(written), at)
        assert not there.strip(b"\0"), f"something lies at {at}"
        os.pwrite(stream.fileno(), written, at)


def found(disk: Path, words: Iterable[bytes]) -> frozenset[bytes]:
    """Which of `words` stand anywhere on it."""
    with tempfile.NamedTemporaryFile() as wanted, tempfile.TemporaryFile() as seen:
        wanted.write(b"\n".join(sorted(words)))
        wanted.flush()
        with subprocess.Popen(
            ["grep", "--text", "--only-matching", "--fixed-strings", f"--file={wanted.name}"],
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.PIPE,
            stdout=seen,
        ) as searching:
            assert searching.stdin is not None
            for block in _written(disk):
                searching.stdin.write(block)
            searching.stdin.close()
            code = searching.wait()
        assert code in (0, 1), f"grep: {code}"
        seen.seek(0)
        return frozenset(seen.read().split(b"\n")) - {b""}


def _written(disk: Path) -> Iterator[bytes]:
    """Its bytes, with a line's end for each hole in it."""
    with disk.open("rb") as stream:
        at, end = 0, os.fstat(stream.fileno()).st_size
        while at < end:
            try:
                at = os.lseek(stream.fileno(), at, os.SEEK_DATA)
            except OSError:  # a hole to the end
                return
            stop = os.lseek(stream.fileno(), at, os.SEEK_HOLE)
            while at < stop:
                block = os.pread(stream.fileno(), min(BLOCK, stop - at), at)
                yield block
                at += len(block)
            yield b"\n"
