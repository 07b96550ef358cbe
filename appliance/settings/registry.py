"""Every setting there is. A new one is a line here and its words in ``web-ui/languages`` (``setting.KEY``, and
``setting.KEY.about`` for the line below it); page, command line, interface and export then have it too.

`permission` is the word that whoever changes it must hold. `Careful.YES` marks what can shut people out or open the box:
the console asks for the password again first.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from appliance import age, local_time
from appliance.errors import Refused, Unknown
from appliance.lifecycle.storage_class import Ages, Retrieval, Tier
from appliance.settings.kinds import (
    Choice,
    Choices,
    Flag,
    HoursOfDay,
    Kind,
    Networks,
    OneNumber,
    Secret,
    Span,
    Text,
    WholeNumber,
    account,
    certificates,
    ed25519_key,
    email,
    host,
    outpost,
    ssh_key,
    storage,
)

PROVINCES = ("QC", "ON", "BC", "AB", "MB", "SK", "NS", "NB", "NL", "PE", "YT", "NT", "NU")


class Careful(Enum):
    """Whether changing a setting asks for the password again."""

    NO = "no"
    YES = "yes"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `key` is ``section.name``, `default` what holds until somebody chooses.

    A page says a word of a choice by the sentence ``WORDS.WORD``, where `words` is ``setting.KEY`` unless given.
    """

    key: str
    kind: Kind
    default: Any = ""
    permission: str = "settings:change"
    careful: Careful = Careful.NO
    words: str = ""

    @property
    def section(self) -> str:
        """The part of the key before the dot: the heading on the page."""
        return self.key.partition(".")[0]

    def sentence(self, word: str) -> str:
        """The key of the sentence that says `word` of a choice."""
        return f"{self.words or f'setting.{self.key}'}.{word}"

    @property
    def is_secret(self) -> bool:
        """Whether its value is never shown."""
        return isinstance(self.kind, Secret)


ROLES = (
    "owner", "privacy_officer", "practitioner", "assistant", "technician", "referrer", "student", "vendor_support",
)  # fmt: skip
"""The words of `appliance.identity.roles`, which stands above; a test holds the two together."""

LANGUAGES = ("en", "fr", "es", "zh")
"""The languages in which the whole console is offered (`appliance.web.manner`, which stands above); a test holds the
two together."""


DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
"""As `appliance.updates.night` counts them, which stands above; a test holds the two together."""

SUPPORT_PORTS = (22, 443)
"""At which ports the firewall lets the line of remote support out (``provisioning/roles/firewall``); a test holds the two together.
Another one that was chosen before counts on: a Debian may have been provisioned with rules that let it out."""

