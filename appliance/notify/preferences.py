"""What a person wants to hear of, how, and when not. Pure.

Two rules stand above every choice: what is critical rings the bell, and no quiet hours hold it back. Quiet hours are of
the person's own time zone; what waits is sent when they end. A night that a change of clocks shortens or lengthens ends
at the hour that the wall clock shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from appliance import local_time
from appliance.errors import Refused
from appliance.notify.kinds import Channel, Severity, Topic

DIGEST_HOUR = 8
"""When the day's information is sent, by the clock of its reader."""

PERSONAL = (Channel.BELL, Channel.MAIL)
_ALL: Mapping[Topic, tuple[Channel, ...]] = MappingProxyType(dict.fromkeys(Topic, PERSONAL))
_BELL: Mapping[Topic, tuple[Channel, ...]] = MappingProxyType(dict.fromkeys(Topic, (Channel.BELL,)))


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From when to when nothing rings, hours of the wall clock; across midnight if `end` is the earlier."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> QuietHours | None:
        """``22:00-07:00``, or None for the empty text. Raises `Refused`."""
        if not text.strip():
            return None
        start, dash, end = text.replace("–", "-").partition("-")
        try:
            hours = cls(time.fromisoformat(start.strip()), time.fromisoformat(end.strip()))
        except ValueError as error:
            raise _not_hours() from error
        if not dash or hours.start == hours.end or hours.start.tzinfo or hours.end.tzinfo:
            raise _not_hours()
        return hours

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def holds(self, at: time) -> bool:
        """Whether it is quiet at that hour."""
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


def _not_hours() -> Refused:
    return Refused("those are not quiet hours", hint="write them as 22:00-07:00")


@dataclass(frozen=True, slots=True)
class Preferences:
    """One person's choices. `mail_address` is where e-mail goes, empty for nowhere; `time_zone` is an IANA name, empty
    for the box's own; `sound` and `desktop` are what an open console does besides showing a number.
    """

    channels: Mapping[Topic, tuple[Channel, ...]] = field(default_factory=lambda: _ALL)
    quiet: QuietHours | None = None
    time_zone: str = ""
    mail_address: str = ""
    sound: bool = False
    desktop: bool = False
    digest: bool = True

    def by(self, topic: Topic, severity: Severity) -> tuple[Channel, ...]:
        """The channels by which a notice reaches this person."""
        chosen = self.channels.get(topic, PERSONAL)
        if severity is Severity.CRITICAL and Channel.BELL not in chosen:
            return (Channel.BELL, *chosen)
        return chosen

    def zone(self) -> tzinfo | None:
        """The time zone: the person's, else the box's; None for the machine's."""
        return _zone(self.time_zone) if self.time_zone else local_time.zone()


def defaults(role: str, login: str) -> Preferences:
    """The choices of somebody who hasn't chosen: those who look after the box also get e-mail, if the login is one."""
    looks_after = role in ("owner", "privacy_officer", "technician")
    return Preferences(
        channels=_ALL if looks_after else _BELL, mail_address=login if is_mail_address(login) else ""
    )


def parse(value: Mapping[str, Any], fallback: Preferences) -> Preferences:
    """Choices from a form or the catalog; what is absent is as in `fallback`. Raises `Refused`."""
    address = str(value.get("mail_address", fallback.mail_address)).strip()
    if address and not is_mail_address(address):
        raise Refused(
            "that is not an e-mail address", hint="write it as name@example.ca", field="mail_address"
        )
    zone = str(value.get("time_zone", fallback.time_zone)).strip()
    if zone:
        _zone(zone)
    channels = dict(fallback.channels)
    given = value.get("channels", {})
    if not isinstance(given, Mapping):
        raise _not_choices()
    for topic, names in given.items():
        if (
            topic not in tuple(Topic)
            or not isinstance(names, list | tuple)
            or not set(names) <= set(PERSONAL)
        ):
            raise _not_choices()
        channels[Topic(topic)] = tuple(each for each in PERSONAL if each in names)
    quiet = value.get("quiet", str(fallback.quiet) if fallback.quiet else "")
    return Preferences(
        channels=MappingProxyType(channels),
        quiet=QuietHours.parse(str(quiet)),
        time_zone=zone,
        mail_address=address,
        sound=bool(value.get("sound", fallback.sound)),
        desktop=bool(value.get("desktop", fallback.desktop)),
        digest=bool(value.get("digest", fallback.digest)),
    )


def as_value(preferences: Preferences) -> dict[str, Any]:
    """What `parse` reads again, JSON-able."""
    return {
        "channels": {str(topic): list(names) for topic, names in preferences.channels.items()},
        "quiet": str(preferences.quiet) if preferences.quiet else "",
        "time_zone": preferences.time_zone,
        "mail_address": preferences.mail_address,
        "sound": preferences.sound,
        "desktop": preferences.desktop,
        "digest": preferences.digest,
    }


def quiet_until(quiet: QuietHours | None, zone: tzinfo | None, now: datetime) -> datetime | None:
    """When the quiet hours that hold at `now` end, in UTC; None if it isn't quiet."""
    if quiet is None:
        return None
    here = now.astimezone(zone)
    if not quiet.holds(here.time()):
        return None
    wall = datetime.combine(here.date(), quiet.end)
    if wall <= here.replace(tzinfo=None):
        wall += timedelta(days=1)
    ends = (wall.replace(tzinfo=zone) if zone is not None else wall).astimezone(UTC)
    return max(ends, now.astimezone(UTC))


def digest_is_due(zone: tzinfo | None, last_utc: datetime | None, now: datetime) -> bool:
    """Whether the day's information is to be sent: once a day of the reader's, after `DIGEST_HOUR`."""
    here = now.astimezone(zone)
    if here.hour < DIGEST_HOUR:
        return False
    return last_utc is None or last_utc.astimezone(zone).date() < here.date() or last_utc > now


def is_mail_address(text: str) -> bool:
    """Whether `text` is an address that this box would write to: plain characters, one at sign, a domain with a dot."""
    if len(text) > 254 or not text.isascii() or not text.isprintable():
        return False
    local, at, domain = text.partition("@")
    if not at or not local or len(local) > 64 or any(each in text for each in ' <>"(),:;[]\\'):
        return False
    labels = domain.split(".")
    return "@" not in domain and len(labels) >= 2 and all(labels) and ".." not in local


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError) as error:
        raise Refused("that is not a time zone", hint="use a name such as America/Toronto") from error


def _not_choices() -> Refused:
    return Refused("those are not choices that there are", hint="use the choices that the page offers")
