"""A ring of boxes that is told together what is wanted, and looked at in rounds until each has it. For the side of whoever looks after them.

A box of a ring **waits** until it is heard and well, is told what is wanted, waits on until it has taken that, runs the version if one is
wanted, and is well, and is **done** then. Where one has **failed** for good the ring is over, so that nobody waits for what cannot come.

Each round looks at every box that waits, whatever the others do: one that is silent holds up nobody, and one that has failed is known in the
same round. Rejected: a task of Ansible for each box, with retries. It sleeps in one of five workers, so that five silent boxes let nobody
else be heard, the others wait one five after the other, and who has failed is named when the last one is over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import ApplianceError, Transient
from appliance.fleet import board, roll, wanted
from appliance.fleet.board import Board
from appliance.fleet.heartbeat import Heartbeat
from appliance.fleet.wanted import Wanted

HOLDS, RENEWED = timedelta(days=30), timedelta(days=24)
"""For how long what is wanted is signed; and what lies there already is left if it holds for so long, which is longer than a ring waits."""
_TRIAL = re.compile(r"[a-z]+\d+$")


class How(StrEnum):
    """How far a box of a ring is."""

    WAITS = "waits"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of each box of a ring. A box that is not well is told it if the version `mends` that."""

    software: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    mends: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a box was told: the number, its last heartbeat `before` it could know, and the first since, with which it `fetched` it."""

    number: int
    before: datetime
    fetched: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a box is, and `why`, as a clause behind its name. `is_changed` if something new was laid there for it."""

    how: How
    why: str
    told: Told | None = None
    is_changed: bool = False


class Ring:
    """The boxes of a ring, by name with the public key of each, and how far each is."""

    def __init__(
        self, keys: Mapping[str, str], wish: Wish, private: Ed25519PrivateKey, *, rehearses: bool = False
    ) -> None:
        """`private` is the vendor's key. One that `rehearses` lays nothing, and is done with a box that it would tell."""
        self.standings = dict.fromkeys(keys, Standing(How.WAITS, "was not looked at"))
        self._keys, self._wish, self._private, self._rehearses = keys, wish, private, rehearses

    @property
    def is_over(self) -> bool:
        """Whether all are done, or one has failed."""
        return self._has_failed or all(each.how is How.DONE for each in self.standings.values())

    @property
    def _has_failed(self) -> bool:
        return any(each.how is How.FAILED for each in self.standings.values())

    def look(self, there: Board, now: datetime) -> None:
        """One round: look at all that wait, then tell those that may be. Once one has failed nobody else is told anything."""
        found = {
            box: self._heard(there, box, now) for box, each in self.standings.items() if each.how is How.WAITS
        }
        for box, heard in found.items():
            self.standings[box] = self._judged(self.standings[box], heard)
        for box, heard in found.items():
            if self._has_failed:
                return
            if isinstance(heard, Heartbeat) and self.standings[box].told is None:
                self.standings[box] = self._tell(there, box, heard, now)

    def wait(
        self,
        there: Callable[[], Board],
        longest: timedelta,
        every: timedelta,
        *,
        say: Callable[[datetime, str, Standing], None],
        now: Callable[[], datetime],
        pause: Callable[[float], None],
    ) -> None:
        """Look in rounds until it is over, or `longest` is, which is the time of all boxes together, by the clock on the wall: what was signed
        holds by that. `there` opens the board for a round, `say` hears whenever a box is in another standing."""
        until = now() + longest
        while True:
            before, at = dict(self.standings), now()
            self.look(there(), at)
            left = until - now()
            if not self.is_over and left <= timedelta(0):
                self._close()
            for box, each in self.standings.items():
                if each.why != before[box].why:
                    say(at, box, each)
            if self.is_over:
                return
            pause(min(every, left).total_seconds())

    def _close(self) -> None:
        """The time is over: whoever still waits has failed."""
        for box, each in self.standings.items():
            if each.how is How.WAITS:
                why = f"{each.why}, and the time of its ring is over. Find out why, and play this again: it goes on where it is"
                self.standings[box] = replace(each, how=How.FAILED, why=why)

    def _heard(self, there: Board, box: str, now: datetime) -> Heartbeat | str:
        """Its last heartbeat, or why none counts."""
        try:
            data = there.read(f"{board.BOXES}{box}{board.SUFFIX}")
        except ApplianceError as error:
            return f"{error}"
        called = roll.call({box: self._keys[box]}, {box: data} if data else {}, now)
        return called.present[box] if box in called.present else str(called.refused[box])

    def _judged(self, standing: Standing, heard: Heartbeat | str) -> Standing:
        if isinstance(heard, str):
            return replace(standing, why=f"is not heard ({heard})")
        if standing.told is not None:
            return since(standing, standing.told, heard, self._wish)
        if why := unfit(heard, self._wish):
            return replace(standing, how=How.FAILED, why=why)
        return replace(standing, why="is well, and about to be told what is wanted")

    def _tell(self, there: Board, box: str, heard: Heartbeat, now: datetime) -> Standing:
        name = f"{board.WANTED}{box}{board.SUFFIX}"
        try:
            order, is_new, why = ordered(box, there.read(name), heard, self._wish, self._private, now)
            data = wanted.signed(order, self._private)
            if self._rehearses:
                return Standing(How.DONE, "would be told what is wanted", is_changed=is_new)
            if is_new:
                there.write(name, data)
        except Transient as error:
            return Standing(How.WAITS, f"could not be told what is wanted: {error}")
        except ApplianceError as error:
            return Standing(How.FAILED, f"is told nothing: {error}")
        # It may have sent one between those two moments, which says nothing of this yet.
        again = self._heard(there, box, now)
        last = again if isinstance(again, Heartbeat) else heard
        told = Told(order.number, before=last.sent_utc)
        standing = since(Standing(How.WAITS, why, told, is_new), told, last, self._wish)
        return replace(standing, why=why) if standing.how is How.WAITS else standing