_ALL = (
    Setting("clinic.name", Text()),
    Setting("clinic.address", Text(500, lines=True)),
    Setting("clinic.phone", Text(40)),
    Setting("clinic.province", Choice(PROVINCES), "QC"),
    Setting(local_time.SETTING, Choice((local_time.MACHINE, *local_time.ZONES)), local_time.MACHINE),
    Setting("clinic.privacy_officer_name", Text()),
    Setting("clinic.privacy_officer_email", Text(254, shape=email)),
    Setting("plan.place", Text(500, lines=True)),
    Setting("plan.key_holder", Text(500, lines=True)),
    Setting("plan.phones", Text(1000, lines=True)),
    Setting("language.default", Choice(LANGUAGES), "en"),
    Setting("sessions.idle_minutes", Span(1, 12 * 60, unit="minutes"), 30, careful=Careful.YES),
    Setting("sessions.absolute_hours", Span(1, 7 * 24, unit="hours"), 12, careful=Careful.YES),
    Setting("sessions.concurrent", WholeNumber(1, 50), 5),
    Setting("access.allowed_addresses", Networks(), (), careful=Careful.YES),
    Setting(
        "access.second_factor_roles",
        Choices(ROLES),
        ("owner", "privacy_officer", "vendor_support"),
        careful=Careful.YES,
        words="role",
    ),
    Setting("mail.host", Text(253, shape=host)),
    Setting("mail.port", WholeNumber(1, 65535), 587),
    Setting("mail.security", Choice(("starttls", "tls", "none")), "starttls"),
    Setting("mail.user", Text()),
    Setting("mail.password", Secret()),
    Setting("mail.from", Text(254, shape=email)),
    Setting("mail.ca", Text(64_000, lines=True, shape=certificates)),
    Setting("notify.quiet_hours", HoursOfDay()),
    Setting("retention.practice", Choice(("both", "dental", "medical")), "both", careful=Careful.YES),
    Setting("backup.every_hours", Span(1, 7 * 24, unit="hours"), 24),
    Setting("backup.keep_days", Span(7, 3650, unit="days"), 35, careful=Careful.YES),
    Setting("tiers.eviction", Choice(("off", "when-needed", "by-age")), "off", careful=Careful.YES),
    Setting("tiers.keep_days", Span(30, 3650, unit="days"), 730, careful=Careful.YES),
    Setting("tiers.unused_days", Span(7, 3650, unit="days"), 180),
    Setting("tiers.newest_studies", WholeNumber(0, 50), 2),
    Setting("tiers.copies", WholeNumber(1, 5), 1, careful=Careful.YES),
    Setting("tiers.low_percent", WholeNumber(5, 90), 20),
    Setting("tiers.enough_percent", WholeNumber(6, 95), 30),
    Setting("tiers.warm_days", WholeNumber(0, 3650), 0),
    Setting("tiers.cold_days", WholeNumber(0, 3650), 0),
    Setting("tiers.deep_days", WholeNumber(0, 3650), 0, careful=Careful.YES),
    Setting("tiers.retrieval", Choice(tuple(Retrieval)), Retrieval.STANDARD),
    Setting("health.delivery_late_hours", Span(1, 7 * 24, unit="hours"), 1),
    Setting("health.delivery_urgent_days", Span(1, 60, unit="days"), 3),
    Setting("health.backup_late_days", Span(1, 60, unit="days"), 2),
    Setting("health.backup_urgent_days", Span(1, 180, unit="days"), 7),
    Setting("health.drill_late_days", Span(1, 8, unit="days"), 8),
    Setting("health.certificate_days", Span(7, 180, unit="days"), 30),
    Setting("health.disk_days", Span(7, 365, unit="days"), 30),
    Setting("health.device_silent_days", Span(1, 60, unit="days"), 2),
    Setting("health.failed_sign_ins", WholeNumber(3, 1000), 20),
    Setting("support.host", Text(253, shape=host), careful=Careful.YES),
    Setting("support.port", OneNumber(SUPPORT_PORTS), 22, careful=Careful.YES),
    Setting("support.user", Text(32, shape=account), careful=Careful.YES),
    Setting("support.host_key", Text(1000, shape=ssh_key), careful=Careful.YES),
    Setting("support.authority", Text(1000, shape=ssh_key), careful=Careful.YES),
    Setting("support.forward_port", WholeNumber(0, 65535), 0, careful=Careful.YES),
    Setting("support.mail", Text(254, shape=email), careful=Careful.YES),
    Setting("support.reader_key", Text(100, shape=age.checked), careful=Careful.YES),
    Setting("heartbeat.address", Text(500, shape=outpost), careful=Careful.YES),
    Setting("heartbeat.ca", Text(20_000, lines=True, shape=certificates), careful=Careful.YES),
    Setting("heartbeat.on_lan", Flag(), default=False, careful=Careful.YES),
    Setting("heartbeat.region", Text(32), "ca-central-1", careful=Careful.YES),
    Setting("heartbeat.endpoint_url", Text(500, shape=storage), careful=Careful.YES),
    Setting("heartbeat.access_key_id", Text(128), careful=Careful.YES),
    Setting("heartbeat.secret", Secret(), careful=Careful.YES),
    Setting("heartbeat.authority", Text(200, shape=ed25519_key), careful=Careful.YES),
    Setting("updates.window", HoursOfDay(least_minutes=30), "04:30-06:00"),
    Setting("updates.days", Choices(DAYS, least=1), DAYS, words="weekday"),
    Setting("syslog.host", Text(253, shape=host)),
    Setting("syslog.port", WholeNumber(1, 65535), 6514),
    Setting("syslog.ca", Text(20_000, lines=True, shape=certificates)),
    Setting("syslog.certificate", Text(20_000, lines=True, shape=certificates)),
    Setting("syslog.key", Secret(5000)),
    Setting("syslog.identified", Flag(), default=False, careful=Careful.YES),
)

