"""How far the reading of everything again is (`appliance.lifecycle.scrub`), and what it has found: as it is kept between two slices."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from appliance.catalog import Reading, Transaction, settings
from appliance.model import ObjectId

STANDING: Final = "scrub.pass"
VERIFICATION: Final = "verification"
"""Where `health` looks for what was found damaged, in `appliance.catalog.settings`."""

MOST_LOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Pass:
    """How far a pass is: cursors are row ids; `repaired` are objects mended here, `copies` those mended on disks; `lost` are
    the objects that nobody has whole, `to_mend` those whose archive was away, `unasked` those that are not here and could not be asked
    for; at most `MOST_LOST` of each, and `passed` is how many more were not. Those of the second and the third are tried again in every slice. `asked`
    are those that some bucket has answered for."""

    begun_utc: str
    cursor: int = 0
    manifest_cursor: int = 0
    checked: int = 0
    repaired: int = 0
    manifests: int = 0
    rewritten: int = 0
    copies: int = 0
    lost: tuple[str, ...] = ()
    to_mend: tuple[str, ...] = ()
    asked: int = 0
    unasked: tuple[str, ...] = ()
    passed: int = 0

    def losing(self, object_id: ObjectId) -> Pass:
        """This with an object that nobody has whole."""
        if object_id in self.lost:
            return self
        return replace(self, lost=(*self.lost, object_id)[-MOST_LOST:])

    def waiting_for(self, object_id: ObjectId) -> Pass:
        """This with an object that is to be tried again: once, though a slice may meet it twice."""
        others = (each for each in self.to_mend if each != object_id)
        return replace(self, to_mend=(*others, object_id)[-MOST_LOST:])

    def without(self, object_ids: Collection[str]) -> Pass:
        """This, where these wait no more."""
        return replace(
            self,
            to_mend=tuple(each for each in self.to_mend if each not in object_ids),
            unasked=tuple(each for each in self.unasked if each not in object_ids),
        )


def standing(reading: Reading, now: datetime) -> Pass:
    """How far the pass is that is under way; where none is, one that begins `now`."""
    told = settings.get(reading, STANDING)
    if not isinstance(told, dict):
        return Pass(begun_utc=now.isoformat())
    known = {name: value for name, value in told.items() if name in Pass.__dataclass_fields__}
    lists = {name: tuple(known.get(name, ())) for name in ("lost", "to_mend", "unasked")}
    return Pass(**{**known, **lists})


def tell_health(tx: Transaction, found: Pass, now: datetime) -> None:
    """Write down what a pass has found damaged so far."""
    told = {
        "at_utc": now.isoformat(),
        "checked": found.checked,
        "damaged": len(found.lost) + len(found.to_mend),
    }
    settings.put(tx, VERIFICATION, told, now)
