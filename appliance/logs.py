"""What the processes write to standard error: one line an event, for a person or as JSON for a machine.

======================  ==============================================================================
key of the JSON object  what it holds
======================  ==============================================================================
``at_utc``              the moment, ISO 8601
``level``               INFO, WARNING, ERROR, …
``process``             which process speaks, such as ``dicom-0``
``logger``              which module speaks
``event``               what happened, in words
``reference``           the number that an error's page showed, where there was one
``error``, ``where``    the kind of an exception and its places in the code, where there was one
======================  ==============================================================================

An event is one line whatever stands in it: control characters, which a peer may have sent in a name, are written as their
escapes, so that nothing from outside can look like a line of ours or drive the terminal it is read in.

An exception's own text is never written, in either form: it may hold what it choked on, such as a patient's name.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
_MOST_FRAMES = 8


def configure(process: str, level: str, form: str) -> None:
    """Let this process log as asked; a worker that is forked asks again, under its own name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if form == JSON else Lines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def places(error: BaseException) -> list[str]:
    """Where `error` came from, the innermost first, as ``file:line``; nothing that it says."""
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames)]


class Lines(logging.Formatter):
    """One readable line."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`."""
        record.message = _on_one_line(record.getMessage())
        reference = getattr(record, "reference", "")
        return "".join(
            (
                self.formatMessage(record),
                f" [{reference}]" if reference else "",
                f" {_kind(record)} in {' < '.join(_places(record))}" if _kind(record) else "",
            )
        )


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`."""
        told: dict[str, object] = {
            "at_utc": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "event": record.getMessage(),
        }
        if reference := getattr(record, "reference", ""):
            told["reference"] = reference
        if kind := _kind(record):
            told |= {"error": kind, "where": _places(record)}
        line = json.dumps(told, ensure_ascii=False)
        return line if line.isprintable() else "".join(map(_readable, line))


def _on_one_line(text: str) -> str:
    """`text` with what would break a line, or is invisible in one, as an escape."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


def _readable(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _kind(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ if error is not None else ""


def _places(record: logging.LogRecord) -> list[str]:
    error = record.exc_info[1] if record.exc_info else None
    return places(error) if error is not None else []