SETTINGS: Mapping[str, Setting] = MappingProxyType({each.key: each for each in _ALL})
"""By key, in the order in which a page shows them."""

SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(each.section for each in _ALL))

Together = Callable[[Mapping[str, Any]], Mapping[str, Refused]]


def setting(key: str) -> Setting:
    """The setting of that key. Raises `Unknown` with the nearest right one."""
    try:
        return SETTINGS[key]
    except KeyError:
        raise unknown_key(key, SETTINGS) from None


def unknown_key(key: str, known: Iterable[str]) -> Unknown:
    """The refusal of a key that does not exist."""
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else "list the settings to see their names"
    return Unknown("there is no such setting", hint=hint)


# --- what must hold between several ----------------------------------------------------------------------------------


def _sessions(values: Mapping[str, Any]) -> Mapping[str, Refused]:
    if values["sessions.idle_minutes"] > 60 * values["sessions.absolute_hours"]:
        return {
            "sessions.idle_minutes": Refused(
                "a session would end before it could be idle that long",
                hint="make it shorter than the whole session",
            )
        }
    return {}


def _mail(values: Mapping[str, Any]) -> Mapping[str, Refused]:
    if values["mail.host"] and not values["mail.from"]:
        return {
            "mail.from": Refused("mail needs the address it comes from", hint="write it as name@clinic.ca")
        }
    return {}


def _health(values: Mapping[str, Any]) -> Mapping[str, Refused]:
    found: dict[str, Refused] = {}
    if 24 * values["health.delivery_urgent_days"] < values["health.delivery_late_hours"]:
        found["health.delivery_urgent_days"] = Refused(
            "a delivery would be urgent before it is late",
            hint="make it longer than the time until it is late",
        )
    if values["health.backup_urgent_days"] < values["health.backup_late_days"]:
        found["health.backup_urgent_days"] = Refused(
            "a backup would be urgent before it is late", hint="make it longer than the time until it is late"
        )
    if 24 * values["health.backup_late_days"] <= values["backup.every_hours"]:
        found["health.backup_late_days"] = Refused(
            "a backup would be late before the next one is due",
            hint="make it longer than the time between two backups",
        )
    return found


_TOO_SOON: Final = {
    Tier.WARM: Refused(
        "no image moves to the warm class before its 30th day", hint="choose 0 for never, or 30 or more"
    ),
    Tier.COLD: Refused(
        "an image moves to the cold class 30 days after the warm one at the earliest",
        hint="choose 0 for never, or a later day",
    ),
    Tier.DEEP: Refused(
        "an image moves into deep archive after half a year, 90 days after the cold class and 30 after the warm one at the earliest",
        hint="choose 0 for never, or a later day",
    ),
}


def _tiers(values: Mapping[str, Any]) -> Mapping[str, Refused]:
    trouble = Ages(*(values[f"tiers.{each}_days"] for each in ("warm", "cold", "deep"))).trouble()
    if trouble is not None:
        return {f"tiers.{trouble}_days": _TOO_SOON[trouble]}
    if values["tiers.enough_percent"] <= values["tiers.low_percent"]:
        return {
            "tiers.enough_percent": Refused(
                "making room would end before it begins",
                hint="make it larger than the share of free space at which it begins",
            )
        }
    return {}


def _heartbeat(values: Mapping[str, Any]) -> Mapping[str, Refused]:
    if values["heartbeat.endpoint_url"].startswith("http:") and not values["heartbeat.on_lan"]:
        return {
            "heartbeat.endpoint_url": Refused(
                "heartbeats that leave the clinic must be encrypted", hint="write the address with https://"
            )
        }
    return {}


TOGETHER: tuple[Together, ...] = (_sessions, _mail, _health, _tiers, _heartbeat)
"""Each is given the values of all settings but the secrets, as they would be, and names what it refuses by key."""
