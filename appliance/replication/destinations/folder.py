"""A folder that another program reads: Part 10 files, in clear, as they were received.

Layout below the folder::

    study-<16 hexadecimal digits>/<object id>.dcm     one instance
    .arriving/<object id>-<random>                    one that is being written

The digits are the beginning of the SHA-256 of the Study Instance UID: the instances of a study lie together, and no
text that a peer chose becomes a path. A file has its name only once it is whole, synced and read back, so the reading
program needs no lock. What is left in ``.arriving`` by a crash is removed by the next session that is alone there.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.errors import Transient
from appliance.model import DestinationSettings, Takes
from appliance.replication.destinations import options
from appliance.replication.destinations.files import (
    blocks,
    clear_away,
    digest,
    digest_of,
    sync,
    translated,
    write,
)
from appliance.replication.destinations.parcel import Parcel, Receipt, Session, WouldReplace

_ARRIVING = ".arriving"


@dataclass(frozen=True, slots=True)
class FolderDestination:
    """The folder at `path`, which must exist: a missing one is a disk that is not plugged in."""

    path: Path
    takes: Takes = "dicom"

    @classmethod
    def from_settings(cls, settings: DestinationSettings) -> FolderDestination:
        """Raises `OperatorNeeded` unless the option `path` is an absolute path and no file's."""
        return cls(options.folder(settings))

    def check(self) -> str:
        """Write, read back and remove a small file."""
        name = secrets.token_hex(8)
        try:
            self._arriving().mkdir(mode=0o700, exist_ok=True)
            probe = self._arriving() / f"check-{name}"
            write(probe, iter([name.encode()]))
            probe.unlink()
        except OSError as error:
            raise translated(error, self.path) from error
        clear_away(self._arriving())
        return f"The folder {self.path} can be written."

    @contextmanager
    def open(self, parcels: Sequence[Parcel]) -> Iterator[Session]:  # noqa: ARG002
        """Nothing is kept open between the files."""
        try:
            self._arriving().mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise translated(error, self.path) from error
        yield self

    def send(self, parcel: Parcel) -> Receipt:
        """Write the Part 10 file, or find it there with the same bytes."""
        folder = self.path / f"study-{hashlib.sha256(parcel.study_instance_uid.encode()).hexdigest()[:16]}"
        final = folder / f"{parcel.object_id}.dcm"
        part = self._arriving() / f"{parcel.object_id}-{secrets.token_hex(4)}"
        try:
            if (parcel.tried_before or parcel.replaces == "nothing") and final.exists():
                found = digest(final)
                with parcel.open() as source:
                    if digest_of(blocks(source)) == found:
                        sync(folder)
                        return self._receipt(final, found)
                if parcel.replaces == "nothing":
                    raise WouldReplace
            folder.mkdir(exist_ok=True)
            try:
                with parcel.open() as source:
                    written = write(part, blocks(source))
                if digest(part) != written:
                    raise Transient("the folder did not keep what was written to it")
                part.rename(final)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            sync(folder)
            sync(self.path)
        except OSError as error:
            raise translated(error, self.path) from error
        return self._receipt(final, written)

    def _arriving(self) -> Path:
        return self.path / _ARRIVING

    def _receipt(self, final: Path, sha256: str) -> Receipt:
        return {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "file": str(final.relative_to(self.path)),
            "bytes": final.stat().st_size,
            "sha256": sha256,
        }
