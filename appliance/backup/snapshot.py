"""A snapshot in an archive: which documents it consists of, and how one tells that it is whole. Pure.

Documents below ``snapshots/<name>/``, where the name is ``YYYYMMDDTHHMMSSZ-<8 random hexadecimal digits>``::

    begun               a constant text, written before the catalog is copied: when that began, by the archive's own clock
    000000, 000001, …   the copied catalog, 8 MiB each but the last: SQLCipher pages under the key of this snapshot
    key                 that key, drawn for this snapshot alone: RootKey.seal(32 bytes, "snapshot-key:<name>"); or the text
                        ``DESTROYED`` once a patient whom the snapshot remembers has been destroyed
    root.recovery       the root key under the recovery key, as of that moment: the paper of that day opens this snapshot
    index               written last: a snapshot without it was never finished
    destroyed           after the key is: where nothing can be removed, this says that its key is to be looked at (`appliance.backup.standing`)

The index is ``RootKey.seal(JSON, "snapshot:<name>")``. The JSON, format 1: ``format``, ``made_utc``, ``software`` (version),
``revision`` (of the tables), ``pieces`` (a list of [bytes, SHA-256]), ``contents`` (rows of studies, series and instances, and the sum
of these in bytes; earlier software noted no series, and the box's running counts instead of rows) and
``audit`` (the witness of the audit's chain, so that a snapshot also anchors it), and ``lives`` (how often the box had come back from
an archive, `appliance.backup.lives`). ``root.recovery`` brings all earlier root keys with it. Whatever a later format changes, ``format``
and ``software`` stay what they are: by these, earlier software says which version can restore it.

What came after the copy is in manifests that were written after ``begun`` (`came_after`). Earlier software laid none; hours may lie
between the copy and the index, on a slow line or behind a backlog, so its moment says nothing of what the copy holds.

A key for each snapshot, in a small document that may be written over, because a backup of last month remembers whoever is
destroyed today: names, dates and the keys of images. The pieces can be large, and locked against removal; the key is neither,
and without it they are noise (`appliance.lifecycle.purging` says when that is done). Rejected: leaving the keys of studies
out of the copy, since names would stay; sealing each patient's rows under a key of that patient, since one table forgotten,
now or in ten years, would leak for good.

Chose whole copies over differences, because these save too little for what they cost. What changes by day is mostly objects, which are
never sent twice, and a study tells of itself in its manifest minutes after it came. `python -m tests.bench snapshot` counts the rest, with four images a
study: a backup is 8.6 MB at 1,000 studies and 80 MB at 10,000, so 800 MB at 100,000, which is five minutes a night at 20 Mbit/s, and
35 of them cost 0.70 $ a month in a bucket. Of the catalog's own file 1,000 of 20,000 pages (4 MB) differ after a day of 60 studies. With a
whole one a week, a box of 10,000 studies would send for 26 s less a day and save 0.06 $ a month; one of 100,000, some four minutes and
0.60 $. For that

- each backup would need those before it: one damaged piece would lose a week, and no rotation could remove a piece that another needs;
- the key that dies with a patient would have to die in a week's backups at once, or live on in the later ones;
- pages of the file as it lies keep remains of deleted rows, and in the copy that was rewritten without them rows move: three times as
  many of its pages differ. The pages would have to be compared opened, since two copies of a SQLCipher file share no bytes.

A catalog in which nothing has happened is sent whole, too: there is none, since to make a backup is itself in the audit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from appliance.errors import Corrupt
from appliance.replication.destinations.archive import SNAPSHOTS

FORMAT: Final = 1
PIECE_BYTES: Final = 8 << 20
PREFIX: Final = SNAPSHOTS
KEY_BYTES: Final = 32
AHEAD: Final = timedelta(days=1)
"""How far two clocks that are right enough may be apart."""
DESTROYED: Final = b"The key of this backup was destroyed, and the patients in it with it.\n"
BEGUN: Final = b"A backup was begun here.\n"
OVERLAP: Final = timedelta(hours=1)
"""Manifests written so long before a snapshot was begun are read too: a store has more than one clock."""
_NAME: Final = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the copied catalog: its length in bytes and the SHA-256 of the ciphertext, in hexadecimal."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What a snapshot remembers, in rows: for a person, and for a drill to compare. `series` is None where earlier software noted none."""

    studies: int
    instances: int
    bytes: int
    series: int | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """All there is to know of one snapshot."""

    name: str
    made_utc: datetime
    software: str
    revision: str
    pieces: tuple[Piece, ...]
    contents: Contents
    audit: str
    lives: int = 0
    format: int = FORMAT
    """Of one later than `FORMAT` there may be no pieces here and no contents: only what could be read."""

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.pieces)


def new_name(now: datetime, chance: str) -> str:
    """A name: names sort by moment. `chance` is 8 random hexadecimal digits."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{chance}"


def moment_of(name: str) -> datetime | None:
    """When the snapshot of that name was made; None for what is no name of a snapshot."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def is_ahead(name: str, now: datetime) -> bool:
    """Whether the snapshot of that name bears a moment that is still to come: a clock was wrong, then or now."""
    moment = moment_of(name)
    return moment is not None and moment - now > AHEAD


@dataclass(frozen=True, slots=True, order=True)
class Age:
    """When a snapshot was made, as no clock tells: how often the box had come back by then, and how many rows its audit had."""

    lives: int
    audit_rows: int


