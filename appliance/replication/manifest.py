"""What a study consists of, sealed and laid beside its objects: with the recovery key, enough to rebuild a blank box.

A bucket full of sealed objects is of no use without the study keys, and those are in the catalog, which burns with the
box. So each study has one small document in the bucket, written after its objects are confirmed there and over again
when more arrive; it isn't locked against removal, since removing the wrapped keys in it is how a study is destroyed.

Name: ``manifests/<HMAC-SHA256 of the Study Instance UID, 64 hexadecimal digits>.sealed``; the HMAC's key is
``RootKey.derive("manifest")``, so that the name says nothing, and yet is found again.

Content: ``RootKey.seal(zlib(JSON), context)`` with the context ``manifest:<the digits>``. The JSON, format 1:

=============  =====================================================================================
key            value
=============  =====================================================================================
format         1
patients       rows of the catalog's tables, as objects of column → value: moments as ISO text, bytes
studies        as base64, columns that can be computed left out; `id` and what points to it hold within
series         the document only
instances      those confirmed in this bucket, each with `object_id` and `key_id`
study_keys     each with `wrapped`: the study key under the root key
destroyed      tombstones: each with `keys` (ids that no image may be opened with any more), `certificate`, `at_utc`, and the
               `objects` that were decided about (earlier software did not write them: all under the keys)
=============  =====================================================================================

The manifest of a study that was destroyed holds tombstones and nothing else, in the place where its keys were: whoever restores
from that archive, with whichever backup, learns that the study is not to come back. When its images are sent again, they
have another key, and their rows stand beside the tombstones.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from appliance.catalog.columns import utc_text
from appliance.catalog.destroyed_keys import Tombstone
from appliance.catalog.manifests import StudyRows
from appliance.errors import Corrupt
from appliance.model import KeyId, Uid
from appliance.replication.destinations.archive import KEPT, MANIFESTS
from appliance.store.keys import RootKey

FORMAT: Final = 1


class OfNewerSoftware(Corrupt):
    """It opens, and is of a later format: it is whole, and to be left as it is."""


_LARGEST_BYTES: Final = 256 << 20
_ROWS: Final = ("patients", "studies", "series", "instances", "study_keys")


def key(root: RootKey, study_instance_uid: Uid) -> str:
    """Where the manifest of a study is in every bucket."""
    return f"{MANIFESTS}{_digits(root, study_instance_uid)}.sealed"


def seal(root: RootKey, name: str, rows: StudyRows, destroyed: Sequence[Tombstone] = ()) -> bytes:
    """The document of a study, to lie under `name`, a key that `key` gave."""
    told = {each: getattr(rows, each) for each in _ROWS}
    return _seal(root, name, {"format": FORMAT, "destroyed": [each.as_told() for each in destroyed]} | told)


def seal_tombstone(
    root: RootKey, name: str, found: Mapping[str, Any] | None, destroyed: Sequence[Tombstone]
) -> bytes:
    """What takes the place of the document `found` under `name` (None: none, or a damaged one) when keys are destroyed.

    What `found` says under other keys stays: images that were sent again.
    """
    keys = {key_id for each in destroyed for key_id in each.keys}
    left = _without(found or {}, keys)
    return _seal(root, name, {"format": FORMAT, "destroyed": [each.as_told() for each in destroyed]} | left)


def tombstones(document: Mapping[str, Any]) -> list[Tombstone]:
    """The tombstones in a document. Raises `Corrupt`."""
    try:
        return [Tombstone.read(each) for each in document.get("destroyed", [])]
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt("a study manifest lacks what it should hold") from error


def digits(name: str) -> str:
    """The digits in the name of a manifest."""
    return name.removeprefix(MANIFESTS).removesuffix(".sealed")


def kept_key(name: str, sealed: bytes) -> str:
    """Where a document that was sealed as the manifest `name` lies in the place of it, and is read by every restore: under what it says."""
    return f"{KEPT}{digits(name)}-{hashlib.sha256(sealed).hexdigest()[:16]}.sealed"


def _without(document: Mapping[str, Any], keys: set[KeyId]) -> dict[str, Any]:
    """The rows of `document` without the images under `keys`, and without what only those brought along."""
    rows: dict[str, list[Any]] = {name: list(document.get(name, [])) for name in _ROWS}
    images = [each for each in rows["instances"] if each["key_id"] not in keys]
    series = {each["series"] for each in images}
    rows["series"] = [each for each in rows["series"] if each["id"] in series]
    rows["studies"] = [each for each in rows["studies"] if images]
    people = {each["patient"] for each in rows["studies"]} | {each["other_patient"] for each in images}
    rows["patients"] = [each for each in rows["patients"] if each["id"] in people]
    rows["study_keys"] = [each for each in rows["study_keys"] if each["id"] not in keys]
    return rows | {"instances": images}


def _seal(root: RootKey, name: str, document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, default=_plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return root.seal(zlib.compress(text.encode(), 6), _context(digits(name)))


def unseal(root: RootKey, name: str, sealed: bytes) -> dict[str, Any]:
    """The JSON of the document found under `name`, a key that `key` gave. Raises `Corrupt` if it isn't what was written,
    `OfNewerSoftware` if it is of a later format."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(root.unseal(sealed, _context(digits(name))), _LARGEST_BYTES)
        document: dict[str, Any] = json.loads(text)
    except (zlib.error, ValueError) as error:
        raise Corrupt("a study manifest is not what was written") from error
    if (found := document.get("format")) != FORMAT:
        is_later = isinstance(found, int) and found > FORMAT
        raise (OfNewerSoftware if is_later else Corrupt)(
            "a study manifest was written by newer software"
            if is_later
            else "a study manifest is of a format that this software does not know",
            hint="update the appliance",
        )
    return document


def _digits(root: RootKey, study_instance_uid: Uid) -> str:
    return hmac.new(root.derive("manifest"), study_instance_uid.encode(), hashlib.sha256).hexdigest()


def _context(of_name: str) -> bytes:
    return f"manifest:{of_name}".encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is no column of the catalog")
