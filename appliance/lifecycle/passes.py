"""How far the reading of everything again is (`appliance.lifecycle.scrub`), and what it has found: as it is kept between two slices.

What is damaged is told at any moment, though a pass takes ten days: what the pass before had found, or whoever has verified everything since,
counts until this one comes to it. Of each kind `MOST_LOST` are known by name, and of those beyond only how many they are: this pass takes one of
these off for each that it finds and does not know by name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from appliance.catalog import Reading, Transaction, instances, settings
from appliance.model import ObjectId

STANDING: Final = "scrub.pass"
FINISHED: Final = "scrub.finished"
VERIFICATION: Final = "verification"
"""Where `health` looks for what was found damaged, in `appliance.catalog.settings`."""

MOST_LOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Pass:
    """How far a pass is: cursors are row ids; `repaired` are objects mended here, `copies` those mended on disks; `lost` are
    the objects that nobody has whole, `to_mend` those whose archive was away, `unasked` those that are not here and could not be asked
    for; at most `MOST_LOST` of each, and `passed` is how many more were not, `more_lost` and `more_to_mend` of the others. Those of the second and the third are tried again in every slice. `asked`
    are those that some bucket has answered for. `lost_before`, and `more_before` beside them, were found by the pass before, or by whoever has
    `verified` everything at that moment of this pass, and this one has not come to them. `aside` are those of the
    images that are set aside which are damaged: the last that was found of them."""

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
    more_lost: int = 0
    more_to_mend: int = 0
    lost_before: tuple[str, ...] = ()
    more_before: int = 0
    verified: str = ""
    aside: tuple[str, ...] = ()

    @property
    def damaged(self) -> int:
        """How many objects are not whole, as far as is known."""
        named = {*self.lost, *self.to_mend, *self.lost_before, *self.aside}
        return len(named) + self.more_lost + self.more_to_mend + self.more_before

    def may_know(self, object_id: str) -> bool:
        """Whether an object was damaged when it was last read: where more are than are known by name, it may be one of those."""
        named = {*self.lost, *self.to_mend, *self.lost_before, *self.aside}
        return self.more_before > 0 or object_id in named

    def losing(self, object_id: ObjectId) -> Pass:
        """This with an object that nobody has whole."""
        if object_id in self.lost:
            return self
        found = self._found(object_id)
        found = replace(found, to_mend=_but(found.to_mend, (object_id,)))
        if len(found.lost) >= MOST_LOST:
            return replace(found, more_lost=found.more_lost + 1)
        return replace(found, lost=(*found.lost, object_id))

    def waiting_for(self, object_id: ObjectId) -> Pass:
        """This with an object that is to be tried again: once, though a slice may meet it twice."""
        found = self._found(object_id)
        others = _but(found.to_mend, (object_id,))
        if len(others) >= MOST_LOST:
            return replace(found, more_to_mend=found.more_to_mend + 1)
        return replace(found, to_mend=(*others, object_id))

    def past(self, object_id: str) -> Pass:
        """This, which has come to an object: what it is was found anew."""
        return replace(self, lost_before=_but(self.lost_before, (object_id,)))

    def trying_again(self, object_id: ObjectId) -> Pass:
        """This, while an object that it knows by name is tried again."""
        others = _but(self.lost_before, (object_id,))
        return replace(self.without((object_id,)), lost_before=(*others, object_id))

    def _found(self, object_id: str) -> Pass:
        """This with one that is damaged, known as that before or not."""
        if not self.more_before or object_id in {*self.lost, *self.to_mend, *self.lost_before}:
            return self.past(object_id)
        return replace(self, more_before=self.more_before - 1)

    def without(self, object_ids: Collection[str]) -> Pass:
        """This, where these wait no more."""
        return replace(self, to_mend=_but(self.to_mend, object_ids), unasked=_but(self.unasked, object_ids))

    def without_any(self, object_ids: Collection[str]) -> Pass:
        """This without objects that are nobody's any more: their studies were destroyed."""
        lost, before = _but(self.lost, object_ids), _but(self.lost_before, object_ids)
        return replace(self.without(object_ids), lost=lost, lost_before=before)

    def following(self, now: datetime) -> Pass:
        """The pass after this one, which has read everything: only what somebody found since it was past that may be left of what was before."""
        names = tuple(dict.fromkeys((*self.lost, *self.lost_before)))
        more = self.more_lost + self.more_to_mend + (self.more_before if self.verified else 0)
        return Pass(
            begun_utc=now.isoformat(),
            to_mend=self.to_mend,
            unasked=self.unasked,
            lost_before=names[:MOST_LOST],
            more_before=more + len(names[MOST_LOST:]),
            aside=self.aside,
        )

    def at_its_end(self) -> dict[str, Any]:
        """What it has come to, as it is kept."""
        return asdict(replace(self, lost_before=(), more_before=0))


