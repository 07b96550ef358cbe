"""Which key seals a study: handed out to those who seal, found again for those who open.

A study usually has one key. Two processes that meet a new study at the same moment each draw one, and both stay: a
key belongs to its study for good, and destroying a study destroys all of its keys. Chose this because it needs no
agreement between processes on the receive path; rejected: a commit for every new study before its first answer.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.catalog import Catalog, study_keys
from appliance.errors import Corrupt
from appliance.model import KeyId, Uid
from appliance.store.keys import RootKey

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class StudyKey:
    """A 32-byte study key, its name, and itself wrapped by the root key."""

    key_id: KeyId
    key: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


def wrapping_context(key_id: KeyId, study_instance_uid: Uid) -> bytes:
    """What a wrapped study key is bound to: it opens only as this key of this study."""
    return f"study-key:{key_id}:{study_instance_uid}".encode()


class StudyKeys:
    """Study keys of one process: in memory once used, in the catalog once recorded. Safe to share between threads."""

    def __init__(self, root: RootKey, catalog: Catalog) -> None:
        self._root = root
        self._catalog = catalog
        self._lock = threading.Lock()
        self._by_study: OrderedDict[Uid, StudyKey] = OrderedDict()
        self._by_id: OrderedDict[KeyId, bytes] = OrderedDict()

    def for_study(self, study_instance_uid: Uid) -> StudyKey:
        """The key to seal an instance of this study with; a new one if it has none that this process knows of."""
        with self._lock:
            if known := self._by_study.get(study_instance_uid):
                self._by_study.move_to_end(study_instance_uid)
                return known
        with self._catalog.reading() as reading:
            latest = study_keys.latest_for(reading, study_instance_uid)
        if latest is None:
            key_id, key = KeyId(secrets.token_hex(16)), secrets.token_bytes(32)
            wrapped = self._root.wrap(key, wrapping_context(key_id, study_instance_uid))
        else:
            key_id, wrapped = latest
            key = self._root.unwrap(wrapped, wrapping_context(key_id, study_instance_uid))
        with self._lock:
            chosen = self._by_study.setdefault(study_instance_uid, StudyKey(key_id, key, wrapped))
            if len(self._by_study) > _REMEMBERED:
                self._by_study.popitem(last=False)
            return chosen

    def key(self, key_id: KeyId) -> bytes:
        """The recorded study key `key_id`; `Corrupt` if the catalog has lost it or it does not unwrap."""
        with self._lock:
            if key := self._by_id.get(key_id):
                self._by_id.move_to_end(key_id)
                return key
        with self._catalog.reading() as reading:
            recorded = study_keys.wrapped(reading, key_id)
        if recorded is None:
            raise Corrupt("the key of an image is missing", hint="restore the catalog from a backup")
        study_instance_uid, wrapped = recorded
        if not wrapped:
            raise Corrupt(
                "the key of an image was destroyed", hint="it was destroyed with its study, for good"
            )
        key = self._root.unwrap(wrapped, wrapping_context(key_id, study_instance_uid))
        with self._lock:
            self._by_id[key_id] = key
            if len(self._by_id) > _REMEMBERED:
                self._by_id.popitem(last=False)
        return key

    def forget(self, key_ids: Iterable[KeyId]) -> None:
        """Remember these keys no longer: they were destroyed."""
        gone = set(key_ids)
        with self._lock:
            for key_id in gone:
                self._by_id.pop(key_id, None)
            for study in [uid for uid, key in self._by_study.items() if key.key_id in gone]:
                del self._by_study[study]

    def forget_destroyed(self) -> None:
        """Remember none of the keys that were destroyed since, by whichever process."""
        with self._lock:
            known = {*self._by_id, *(each.key_id for each in self._by_study.values())}
        with self._catalog.reading() as reading:
            gone = study_keys.destroyed_among(reading, sorted(known))
        self.forget(gone)

    def opened(self, key_id: KeyId, study_instance_uid: Uid, wrapped: bytes) -> bytes:
        """A study key that came with an instance not recorded yet."""
        return self._root.unwrap(wrapped, wrapping_context(key_id, study_instance_uid))
