"""Looks for what would betray a patient of the synthetic set: names, ids, UIDs, in every form that a leak could have."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.catalog.folding import fold
from tests import synthetic
from tests.synthetic import HELENE, MARKERS

PHYSICIAN = "Référent^Fictif"
LEAST_BYTES = 6
"""Shorter forms are left out: random ciphertext contains them by chance."""

_ENCODINGS = ("latin-1", "utf-8", "utf-16-le", "utf-16-be", "unicode_escape")
_UID_TEXT = re.compile(rb"2\.25\.\d{20,}")
_UID_WIDE = re.compile(rb"2\0\.\x002\x005\0\.\0(?:\d\0){20,}")
_NOTHING = re.compile(rb"\0{64,}")  # preallocated space: the most of what is scanned
_BLOCK_BYTES = 16 << 20
_OVERLAP_BYTES = 1024


@functools.cache
def _forms() -> dict[bytes, str]:
    """Every form of every word, in bytes, and the word that it is one of."""
    found = {}
    for word in (*MARKERS, PHYSICIAN):
        for text in {word, word.upper(), word.casefold(), fold(word)}:
            for encoding in _ENCODINGS:
                found[text.encode(encoding)] = word
    return {form: word for form, word in found.items() if len(form) >= LEAST_BYTES}


@functools.cache
def _uids(seed: int = 1) -> frozenset[bytes]:
    """Every UID by which the set can be told: of studies, series and instances."""
    return frozenset(
        str(getattr(ds, keyword)).encode()
        for ds in synthetic.clinic_set(seed, scale=0.02)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )


def words_in(data: bytes) -> set[str]:
    """The words of the set that are in `data`, as they are spelt in the set."""
    data = _NOTHING.sub(bytes(8), data)
    found = {word for form, word in _forms().items() if form in data}
    for uid in (*_UID_TEXT.findall(data), *(wide[::2] for wide in _UID_WIDE.findall(data))):
        # More digits than the UID has may follow it: what is told is told.
        found |= {known.decode() for known in _uids() if uid.startswith(known)}
    return found


def betrayals(folders: Iterable[Path]) -> dict[str, set[str]]:
    """Where below `folders` something is in clear: in files, and in their names."""
    found = {}
    for path in (each for folder in folders for each in sorted(folder.rglob("*"))):
        words = words_in(str(path).encode())
        if path.is_file():
            for block in _blocks(path):
                words |= words_in(block)
        if words:
            found[str(path)] = words
    return found


def _blocks(path: Path) -> Iterator[bytes]:
    """A file in blocks that overlap, so that no word falls between two. One that is removed meanwhile has no more."""
    try:
        with path.open("rb") as file:
            tail = b""
            while block := file.read(_BLOCK_BYTES):
                yield tail + block
                tail = block[-_OVERLAP_BYTES:]
    except FileNotFoundError:
        return


def planted() -> dict[str, bytes]:
    """What a leak could look like, by the form it has: the scan must find each."""
    name, uid = HELENE.name, sorted(_uids())[0]
    return {
        "a data set": f"PN\x16\0{name}".encode("latin-1"),
        "UTF-8": f"patient={name}".encode(),
        "UTF-16": name.encode("utf-16"),
        "JSON": f'{{"name": "{name.encode("unicode_escape").decode()}"}}'.encode(),
        "a search index": fold(name).encode(),
        "capitals": name.upper().encode(),
        "an id": HELENE.id.encode(),
        "a UID": b"instance " + uid + b" refused",
        "a wide UID": uid.decode().encode("utf-16-le"),
        "the end of a block": bytes(_BLOCK_BYTES - 5) + HELENE.id.encode(),
    }