def runs(heard: Heartbeat) -> str:
    """The version that counts: of an image it is the image's, which may be another than that of the software in it."""
    said = heard.document
    return str(said["software" if said["image"] == "none" else "image"])


def has(running: str, software: str) -> bool:
    """Whether `running` is `software` or later, by its numbers: a version to be tried (0.2.0rc1) is not yet the one of its name."""
    return running == software or wanted.is_older(software, _TRIAL.sub("", running))


def unfit(heard: Heartbeat, wish: Wish) -> str:
    """Why a box may not be told what is wanted; empty if it may."""
    if heard.document["state"] != "ready" and not (wish.mends and wish.software):
        remedy = ", or name it a version that does with -e fleet_mend=true" if wish.software else ""
        return f"is not ready: {_problems(heard)}. Mend it{remedy}"
    if wish.software and wanted.is_older(wish.software, runs(heard)):
        return f"runs {runs(heard)} already, and never goes back to {wish.software}. Name {runs(heard)}, or a newer version"
    return ""


def ordered(
    box: str, lying: bytes, heard: Heartbeat, wish: Wish, private: Ed25519PrivateKey, now: datetime
) -> tuple[Wanted, bool, str]:
    """What is laid for a box, whether that is new, and what is to be said of it. `lying` is what lies there: it is left if the same is
    wanted already and still holds for as long as a ring waits. Raises `Refused`."""
    before, replaces = None, ""
    if lying:
        try:
            before = wanted.opened(lying, private.public_key())
        except wanted.NotSigned:
            replaces = "; what lay there was not signed with this key, and is replaced"
    software = wish.software
    # Whoever chooses limits names no version: the one that holds a box back goes on holding it, unless the box has gone ahead of it.
    if not software and before is not None and before.software:
        software = wanted.later(before.software, runs(heard))
    if (
        before is not None
        and (before.software, dict(before.settings)) == (software, dict(wish.settings))
        and before.until_utc > now + RENEWED
    ):
        return before, False, f"was told already what is wanted (number {before.number})"
    number = max(before.number if before else 0, int(heard.document["wanted"]["number"])) + 1
    order = Wanted(box, number, now + HOLDS, software, wish.settings)
    return order, True, f"is told what is wanted (number {number}{replaces})"


def since(standing: Standing, told: Told, heard: Heartbeat, wish: Wish) -> Standing:
    """How far a box is that was `told` something, by a heartbeat of it.

    One that has refused what came before says so until it takes something. Its first heartbeat from then on fetches what is wanted; what the
    one after it says is of this. One that went beyond the version meanwhile, by a stick, has it too; one that tried it and went back by itself
    will not have it.
    """
    number, came = int(heard.document["wanted"]["number"]), heard.document["wanted"]["came"]
    if told.fetched is None and (heard.sent_utc != told.before or number >= told.number):
        told = replace(told, fetched=heard.sent_utc)
    standing, running = replace(standing, told=told), runs(heard)
    has_it = not wish.software or has(running, wish.software)
    if number < told.number and came == "refused" and told.fetched not in (None, heard.sent_utc):
        why = (
            f"refused what is wanted: its log says why. The version that it runs ({running}) may not know a setting or take its value, "
            f"or its clock is wrong (it was {heard.document['sent_utc']} when it said so)"
        )
        return replace(standing, how=How.FAILED, why=why)
    if number < told.number or came != "taken":
        return replace(standing, why="has not taken yet what is wanted")
    if not has_it and wish.software in heard.document["left"]:
        why = (
            f"tried version {wish.software}, which did not prove itself there, and has gone back to {running} by itself. "
            "It won't try it again: find out why, and name it the next version with -e fleet_mend=true"
        )
        return replace(standing, how=How.FAILED, why=why)
    if not has_it:
        return replace(standing, why=f"has taken what is wanted, and runs {running} still")
    if heard.document["state"] != "ready":
        return replace(standing, why=f"is not ready: {_problems(heard)}")
    return replace(standing, how=How.DONE, why="has what is wanted, and is well")


def _problems(heard: Heartbeat) -> str:
    return ", ".join(str(each["kind"]) for each in heard.document["problems"])
