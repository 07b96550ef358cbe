"""What the processes write to standard error, and keep: one line an event, for a person or as JSON for a machine.

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

The last half megabyte or two of each process is kept beside the data, in ``logs/PROCESS.log`` and ``PROCESS.log.1``, as
JSON: for the support file, which must be made where nobody may read the machine's own journal. What cannot be written
there, as on a full disk, is not: a process never fails for its log.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
FOLDER = "logs"
"""Below the data folder."""
MOST_BYTES = 512 * 1024
"""Of a file, before it becomes the older one, and the older one before it is gone."""
_MOST_FRAMES = 8


def configure(process: str, level: str, form: str, data: Path | None = None) -> None:
    """Let this process log as asked, and keep its last lines in `data`; a worker that is forked asks again."""
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(JsonLines(process) if form == JSON else Lines())
    handlers: list[logging.Handler] = [shown]
    if data is not None:
        kept = Kept(data / FOLDER / f"{process}.log")
        kept.setFormatter(JsonLines(process))
        handlers.append(kept)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    _silence_libraries()


def _silence_libraries() -> None:
    """Keep the DICOM libraries out of every process's log: they quote the values that they complain of."""
    warnings.filterwarnings("ignore", module=r"pydicom|pynetdicom")
    for name in ("pynetdicom", "pydicom"):
        library = logging.getLogger(name)
        library.setLevel(logging.CRITICAL + 1)
        library.propagate = False


def kept_lines(data: Path) -> dict[str, str]:
    """What is kept of each process, the oldest line first."""
    found: dict[str, str] = {}
    for path in sorted((data / FOLDER).glob("*.log")):
        pieces = []
        for each in (path.with_name(f"{path.name}.1"), path):
            with suppress(OSError):
                pieces.append(each.read_text("utf-8", "replace"))
        found[path.stem] = "".join(pieces)
    return found


def places(error: BaseException) -> list[str]:
    """Where `error` came from, the innermost first, as ``file:line``; nothing that it says."""
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames)]


class Kept(logging.Handler):
    """The last lines, in two files of bounded size. One process writes a file."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        super().__init__()
        self._path = path
        self._most = most_bytes

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line of `record`, if it can be."""
        line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, line)
                full = os.fstat(file).st_size >= self._most
            finally:
                os.close(file)
            if full:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))


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
