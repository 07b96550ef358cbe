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
=============  =====================================================================================
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from appliance.catalog.columns import utc_text
from appliance.catalog.manifests import StudyRows
from appliance.errors import Corrupt
from appliance.model import Uid
from appliance.store.keys import RootKey

FORMAT: Final = 1
_LARGEST_BYTES: Final = 256 << 20


def key(root: RootKey, study_instance_uid: Uid) -> str:
    """Where the manifest of a study is in every bucket."""
    return f"manifests/{_digits(root, study_instance_uid)}.sealed"


def seal(root: RootKey, study_instance_uid: Uid, rows: StudyRows) -> bytes:
    """The document of a study."""
    text = json.dumps(
        {"format": FORMAT} | asdict(rows),
        default=_plain,
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    return root.seal(zlib.compress(text.encode(), 6), _context(_digits(root, study_instance_uid)))


def unseal(root: RootKey, name: str, sealed: bytes) -> dict[str, Any]:
    """The JSON of the document found under `name`, a key that `key` gave. Raises `Corrupt` if it isn't what was written."""
    digits = name.removeprefix("manifests/").removesuffix(".sealed")
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(root.unseal(sealed, _context(digits)), _LARGEST_BYTES)
        document: dict[str, Any] = json.loads(text)
    except (zlib.error, ValueError) as error:
        raise Corrupt("a study manifest is not what was written") from error
    if document.get("format") != FORMAT:
        raise Corrupt(
            "a study manifest is of a format that this software does not know", hint="update the appliance"
        )
    return document


def _digits(root: RootKey, study_instance_uid: Uid) -> str:
    return hmac.new(root.derive("manifest"), study_instance_uid.encode(), hashlib.sha256).hexdigest()


def _context(digits: str) -> bytes:
    return f"manifest:{digits}".encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is no column of the catalog")
