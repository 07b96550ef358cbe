"""Reading every page of the catalog: it is copied, and the copy is checked.

What "repaired" means for the catalog. Chose to tell of damaged pages (`health`, the audit) and to restore the box from its newest
backup and the manifests of what came after: because a page put back from an older copy would be a catalog that never was, with
receipts and obligations of two moments. Rejected: to write single pages from a backup, and to let SQLite dump what it still can
read, which leaves rows out without a word.

The copy is encrypted under a key that nobody keeps: what a cut leaves of it opens with none, and is removed (`store.scratch`).
"""

from __future__ import annotations

import logging
import secrets

from appliance.box import Box
from appliance.catalog import copying
from appliance.errors import ApplianceError, Corrupt
from appliance.pace import Pace
from appliance.store import scratch

log = logging.getLogger(__name__)


def check(box: Box) -> tuple[str, str]:
    """What is wrong with the catalog's pages, in words, and why that can't be told; both empty when nothing is."""
    data = box.config.data.absolute()
    box.objects.forget_recalls()
    key = secrets.token_bytes(32)
    try:
        with scratch.place(data, scratch.PAGES) as path:
            box.guard.admit((data / "catalog.db").stat().st_size)
            copying.copy(box.catalog, path, key, lambda _: None, Pace().rest)
            copying.verify(path, key)
    except Corrupt as error:
        log.error("the catalog is damaged: %s", error.message)
        return error.message, ""
    except ApplianceError as error:
        log.warning("the catalog could not be checked: %s", error.message)
        return "", error.message
    return "", ""
