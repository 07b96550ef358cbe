"""How a listing is printed: a table for people, one JSON document for scripts.

Text that came from a peer may hold anything: in a table its control characters are shown as a dot, so that a patient's
name can never drive the terminal that it is printed on.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from appliance import local_time


def as_json(value: object, out: TextIO | None = None) -> None:
    """Print `value` as one JSON document; times become ISO 8601 in UTC."""
    out = out or sys.stdout
    plain = (out.encoding or "ascii").lower().replace("-", "") != "utf8"
    json.dump(value, out, indent=2, ensure_ascii=plain, default=_plain)
    out.write("\n")


def as_table(
    columns: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    *,
    empty: str,
    out: TextIO | None = None,
) -> None:
    """Print `rows` under the headings of `columns` (key of the row → heading), or the sentence `empty`.

    Numbers are set to the right. The table may be wider than the terminal: nothing is cut.
    """
    out = out or sys.stdout
    rows = list(rows)
    if not rows:
        out.write(empty + "\n")
        return
    cells = [[shown(row.get(key)) for key in columns] for row in rows]
    numeric = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in columns]
    headings = list(columns.values())
    widths = [max(len(line[index]) for line in [headings, *cells]) for index in range(len(headings))]
    for line in [headings, *cells]:
        out.write(_aligned(line, widths, numeric).rstrip() + "\n")


def shown(value: object) -> str:
    """`value` as a person reads it in a table or a line."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return local_time.here(value).strftime("%Y-%m-%d %H:%M:%S")
        case list() | tuple():
            return safe(", ".join(str(each) for each in value)) or "-"
        case Mapping():
            return safe(", ".join(f"{key} {each}" for key, each in value.items())) or "-"
        case _:
            return safe(str(value))


def safe(text: str) -> str:
    """`text` composed (NFC) and with every unprintable character as a dot."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(character if character.isprintable() else "·" for character in composed)


def size(count: int) -> str:
    """A number of bytes, for people: ``4.2 MB``."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def person_name(text: str) -> str:
    """A DICOM person name (PS3.5 6.2, VR PN) for people: ``Côté-Lévesque, Hélène``."""
    for group in text.split("="):  # a name may be written in characters or sounds alone
        family, *given = (part.strip() for part in group.split("^"))
        if name := ", ".join(part for part in (family, " ".join(filter(None, given[:2]))) if part):
            return name
    return ""


def date(text: str) -> str:
    """A DICOM date (VR DA) for people, unchanged if it is none."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdecimal() else text


def _aligned(line: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    return "  ".join(
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(line, widths, numeric, strict=True)
    )


def _plain(value: object) -> object:
    """What `json` can't print by itself."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case bytes():
            return value.hex()
        case Mapping():
            return dict(value)
        case set() | frozenset():
            return sorted(value)
        case _:
            return str(value)
