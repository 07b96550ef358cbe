"""Sealed objects opened by Tink, and not by us: whoever has the root key needs nothing of this product."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from appliance.model import KeyId, Uid
from appliance.store.keys import RootKey
from appliance.store.study_keys import wrapping_context
from tests.store.test_envelope import tink_opens


def opened_by_tink(root: RootKey, study_key: Mapping[str, Any], object_id: str, sealed: bytes) -> bytes:
    """The Part 10 file in `sealed`; `study_key` is the row of a manifest that names its key."""
    context = wrapping_context(KeyId(study_key["id"]), Uid(study_key["study_instance_uid"]))
    key = root.unwrap(base64.b64decode(study_key["wrapped"]), context)
    return tink_opens(sealed, key, object_id.encode("ascii"))
