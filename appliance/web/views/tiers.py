"""Storage tiers in the console: how much is on this disk, how much in which class of the cloud, and an estimate of what that costs."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g

from appliance.catalog import destinations, evictions
from appliance.identity.permissions import Permission
from appliance.lifecycle import eviction, prices, storage, tagging, tier_rules
from appliance.lifecycle.prices import Price
from appliance.lifecycle.storage import Bucket
from appliance.lifecycle.storage_class import DEEP, Ages, Retrieval, class_of, hours_by
from appliance.lifecycle.tagging import Trouble
from appliance.replication import recall
from appliance.web.access import needs
from appliance.web.console import console
from appliance.web.language import Words
from appliance.web.pages import Page, page_of, show
from appliance.web.tier_words import RulesNote, rules_note

blueprint = Blueprint("tiers", __name__, url_prefix="/tiers")


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
class TiersPage(Page):
    """`here` and `away` are images with their size; `choice` and `ages` say what the clinic chose."""

    here: str
    away: str
    choice: str
    ages: str
    retrieval: str
    ways: tuple[WayLine, ...]
    troubles: tuple[TroubleLine, ...]
    unruled: tuple[RulesNote, ...]
    buckets: tuple[BucketLine, ...]
    prices: tuple[PriceLine, ...]
    source: str


@blueprint.get("")
@needs(Permission.VIEW_HEALTH)
def page() -> Response:
    """How much is where, and what it costs."""
    with console().box.catalog.reading() as conn:
        tally, chosen = evictions.tally(conn), eviction.choices(conn).eviction
        ages, found, how = storage.ages(conn), storage.buckets(conn), recall.retrieval(conn)
        troubles = tagging.troubles(conn) if ages.steps else {}
        lacking = [(each.name, tier_rules.missing(conn, each)) for each in destinations.destinations(conn)]
    words = g.words
    made = page_of(
        TiersPage,
        title=words("tiers.title"),
        section="backups",
        here=_counted(tally.here, tally.here_bytes, words),
        away=_counted(tally.away, tally.away_bytes, words),
        choice=words(f"setting.tiers.eviction.{chosen}"),
        ages=_ages(ages, words),
        retrieval=words(f"setting.tiers.retrieval.{how}"),
        ways=tuple(_way(each, words) for each in Retrieval),
        troubles=tuple(_trouble(name, each, words) for name, each in troubles.items()),
        unruled=tuple(note for name, each in lacking if (note := rules_note(name, each, words))),
        buckets=tuple(_bucket(each, words) for each in found),
        prices=tuple(_price(each, words) for each in prices.PRICES),
        source=words("tiers.source", region=prices.REGION, currency=prices.CURRENCY, as_of=prices.AS_OF),
    )
    return show("tiers.html", made)


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