def in_order(names: Sequence[str], ages: Mapping[str, Age], now: datetime) -> list[str]:
    """`names`, the newest first, by what no clock can falsify; `ages` lacks those whose index says nothing.

    Rows are only ever added, and a life is counted when a box comes back, above all that the archive has seen: rows alone would make
    the next backups of a box that came back from an older one seem old. What has no age stands where its name would; one of a moment
    to come stands last, since nothing speaks for it. Rejected: names, because a clock that was dead for a week has named that
    week's backups long before the others, and one that ran ahead years after them.
    """
    found = sorted(
        (each for each in names if each in ages), key=lambda each: (ages[each], each), reverse=True
    )
    silent = sorted((each for each in names if each not in ages), reverse=True)
    for name in silent:
        if not is_ahead(name, now):
            older = (place for place, each in enumerate(found) if each < name)
            found.insert(next(older, len(found)), name)
    found += [each for each in silent if is_ahead(each, now)]
    return found


def came_after(index: Index, written: Mapping[str, datetime]) -> datetime:
    """From which moment on what was written may say of images that a snapshot does not know. `written` is of an archive with a clock of
    its own: when each document was.

    The earliest of the snapshot's own documents is the bound, and the box's own moment, if that is earlier still: the documents may
    have been copied there later, from another bucket, in which order nobody knows. A clock of the box that was ahead narrows nothing.
    """
    own = f"{PREFIX}{index.name}/"
    moments = [moment for key, moment in written.items() if key.startswith(own)]
    return min([*moments, index.made_utc]) - OVERLAP


def begun_key(name: str) -> str:
    """Where every archive says that a snapshot was begun."""
    return f"{PREFIX}{name}/begun"


def piece_key(name: str, number: int) -> str:
    """Where piece `number` is in every archive."""
    return f"{PREFIX}{name}/{number:06d}"


def index_key(name: str) -> str:
    """Where the index is in every archive."""
    return f"{PREFIX}{name}/index"


def slot_key(name: str) -> str:
    """Where the wrapped root key of that moment is in every archive."""
    return f"{PREFIX}{name}/root.recovery"


def key_key(name: str) -> str:
    """Where the sealed key of the copied catalog is in every archive."""
    return f"{PREFIX}{name}/key"


def destroyed_key(name: str) -> str:
    """Where a bucket says that the key of a snapshot is destroyed."""
    return f"{PREFIX}{name}/destroyed"


def key_context(name: str) -> bytes:
    """What that key is sealed for: it opens under no other name."""
    return f"snapshot-key:{name}".encode()


def context(name: str) -> bytes:
    """What an index is sealed for: it opens under no other name."""
    return f"snapshot:{name}".encode()


def encode(index: Index) -> bytes:
    """The JSON of an index, to be sealed."""
    return json.dumps(
        {
            "format": index.format,
            "made_utc": index.made_utc.isoformat(),
            "software": index.software,
            "revision": index.revision,
            "pieces": [[each.size_bytes, each.sha256] for each in index.pieces],
            "contents": {
                "studies": index.contents.studies,
                "instances": index.contents.instances,
                "bytes": index.contents.bytes,
            }
            | ({} if index.contents.series is None else {"series": index.contents.series}),
            "audit": index.audit,
            "lives": index.lives,
        },
        separators=(",", ":"),
    ).encode()


def decode(name: str, text: bytes) -> Index:
    """The inverse of `encode`; of a later format what can be read. Raises `Corrupt` for what is no index, or does not say which software
    has made it."""
    try:
        told: dict[str, Any] = json.loads(text)
        if told["format"] > FORMAT and told.get("software"):
            return _later(name, told)
        if told["format"] != FORMAT:
            raise Corrupt(
                "a backup is of a format that this software does not know", hint="update the appliance"
            )
        return _index(name, told)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt("the index of a backup is not what was written", hint="use another backup") from error


def _index(name: str, told: Mapping[str, Any]) -> Index:
    return Index(
        name=name,
        made_utc=datetime.fromisoformat(told["made_utc"]),
        software=str(told["software"]),
        revision=str(told["revision"]),
        pieces=tuple(Piece(int(size), str(digest)) for size, digest in told["pieces"]),
        contents=Contents(
            **{each: int(told["contents"][each]) for each in ("studies", "instances", "bytes")},
            series=int(told["contents"]["series"]) if "series" in told["contents"] else None,
        ),
        audit=str(told["audit"]),
        lives=int(told.get("lives", 0)),
        format=int(told["format"]),
    )


def _later(name: str, told: Mapping[str, Any]) -> Index:
    """An index of a later format: as one of ours where it reads so, else which software has made it, and when, as far as it says."""
    try:
        return _index(name, told)
    except (ValueError, KeyError, TypeError, AttributeError):
        made, lives = moment_of(name), told.get("lives", 0)
        if made is None:
            raise
        return Index(
            name=name,
            made_utc=made,
            software=str(told["software"]),
            revision="",
            pieces=(),
            contents=Contents(0, 0, 0),
            audit=str(told.get("audit", "")),
            lives=lives if isinstance(lives, int) else 0,
            format=int(told["format"]),
        )


def names_in(keys: Iterable[str]) -> list[str]:
    """The finished snapshots among the keys of an archive, those destroyed since with them, the newest first by name."""
    return sorted(_with_end(keys, "index"), reverse=True)


def marked_in(keys: Iterable[str]) -> set[str]:
    """The snapshots that something in an archive calls destroyed, whoever wrote that (`appliance.backup.standing`)."""
    return _with_end(keys, "destroyed")


def _with_end(keys: Iterable[str], wanted: str) -> set[str]:
    parts = (each.removeprefix(PREFIX).rpartition("/") for each in keys if each.startswith(PREFIX))
    return {name for name, _, end in parts if end == wanted and moment_of(name) is not None}
