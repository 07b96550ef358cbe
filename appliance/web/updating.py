"""Versions of the box's own image, as the page of updates and the interface tell of them, and starting the one that waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance.catalog import Reading
from appliance.fleet import taking
from appliance.health import gathering, kernel_clock
from appliance.health.attempts import moment
from appliance.health.checks.updates import UNTOLD
from appliance.health.looks import Came, Looked
from appliance.updates import machine, noting, restarting
from appliance.updates.history import Seen, Update
from appliance.updates.night import Hold, Window
from appliance.updates.noting import Fetch
from appliance.web import forms
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class Standing:
    """What the image says, and what holds it.

    `seen` is None on a Debian that was provisioned, whose `running` is empty, and before the image has said it at this start. `is_untold`
    is whether it should have said it long since. `hold` is what a restart would wait for now. `takes` is as `taking.held_to` gives it,
    `named_utc` since when the vendor names that version, None where that isn't known. `past` is the latest first. `window` is when a
    version may start by itself. `fetch` is None while none is fetched. `looked` is the last look for one, `stick` what
    came of the last that was put in, and when.
    """

    running: str
    seen: Seen | None
    is_untold: bool
    hold: Hold | None
    takes: str
    named_utc: datetime | None
    past: tuple[Update, ...]
    window: Window
    fetch: Fetch | None
    looked: Looked | None
    stick: tuple[datetime, Came] | None

    @property
    def waiting(self) -> str:
        """The version that waits for its start; empty if none does."""
        return self.seen.waiting[0] if self.seen and self.seen.waiting else ""

    @property
    def chosen(self) -> str:
        """What the firmware keeps for every start; empty if nothing."""
        return self.seen.chosen if self.seen else ""

    @property
    def waits_for_consent(self) -> bool:
        """Whether no version is taken over the line, because the terms that the clinic agreed to were changed since."""
        return self.takes == taking.NO_VERSION

    @property
    def named(self) -> str:
        """The one version that is taken, because the vendor has named it; empty if it is the newest, or none."""
        return "" if self.waits_for_consent else self.takes


def standing(conn: Reading) -> Standing:
    """How it stands at this moment."""
    seen, on = noting.seen(), kernel_clock.running()
    return Standing(
        running=seen.running if seen else gathering.running_version(),
        seen=seen,
        is_untold=seen is None and on is not None and on.lasted >= UNTOLD,
        hold=machine.doing(conn, now()).hold if seen and seen.waiting else None,
        takes=taking.held_to(conn),
        named_utc=moment(taking.standing(conn).named_utc),
        past=noting.history(conn),
        window=machine.window(conn),
        fetch=noting.fetching(now()),
        looked=noting.looked(conn),
        stick=noting.stick(),
    )


def restart() -> str:
    """Let the machine start again, for whoever asks; gives the version that starts.

    Raises `Refused` if none waits, another is being fetched or images are being received, `OperatorNeeded` if it cannot be asked for.
    """
    box = console().box
    with box.catalog.transaction() as tx:
        version = restarting.check(tx, now())
        console().record(tx, "update:restart", version, forms.actor())
    restarting.ask(box)
    return version
