"""The support file: how the box does, for whoever mends it from afar, without anything of a patient.

A ``.tar.gz`` with a folder in it::

    READ-ME.txt          what this is, and what was cut out of it
    contents.json        the files, when and of which box, how often each kind of marker was cut
    health.json          problems by their codes, and the figures of the dashboard
    versions.json        the software, its parts, the machine
    units.json           what systemd says of each unit, and how long ago
    configuration.json   settings, devices, destinations and rules; no secret, nothing of the clinic's people
    counts.json          how many rows each table has
    logs/PROCESS.log     the last lines of each process

Every text in it goes through `appliance.fleet.markers`, and then the finished files once more: if the second look finds
anything, nothing is written. With a vendor's key (`appliance.age`) only the vendor can open it; without one, a person
of the clinic looks at it before it leaves. It leaves by hand, or with a ticket that holds to this (`appliance.fleet.ticket`).
"""

from __future__ import annotations

import gzip
import io
import json
import platform
import sys
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from typing import Any

from appliance import __version__, age, configuration, health, logs, settings
from appliance.box import Box
from appliance.catalog import Reading, totals
from appliance.errors import Corrupt, Transient
from appliance.fleet import known
from appliance.fleet.markers import Markers
from appliance.fleet.units import unit_states
from appliance.health import Facts

CONTENTS, READ_ME = "contents.json", "READ-ME.txt"
LEFT_OUT = ("support.",)
"""Settings whose names begin so matter nothing here; those that tell of people are left out besides."""
PARTS = (
    "cryptography", "flask", "pydicom", "pynetdicom", "python-gdcm", "sqlalchemy", "sqlcipher3", "waitress",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bundle:
    """A support file that has been looked through. `cut` counts what was taken out, by kind; `data` is the archive."""

    name: str
    files: Mapping[str, str]
    cut: Mapping[str, int]
    data: bytes

    def sealed_for(self, reader: str) -> bytes:
        """The archive as only whoever has the key to `reader` can open it. Raises `Refused`."""
        return age.encrypt(self.data, reader)


def reader_of(reading: Reading) -> str:
    """The public key for which support files are sealed; empty if nobody has entered one."""
    return str(settings.get(reading, "support.reader_key"))


def make(box: Box, now: datetime) -> Bundle:
    """The support file of `box` as of `now`. Raises `Corrupt` if a second look still finds what was to be cut."""
    facts = health.gather(box, now)
    with box.catalog.reading() as conn:
        markers = known.markers(conn, box)
        documents = {
            "health.json": _health(facts),
            "versions.json": _versions(),
            "units.json": _units(),
            "configuration.json": _configuration(conn),
            "counts.json": totals.row_counts(conn),
        }
    counted: Counter[str] = Counter()
    files = {name: written(_cut_within(markers, each, counted)) for name, each in documents.items()}
    for process, text in logs.kept_lines(box.config.data.absolute()).items():
        files[f"logs/{process}.log"], found = markers.cut(text)
        counted += found
    name = f"support-{now:%Y%m%d-%H%M%S}"
    made_utc = now.isoformat(timespec="seconds")
    contents = {
        "support_file": 1,
        "made_utc": made_utc,
        "software": __version__,
        "looked_for": len(markers),
        "too_short_to_look_for": markers.too_short,
        "cut": dict(sorted(counted.items())),
        "files": sorted([*files, CONTENTS, READ_ME]),
    }
    files[CONTENTS], files[READ_ME] = written(contents), _read_me(counted)
    _look_again(markers, files, {made_utc, __version__, *files})
    return Bundle(name, files, dict(counted), _archive(name, files, now))


def written(document: Any) -> str:
    """A document as the text of a file."""
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _look_again(markers: Markers, files: Mapping[str, str], own: Collection[str]) -> None:
    """Raises `Corrupt` if a log, or a text within a document, holds anything still.

    `own` are the words of the box in the list of contents: a patient whose number is the year, or who is called like a file, is
    not named by them, and without them the list could not be read.
    """
    for name, text in files.items():
        texts = _texts(json.loads(text)) if name.endswith(".json") else iter((text,))
        if name == CONTENTS:
            texts = (each for each in texts if each not in own)
        if name != READ_ME and any(markers.cut(each)[1] for each in texts):
            raise Corrupt(
                "the support file still held what was to be cut out of it, and was thrown away",
                hint="tell whoever made this software; nothing has left the box",
            )


def _texts(document: Any) -> Iterator[str]:
    match document:
        case dict():
            for each in document.values():
                yield from _texts(each)
        case list():
            for each in document:
                yield from _texts(each)
        case str():
            yield document


def _cut_within(markers: Markers, document: Any, counted: Counter[str]) -> Any:
    """`document` with every text in it looked through. Names of fields and numbers are the box's own."""
    match document:
        case dict():
            return {name: _cut_within(markers, each, counted) for name, each in document.items()}
        case list() | tuple():
            return [_cut_within(markers, each, counted) for each in document]
        case str():
            text, found = markers.cut(document)
            counted += found
            return text
        case _:
            return document


def _health(facts: Facts) -> dict[str, Any]:
    status = health.status_of(facts)
    return {
        "ready": status.ready,
        "problems": [
            {"code": each.code, "severity": str(each.severity), "blocks": each.blocks}
            for each in status.problems
        ],
        "studies": status.studies,
        "instances": status.instances,
        "bytes": status.bytes,
        "free_bytes": status.free_bytes,
        "processes": dict(status.processes or {}),
        "failing_jobs": list(facts.failing_jobs),
        "queues": [
            {
                "destination": each.destination,
                "state": each.state,
                "waiting": each.waiting,
                "confirmed": each.confirmed,
                "failed": each.failed,
            }
            for each in status.queues
        ],
        "received_today": facts.received_today,
        "rules": facts.rules,
    }


def _versions() -> dict[str, Any]:
    return {
        "appliance": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "") if sys.platform == "linux" else "",
        "parts": {name: metadata.version(name) for name in PARTS},
    }


def _units() -> dict[str, Any] | str:
    try:
        return unit_states()
    except Transient as error:
        return error.message


def _configuration(conn: Reading) -> dict[str, Any]:
    document = configuration.export(conn)
    chosen = {
        key: value
        for key, value in document["settings"].items()
        if not (key.startswith(LEFT_OUT) or known.tells_of_people(key))
    }
    return document | {"settings": chosen}


def _read_me(cut: Mapping[str, int]) -> str:
    lines = (
        "The support file of a clinic edge appliance.",
        "",
        "It says how the box does: problems, versions, units, configuration, counts and logs. Before it was written, every",
        "patient's name, ID, birth date and accession number that the box knows, and every secret, were looked for in it",
        "and cut out; so was all that only looks like one. What was cut is marked [cut: KIND].",
        "",
        *(f"{kind}: {count}" for kind, count in sorted(cut.items())),
        "" if cut else "Nothing had to be cut.",
    )
    return "\n".join(lines).rstrip() + "\n"


def _archive(name: str, files: Mapping[str, str], now: datetime) -> bytes:
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=int(now.timestamp())) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path, text in sorted(files.items()):
            data = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(now.timestamp())
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def suffix(reader: str) -> str:
    """How the name of a support file ends that is sealed for `reader`, or for nobody."""
    return ".tar.gz.age" if reader else ".tar.gz"