def _but(names: Sequence[str], without: Collection[str]) -> tuple[str, ...]:
    return tuple(each for each in names if each not in without)


def standing(reading: Reading, now: datetime) -> Pass:
    """How far the pass is that is under way; where none is, one that begins `now`."""
    told = settings.get(reading, STANDING)
    if not isinstance(told, dict):
        told = {"begun_utc": now.isoformat()}
    known = {name: value for name, value in told.items() if name in Pass.__dataclass_fields__}
    lists = {
        name: tuple(known.get(name, ())) for name in ("lost", "to_mend", "unasked", "lost_before", "aside")
    }
    found = Pass(**{**known, **lists})
    return found if "lost_before" in told else _with_what_was_found_before(reading, found)


def _with_what_was_found_before(reading: Reading, found: Pass) -> Pass:
    """`found`, as earlier software kept it, with what that had found before and this pass has not come to: the names that the last pass had
    found lost are kept with its end, and of what a person found who verified everything, only how many they are."""
    told = settings.get(reading, FINISHED)
    last = told if isinstance(told, dict) else {}
    rows = {each: instances.row_of(reading, ObjectId(each)) for each in last.get("lost", ())}
    left = tuple(each for each, row in rows.items() if row is not None and row > found.cursor)
    found = replace(found, lost_before=left)
    said = settings.get(reading, VERIFICATION)
    if not isinstance(said, dict) or said.get("at_utc") == last.get("finished_utc", ""):  # the pass's own
        return found
    if (more := said["damaged"] - found.damaged) <= 0:
        return found
    return replace(found, more_before=more, verified=said.get("at_utc", ""))


def keep(tx: Transaction, found: Pass, begun: Pass, now: datetime) -> Pass:
    """Write down how far a pass is that a slice `begun` so, with what somebody has found meanwhile who verified everything; and tell health."""
    since = standing(tx, now)
    if since.verified != found.verified:
        found = _with_what_a_person_found(found, begun, since)
    settings.put(tx, STANDING, asdict(found), now)
    told = settings.get(tx, VERIFICATION)
    before = told if isinstance(told, dict) else {"checked": found.checked, "damaged": 0}
    if (found.damaged, len(found.aside)) != (before["damaged"], before.get("set_aside", 0)):
        at = {"at_utc": now.isoformat()} if found.damaged else {}
        fresh = {"damaged": found.damaged, "set_aside": len(found.aside)}
        settings.put(tx, VERIFICATION, {**before, **at, **fresh}, now)
    return found


def _with_what_a_person_found(found: Pass, begun: Pass, since: Pass) -> Pass:
    """What a slice that had `begun` so has `found`, where somebody verified everything `since`: what was found whole is lost no longer, and of what
    was lost, only what the slice itself has come to is added."""
    destroyed = set(begun.lost) - set(found.lost)
    fresh = _but(found.lost, {*begun.lost, *since.lost})
    lost = (*_but(since.lost, destroyed), *fresh)
    came = {*fresh, *found.to_mend}
    unnamed = came - {*since.lost, *since.to_mend, *since.lost_before}
    return replace(
        found,
        lost=lost,
        lost_before=_but(since.lost_before, {*lost, *came}),
        more_before=max(0, since.more_before - len(unnamed)),
        more_lost=0,
        more_to_mend=0,
        verified=since.verified,
        aside=since.aside,
    )


def end(tx: Transaction, found: Pass, now: datetime) -> None:
    """Write down that a pass has read everything, what it has found damaged, and that the next one begins."""
    following = found.following(now)
    settings.put(tx, STANDING, asdict(following), now)
    _tell(tx, found.checked, following, now)


def verified(
    tx: Transaction,
    checked: int,
    damaged: Collection[str],
    whole: Collection[str],
    now: datetime,
    *,
    aside: Sequence[str] = (),
) -> None:
    """Write down what somebody has found who has looked at everything here: so many objects, of which these are `damaged`; `whole` are those that
    were looked at of what the pass had found lost. `aside` are damaged of what is set aside."""
    before = standing(tx, now)
    lost = _but(before.lost, whole)
    names = _but(tuple(dict.fromkeys((*before.lost_before, *damaged))), {*whole, *lost, *before.to_mend})
    found = replace(
        before,
        lost=lost,
        lost_before=names[:MOST_LOST],
        more_before=len(names[MOST_LOST:]),
        more_lost=0,
        more_to_mend=0,
        verified=now.isoformat(),
        aside=tuple(aside),
    )
    if found.damaged or before.damaged:
        settings.put(tx, STANDING, asdict(found), now)
    _tell(tx, checked, found, now)


def _tell(tx: Transaction, checked: int, found: Pass, now: datetime) -> None:
    told = {"at_utc": now.isoformat(), "checked": checked, "damaged": found.damaged}
    settings.put(tx, VERIFICATION, {**told, "set_aside": len(found.aside)}, now)
