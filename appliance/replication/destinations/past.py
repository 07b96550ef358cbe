"""An archive as it stood at a moment: what a bucket with versions still has of it, though somebody has written over or removed it since.

::

    ──────── versions of one key, by the store's clock ────────▶
       │ older │   THEN   │ moment │ LATER │ LATER │ latest
                  read as              read besides: what came after the moment and
                  the document         opens still is ours, and what does not is what
                                       was written over it

`Past` reads what was there then; `Later` reads every version that came after it. Which of these is ours, whoever has the root key says.
A marker that a key was removed counts as a version: what was removed at the moment was not there. Nothing is written by either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, takewhile
from typing import Final

from appliance.errors import OperatorNeeded, Refused, Unknown
from appliance.replication.destinations.archive import Archive, Document, Recounting, Version

_BETWEEN: Final = "@"
"""Between the version and the key in a name of `Later`; no key of an archive has one."""


def as_it_was(archive: Archive, moment: datetime) -> Past:
    """`archive` as it stood at `moment`. Raises `OperatorNeeded` if it is of no kind that keeps what was written over."""
    if not isinstance(archive, Recounting):
        raise OperatorNeeded(
            "only a bucket can tell what it held at an earlier moment",
            hint="leave the moment out, and choose an older backup instead",
        )
    return Past(archive, moment)


@dataclass(frozen=True)
class Past:
    """An archive as it stood at a moment, to be read; what it lists is remembered. Shared by threads."""

    of: Recounting
    moment: datetime
    _found: dict[str, Version] = field(default_factory=dict, repr=False)
    _listed: set[str] = field(default_factory=set, repr=False)
    _over: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    @property
    def reads_at_once(self) -> int:
        """See `Distant`."""
        return int(getattr(self.of, "reads_at_once", 1))

    def documents(self, prefix: str) -> Iterator[Document]:
        """See `Archive`: those that were there, and when each was written."""
        for then in self._then(prefix):
            self._found[then.key] = then
            yield Document(then.key, then.written_utc)
        self._listed.add(prefix)

    def document(self, key: str) -> bytes:
        """See `Archive`."""
        return self.of.document_of(key, self.version(key).version_id)

    def blocks(self, key: str) -> Iterator[bytes]:
        """See `Archive`."""
        return self.of.blocks_of(key, self.version(key).version_id)

    def put_document(self, key: str, data: bytes) -> None:  # noqa: ARG002
        """Nobody writes into what has been."""
        raise Refused("what an archive held at an earlier moment can't be written over")

    def version(self, key: str) -> Version:
        """The version of `key` that was there. Raises `Unknown` if there was none."""
        if key not in self._found and not any(key.startswith(each) for each in self._listed):
            self._found.update((each.key, each) for each in self._then(key) if each.key == key)
        if key not in self._found:
            raise Unknown("the cloud storage did not hold that then", hint="choose another moment")
        return self._found[key]

    def later(self) -> Later:
        """What was written after the moment."""
        return Later(self)

    def version_over(self, key: str) -> str:
        """Which version of an object is ours, where another lies over it by now or it was removed; empty where the latest is.

        The one that was there at the moment, or of one that came since the first: a sealed object is written once. All that begin
        as it does up to the last slash are listed at once: of a bucket that is a request for a thousand.
        """
        shard = f"{key.rpartition('/')[0]}/"
        if shard not in self._over:
            self._over[shard] = {
                each.key: each.version_id for each in self._ours(shard) if not each.is_latest
            }
        return self._over[shard].get(key, "")

    def _ours(self, prefix: str) -> Iterator[Version]:
        for _, versions in groupby(self.of.versions_below(prefix), lambda each: each.key):
            written = [each for each in versions if not each.is_removal]
            then = [each for each in written if each.written_utc <= self.moment]
            if written:
                yield then[0] if then else written[-1]

    def _then(self, prefix: str) -> Iterator[Version]:
        for _, versions in groupby(self.of.versions_below(prefix), lambda each: each.key):
            then = next((each for each in versions if each.written_utc <= self.moment), None)
            if then is not None and not then.is_removal:
                yield then


@dataclass(frozen=True)
class Later:
    """The versions that were written after the moment of a `Past`, each under a name of its own (`parted`); of one key the oldest first."""

    than: Past
    latest: dict[str, str] = field(default_factory=dict, repr=False)
    """Of each key that was listed, the version that is the latest now; empty where it was removed."""

    @property
    def reads_at_once(self) -> int:
        """See `Distant`."""
        return self.than.reads_at_once

    def documents(self, prefix: str) -> Iterator[Document]:
        """See `Archive`."""
        for key, versions in groupby(self.than.of.versions_below(prefix), lambda each: each.key):
            after = list(takewhile(lambda each: each.written_utc > self.than.moment, versions))
            if after:
                self.latest[key] = "" if after[0].is_removal else after[0].version_id
            for each in reversed(after):
                if not each.is_removal:
                    yield Document(f"{each.version_id}{_BETWEEN}{key}", each.written_utc)

    def document(self, key: str) -> bytes:
        """See `Archive`."""
        version_id, of = parted(key)
        return self.than.of.document_of(of, version_id)

    def blocks(self, key: str) -> Iterator[bytes]:
        """See `Archive`."""
        version_id, of = parted(key)
        return self.than.of.blocks_of(of, version_id)

    def put_document(self, key: str, data: bytes) -> None:
        """Nobody writes into what has been."""
        self.than.put_document(key, data)


def parted(name: str) -> Sequence[str]:
    """The version and the key in a name of `Later`."""
    version_id, _, key = name.rpartition(_BETWEEN)
    return version_id, key
