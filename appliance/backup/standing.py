"""Which snapshots of an archive stand: finished, and their keys not destroyed.

A key that is destroyed is gone, or reads `snapshot.DESTROYED`. In a bucket, where nothing is removed, a marker beside it says so too
(`snapshot.destroyed_key`), which a list of names shows. Whoever may write there can lay one: believed as it lies, it would hide a good
backup from a restore, let a rotation clear it away as one that was cut, and keep its key from a purge whose certificate then
says that it is gone. So a marker only says where to look, and the key decides.

Chose to read the key over sealing the marker, which takes a request as well, for each marker: those that earlier software laid are not sealed, and a
seal says what was done once, not what lies there now, after somebody has written the earlier version of the key over it. Where no
marker lies, nothing more is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from appliance.backup import ahead, snapshot
from appliance.backup.ahead import Read
from appliance.errors import Corrupt, Unknown, Unreadable
from appliance.replication.destinations import Archive

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """`names` are the finished snapshots that stand, the newest first by name; `destroyed` those that are marked and whose key is no more,
    finished or not; `disbelieved` how many are marked, and have a key."""

    names: tuple[str, ...]
    destroyed: frozenset[str]
    disbelieved: int


def look(archive: Archive, keys: Collection[str] | None = None) -> Standing:
    """Which stand in `archive`, of all that lies there, or of its `keys` below `snapshot.PREFIX` where they are known already.

    Raises what the archive raises. That a marker was not believed is in the log.
    """
    if keys is None:
        keys = [each.key for each in archive.documents(snapshot.PREFIX)]
    with ahead.reading(archive, to_ask(keys), snapshot.key_key) as found:
        standing = judge(keys, found)
    if standing.disbelieved:
        log.warning(
            "backups are marked as destroyed that have a key still: somebody else may write in that archive: count=%d",
            standing.disbelieved,
        )
    return standing


def to_ask(keys: Collection[str]) -> Sequence[str]:
    """Those whose key has to be read: they are marked as destroyed, and there is one. Pure."""
    there = frozenset(keys)
    return [name for name in sorted(snapshot.marked_in(keys)) if snapshot.key_key(name) in there]


def judge(keys: Collection[str], found: Iterable[tuple[str, Read]]) -> Standing:
    """Which stand, of the `keys` below `snapshot.PREFIX`; `found` reads the key of each of `to_ask`.

    What a disk does not give back may be a key, so that one stands. Raises what the archive raises.
    """
    disbelieved, has_key = 0, set[str]()
    for name, key in found:
        try:
            is_key = key() != snapshot.DESTROYED
            disbelieved += is_key
        except Unknown:
            continue
        except (Corrupt, Unreadable):
            is_key = True
        if is_key:
            has_key.add(name)
    destroyed = snapshot.marked_in(keys) - has_key
    names = tuple(each for each in snapshot.names_in(keys) if each not in destroyed)
    return Standing(names, frozenset(destroyed), disbelieved)
