"""Versions of the box's own image: which runs, which waits and what for, what became of those before, and starting one at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from appliance.identity.permissions import Permission
from appliance.updates.history import Outcome
from appliance.updates.night import Hold
from appliance.web import updating
from appliance.web.api.operation import operation
from appliance.web.api.shape import Shape
from appliance.web.console import console


@dataclass(frozen=True, slots=True)
class Version:
    """What became of one version."""

    version: str
    outcome: Outcome
    since_utc: datetime
    came_utc: Annotated[datetime | None, Shape("Null if it was there when the box first looked.")]


@dataclass(frozen=True, slots=True)
class Updates:
    """Versions of the box's own image; a Debian that was provisioned has none, and takes its updates from elsewhere."""

    running: Annotated[str | None, Shape("The version of the image that runs; null on a provisioned Debian.")]
    waiting: Annotated[str | None, Shape("The version that starts in the window, or by a restart.")]
    held: Annotated[Hold | None, Shape("What the start of the version that waits would wait for now.")]
    named: Annotated[str | None, Shape("The one version that is taken, because the vendor has named it.")]
    waits_for_consent: Annotated[
        bool, Shape("No version is taken over the line before the clinic agrees to changed terms again.")
    ]
    window: Annotated[
        str,
        Shape(
            "The hours in which a version starts by itself, in the box's own time zone.",
            example="04:30-06:00",
        ),
    ]
    days: Annotated[tuple[str, ...], Shape("The days on which those begin.")]
    fetching_since_utc: Annotated[
        datetime | None, Shape("Since when a version is being looked for and fetched.")
    ]
    fetching_version: Annotated[
        str | None,
        Shape("The version that is being fetched; null until the box can tell how far it is, and elsewhere."),
    ]
    fetching_percent: Annotated[
        int | None, Shape("So much of it is there, at least; null as the version is.", least=0)
    ]
    fetching_size_bytes: Annotated[int | None, Shape("So long it is; null as the version is.", least=1)]
    chosen: Annotated[
        str | None,
        Shape("What somebody has chosen at the machine for every start: no newer version starts; else null."),
    ]
    left: Annotated[tuple[str, ...], Shape("Versions that were tried here and left again.")]
    history: Annotated[tuple[Version, ...], Shape("The latest first.")]


@dataclass(frozen=True, slots=True)
class Restart:
    """The version that starts now."""

    version: str


@operation("GET", "/updates", Permission.VIEW_HEALTH, gives=Updates)
def get_updates() -> Updates:
    """Get which version of the image runs, which waits and what for, and what became of each."""
    with console().box.catalog.reading() as conn:
        found = updating.standing(conn)
    fetch = found.fetch
    return Updates(
        running=found.running or None,
        waiting=found.waiting or None,
        held=found.hold,
        named=found.named or None,
        waits_for_consent=found.waits_for_consent,
        window=found.window.hours,
        days=found.window.days,
        fetching_since_utc=fetch.since_utc if fetch else None,
        fetching_version=fetch.version if fetch else None,
        fetching_percent=fetch.percent if fetch else None,
        fetching_size_bytes=fetch.size_bytes if fetch else None,
        chosen=found.chosen or None,
        left=found.seen.left if found.seen else (),
        history=tuple(
            Version(each.version, each.outcome, each.since_utc, each.came_utc) for each in found.past
        ),
    )


@operation(
    "POST",
    "/updates/restart",
    Permission.CHANGE_SETTINGS,
    gives=Restart,
    status=202,
    refuses=(422,),
    is_careful=True,
)
def restart_box() -> Restart:
    """Start the version that waits now, and not in the window; 422 if none waits, or while images are being received or a version is fetched."""
    return Restart(updating.restart())


OPERATIONS = (get_updates, restart_box)
