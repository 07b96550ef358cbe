"""Storage tiers in the console: how much is on this disk, how much in which class of the cloud, and an estimate of what that costs;
what would leave now and why the rest stays; and having it moved, let leave and brought home by hand.

What is begun here goes on in the background and shows how far it is; it leaves the same rows as what the box does by itself. A card
asks for itself anew while its work runs, and for nothing that costs a look at every receipt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.box import Box
from appliance.catalog import Reading, destinations, evictions, sight
from appliance.errors import Refused
from appliance.identity.permissions import Permission
from appliance.lifecycle import eviction, prices, storage, tagging, tier_rules
from appliance.lifecycle.prices import Price
from appliance.lifecycle.storage import Bucket
from appliance.lifecycle.storage_class import DEEP, Ages, Retrieval, class_of, hours_by
from appliance.lifecycle.tagging import Trouble
from appliance.lifecycle.tiers import Choices, Eviction, Pin, Plan, StudyFacts
from appliance.replication import recall
from appliance.web import access, forms, tier_acts
from appliance.web.access import needs
from appliance.web.background import in_background
from appliance.web.console import Notice, console, now
from appliance.web.disk_words import marks
from appliance.web.language import Words
from appliance.web.pages import Page, is_partial, page_of, show
from appliance.web.tier_acts import Asked, Hindrance, Name, TierAct
from appliance.web.tier_words import RulesNote, rules_note
from appliance.wizard import by_hand
from appliance.wizard.runs import UnderWay

blueprint = Blueprint("tiers", __name__, url_prefix="/tiers")

SHOWN: Final = 100
"""How many of the studies that would leave are shown."""
LOOKS_SECONDS: Final = 10.0
"""For how long studies are looked at before a person is answered."""


@dataclass(frozen=True, slots=True)
class PriceLine:
    """A class of storage; texts are ready to show."""

    name: str
    tier: str
    wait: str
    least: str
    keep: str
    read: str


@dataclass(frozen=True, slots=True)
class WayLine:
    """A way of fetching what lies in the deepest class: what it is called, how long it takes and what a gigabyte costs by it."""

    name: str
    wait: str
    read: str


@dataclass(frozen=True, slots=True)
class BucketLine:
    """A bucket: `parts` are tier and size, the costs an estimate."""

    name: str
    parts: tuple[tuple[str, str], ...]
    a_month: str
    reading_all: str


@dataclass(frozen=True, slots=True)
class TroubleLine:
    """A bucket that takes no tags: why, what a person does, and what becomes of its images."""

    title: str
    why: str
    fix: str
    meanwhile: str


@dataclass(frozen=True, slots=True)
class DiskCard:
    """What is on this disk: `here` and `away` are images with their size, `marks` its water marks; the acts that change it, of which one may be `watched`."""

    here: str
    away: str
    free: str
    marks: str
    choice: str
    acts: tuple[TierAct, ...]
    watched: bool


@dataclass(frozen=True, slots=True)
class CloudCard:
    """The days that the clinic chose, and telling the buckets, which may be `watched`."""

    ages: str
    acts: tuple[TierAct, ...]
    watched: bool


@dataclass(frozen=True, slots=True)
class CardPage(Page):
    """One card alone, while its work runs."""

    disk: DiskCard | None
    cloud: CloudCard | None


@dataclass(frozen=True, slots=True)
class TiersPage(Page):
    """How much is where, what moves it, and what that costs."""

    disk: DiskCard
    cloud: CloudCard
    retrieval: str
    ways: tuple[WayLine, ...]
    troubles: tuple[TroubleLine, ...]
    unruled: tuple[RulesNote, ...]
    buckets: tuple[BucketLine, ...]
    prices: tuple[PriceLine, ...]
    source: str


@dataclass(frozen=True, slots=True)
class LeavingLine:
    """A study that would leave; `is_open` if whoever looks may open it."""

    study: int
    name: str
    about: str
    images: str
    size: str
    touched: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class PlanPage(Page):
    """What would leave now, and how many studies stay for each reason. `hindrance` is why nothing leaves, if nothing does."""

    hindrance: Hindrance | None
    leaving: str
    wanted: str
    free: str
    short: str
    pins: tuple[tuple[str, str], ...]
    uncounted: str
    is_cut: bool
    lines: tuple[LeavingLine, ...]
    more: str
    act: TierAct


@blueprint.get("")
@needs(Permission.VIEW_HEALTH)
def page() -> Response:
    """How much is where, and what it costs; or one card of it alone, while its work runs."""
    words, part = g.words, forms.asked("part") if is_partial() else ""
    with console().box.catalog.reading() as conn:
        if part == "disk":
            return _card(disk=_disk(conn, storage.buckets))
        if part == "cloud":
            return _card(cloud=_cloud(conn))
        ages, found, how = storage.ages(conn), storage.buckets(conn), recall.retrieval(conn)
        disk, cloud = _disk(conn, lambda _: found), _cloud(conn)
        troubles = tagging.troubles(conn) if ages.steps else {}
        lacking = [(each.name, tier_rules.missing(conn, each)) for each in destinations.destinations(conn)]
    made = page_of(
        TiersPage,
        title=words("tiers.title"),
        section="backups",
        disk=disk,
        cloud=cloud,
        retrieval=words(f"setting.tiers.retrieval.{how}"),
        ways=tuple(_way(each, words) for each in Retrieval),
        troubles=tuple(_trouble(name, each, words) for name, each in troubles.items()),
        unruled=tuple(note for name, each in lacking if (note := rules_note(name, each, words))),
        buckets=tuple(_bucket(each, words) for each in found),
        prices=tuple(_price(each, words) for each in prices.PRICES),
        source=words("tiers.source", region=prices.REGION, currency=prices.CURRENCY, as_of=prices.AS_OF),
    )
    return show("tiers.html", made)


@blueprint.get("/plan")
@needs(Permission.MANAGE_BACKUPS)
def plan() -> Response:
    """What would leave now, and what keeps the rest. Nothing is changed by looking, and the audit says who looked at which studies."""
    box, words = console().box, g.words
    until, was_cut = time.monotonic() + LOOKS_SECONDS, False

    def keep_going() -> bool:
        nonlocal was_cut
        was_cut = time.monotonic() >= until
        return not was_cut

    found, space = eviction.planned(box, now(), keep_going=keep_going), box.guard.space()
    shown = found.leaving[:SHOWN]
    with box.catalog.transaction() as tx:
        seen = {"rows": len(found.leaving), "studies": [each.id for each in shown]}
        console().record(tx, "tiers:list", "console", forms.actor(), seen)
    with box.catalog.reading() as conn:
        asked, chosen = _asked(conn), eviction.choices(conn)
        hindrance, act = tier_acts.obstacle(asked), tier_acts.evict_act(asked)
        lines = tuple(_leaving(conn, each) for each in shown)
    rest = len(found.leaving) - len(shown)
    made = page_of(
        PlanPage,
        title=words("tiers.plan"),
        section="backups",
        hindrance=hindrance,
        leaving=_leaves(found, words),
        wanted=_wanted(found, chosen, words),
        free=words("tiers.free_of", free=words.size(space.free_bytes), total=words.size(space.total_bytes)),
        short=_short(found, chosen, words) if hindrance is None else "",
        pins=tuple((_pin(pin, chosen, words), words.number(n)) for pin, n in found.pinned.items() if n),
        uncounted=words("tiers.uncounted", n=chosen.keep_days),
        is_cut=was_cut,
        lines=lines,
        more=words("tiers.plan_more", n=rest) if rest else "",
        act=act,
    )
    return show("tiers-plan.html", made)


@blueprint.post("/evict")
@needs(Permission.MANAGE_BACKUPS)
def evict() -> AnyResponse:
    """Make room now."""
    return _start("evict", by_hand.begin_eviction)


@blueprint.post("/move")
@needs(Permission.MANAGE_BACKUPS)
def move() -> AnyResponse:
    """Tell the buckets now."""
    return _start("move", by_hand.begin_move)


@blueprint.post("/return")
@needs(Permission.MANAGE_BACKUPS)
def bring_back() -> AnyResponse:
    """Bring everything home."""
    return _start("return", by_hand.begin_return)


def _start(name: Name, begin: Callable[[Box, str], by_hand.Begun]) -> AnyResponse:
    """Put it on record as running, then leave it to a thread; the page shows how far it is, or why it could not be begun."""
    box, words = console().box, g.words
    with box.catalog.reading() as conn:
        act = tier_acts.act_of(name, _asked(conn))
    if act.hindrance is not None and act.progress.state != "running":
        forms.say(Notice("wait", act.hindrance.title, act.hindrance.text))
        return forms.back_to("/tiers")
    try:
        in_background("tiers-by-hand", begin(box, forms.actor()))
    except UnderWay:
        forms.say(Notice("wait", words("backups.running_already")))
    except Refused as error:
        forms.say_error(error)
    return forms.back_to("/tiers")


# --- the cards -------------------------------------------------------------------------------------------------------


def _asked(conn: Reading) -> Asked:
    return Asked(console().box, conn, now(), g.words)


def _card(disk: DiskCard | None = None, cloud: CloudCard | None = None) -> Response:
    part = page_of(CardPage, title=g.words("tiers.title"), section="backups", disk=disk, cloud=cloud)
    return show("parts/tiers-disk.html" if disk else "parts/tiers-cloud.html", part)


def _disk(conn: Reading, buckets: Callable[[Reading], list[Bucket]]) -> DiskCard:
    box, words, tally = console().box, g.words, evictions.tally(conn)
    asked, space = _asked(conn), box.guard.space()
    acts = (tier_acts.evict_act(asked), tier_acts.return_act(asked, buckets))
    return DiskCard(
        here=_counted(tally.here, tally.here_bytes, words),
        away=_counted(tally.away, tally.away_bytes, words),
        free=words("tiers.free_of", free=words.size(space.free_bytes), total=words.size(space.total_bytes)),
        marks=marks(box.guard.reserve_bytes, words),
        choice=words(f"setting.tiers.eviction.{eviction.choices(conn).eviction}"),
        acts=acts,
        watched=_watched(acts),
    )


def _cloud(conn: Reading) -> CloudCard:
    acts = (tier_acts.move_act(_asked(conn)),)
    return CloudCard(_ages(storage.ages(conn), g.words), acts, _watched(acts))


def _watched(acts: Sequence[TierAct]) -> bool:
    return any(each.progress.state == "running" for each in acts)


# --- what would leave ------------------------------------------------------------------------------------------------


def _leaves(found: Plan, words: Words) -> str:
    if not found.leaving:
        return words("tiers.leaves_none")
    images = words("studies.images", n=sum(each.here for each in found.leaving))
    return words("tiers.leaves", n=len(found.leaving), images=images, size=words.size(found.leaving_bytes))


def _wanted(found: Plan, chosen: Choices, words: Words) -> str:
    if chosen.eviction is Eviction.OFF:
        return words("tiers.wants_off")
    if found.wanted_bytes:
        return words("tiers.wants", size=words.size(found.wanted_bytes), percent=chosen.enough_percent)
    return words("tiers.wants_none", percent=chosen.low_percent)


def _short(found: Plan, chosen: Choices, words: Words) -> str:
    """That too much is pinned, or that nothing leaves since there is room enough; or nothing."""
    if found.is_short:
        return words("tiers.short")
    return words("tiers.roomy") if chosen.eviction is Eviction.WHEN_NEEDED and not found.wanted_bytes else ""


def _pin(pin: Pin, chosen: Choices, words: Words) -> str:
    figure = {
        Pin.RECENT: chosen.keep_days,
        Pin.USED: chosen.unused_days,
        Pin.NEWEST: chosen.newest_studies,
        Pin.COPIES: chosen.copies,
    }
    return words(f"tiers.pin.{pin}", n=figure.get(pin, 0))


def _leaving(conn: Reading, each: StudyFacts) -> LeavingLine:
    words, row = g.words, sight.study(conn, access.sight(), each.id)
    about = [] if row is None else [words.date(row.study_date), *map(words.modality, row.modalities)]
    return LeavingLine(
        study=each.id,
        name=words("tiers.study", number=str(each.id)) if row is None else words.person(row.patient_name),
        about=" · ".join(filter(None, about)),
        images=words("studies.images", n=each.here),
        size=words.size(each.here_bytes),
        touched=words.moment(each.touched_utc),
        is_open=row is not None,
    )


# --- how much is where -----------------------------------------------------------------------------------------------


def _counted(images: int, count: int, words: Words) -> str:
    return f"{words('studies.images', n=images)} · {words.size(count)}"


def _ages(ages: Ages, words: Words) -> str:
    steps = [words("tiers.step", tier=words(f"tiers.tier.{tier}"), n=days) for days, tier in ages.steps]
    return words.several(steps) if steps else words("tiers.never")


def _trouble(name: str, why: Trouble, words: Words) -> TroubleLine:
    title, meanwhile = (
        ("tiers.tagless", "tiers.tagless_text") if why.at else ("tiers.trouble", "tiers.trouble_text")
    )
    return TroubleLine(
        words(title, name=name), words.cause(why.message), words.cause(why.hint), words(meanwhile)
    )


def _bucket(each: Bucket, words: Words) -> BucketLine:
    return BucketLine(
        each.name,
        tuple(
            (words(f"tiers.tier.{class_of(name).tier}"), words.size(count))
            for name, count in each.bytes_by_class.items()
        ),
        _money(each.a_month, words),
        _money(each.reading_all, words),
    )


def _price(each: Price, words: Words) -> PriceLine:
    hours, least = each.storage.wait_hours, each.storage.least_days
    return PriceLine(
        each.storage.name,
        words(f"tiers.tier.{each.storage.tier}"),
        words("tiers.hours", n=hours) if hours else words("tiers.at_once"),
        words("tiers.days", n=least) if least else words("tiers.no_least"),
        words.decimal(each.keep),
        words.decimal(each.read),
    )


def _way(how: Retrieval, words: Words) -> WayLine:
    deepest = next(each for each in prices.PRICES if each.storage is DEEP)
    return WayLine(
        words(f"tiers.way.{how}"),
        words("tiers.hours", n=hours_by(how, DEEP.wait_hours)),
        _money(deepest.reading(how), words, digits=4),
    )


def _money(value: float, words: Words, digits: int = 2) -> str:
    return words("tiers.money", value=words.decimal(round(value, digits)), currency=prices.CURRENCY)
