"""What a person may begin by hand on the page of the tiers: what follows from it, why it can't be begun now, how far the latest is.

Whether it may be begun is asked of the same modules as the command line and the API ask; nobody brings
home what this disk has no room for above its low water mark. What is estimated costs a look at every receipt,
so it is asked for only where it is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from appliance.box import Box
from appliance.catalog import Reading, destinations, evictions, tier_tags
from appliance.lifecycle import eviction, prices, returning, storage
from appliance.lifecycle.storage import Bucket
from appliance.lifecycle.storage_class import DEEP, hours_by
from appliance.lifecycle.tiers import Eviction
from appliance.replication import recall
from appliance.web.language import Words
from appliance.web.work_words import Progress, progress_of, sentences
from appliance.wizard import by_hand
from appliance.wizard.runs import Part, PartState

Name = Literal["evict", "move", "return"]
Tone = Literal["", "wait"]


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why something can't be begun now. `is_chosen` where the clinic's own settings are why."""

    tone: Tone
    title: str
    text: str = ""
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class TierAct:
    """Something to begin by hand; `follows` says what comes of it, and `question` asks before it is done."""

    name: Name
    follows: tuple[str, ...]
    question: str
    hindrance: Hindrance | None
    progress: Progress


@dataclass(frozen=True, slots=True)
class Asked:
    """What the acts are told of: the box, a look at its catalog, the hour, and the language of whoever reads."""

    box: Box
    conn: Reading
    now: datetime
    words: Words


def evict_act(asked: Asked) -> TierAct:
    """Making room now."""
    words = asked.words
    part = by_hand.latest(asked.box, asked.conn, by_hand.EVICT)
    return TierAct(
        "evict",
        (words("tiers.evict_text"), words("tiers.evict_back")),
        words("tiers.evict_question"),
        _stays(asked) or _obstacle(asked, "tiers.stays_now") or _busy(asked, by_hand.RETURN),
        _progress(part, "evict", words, _evicted),
    )


def return_act(asked: Asked, buckets: Callable[[Reading], list[Bucket]]) -> TierAct:
    """Bringing everything home. `buckets` says what lies in them, for the estimate."""
    words, conn = asked.words, asked.conn
    part = by_hand.latest(asked.box, conn, by_hand.RETURN)
    progress = _progress(part, "return", words, _returned)
    tally = evictions.tally(conn)
    away = f"{words('studies.images', n=tally.away)} · {words.size(tally.away_bytes)}"
    room = returning.room(asked.box, conn)
    hindrance = _busy(asked, by_hand.EVICT)
    if not tally.away:
        hindrance = Hindrance("", words("tiers.all_here"))
    elif tally.away_bytes > room:
        percent = eviction.choices(conn).low_percent
        text = words("tiers.no_room_text", away=away, room=words.size(room), percent=percent)
        hindrance = Hindrance("wait", words("tiers.no_room"), text)
    follows = [words("tiers.return_text", away=away)] if tally.away else []
    if hindrance is None and progress.state != "running":
        follows += _costs(asked, buckets(conn))
    if tally.away and (chosen := eviction.choices(conn)).eviction is not Eviction.OFF:
        follows.append(words("tiers.return_stay", n=chosen.unused_days))
    return TierAct("return", tuple(follows), words("tiers.return_question", away=away), hindrance, progress)


def move_act(asked: Asked) -> TierAct:
    """Telling the buckets."""
    words, conn = asked.words, asked.conn
    part = by_hand.latest(asked.box, conn, by_hand.MOVE)
    steps = storage.ages(conn).steps
    hindrance = _obstacle(asked, "tiers.moves_not_now")
    if not any(each.kind == "s3" for each in destinations.destinations(conn)):
        hindrance = Hindrance("", words("tiers.no_bucket"))
    elif not steps and not tier_tags.is_anything_low(conn):
        hindrance = Hindrance("", words("tiers.no_days"), is_chosen=True)
    follows = [words("tiers.move_text"), words("tiers.move_back")]
    if any(tier is DEEP.tier for _, tier in steps):
        follows.append(words("tiers.move_deep", n=DEEP.least_days))
    return TierAct(
        "move",
        tuple(follows),
        words("tiers.move_question"),
        hindrance,
        _progress(part, "move", words, _moved),
    )


def act_of(name: Name, asked: Asked) -> TierAct:
    """The act of that name, without what is estimated."""
    match name:
        case "evict":
            return evict_act(asked)
        case "move":
            return move_act(asked)
        case "return":
            return return_act(asked, lambda _: [])


# --- why not ---------------------------------------------------------------------------------------------------------


def _stays(asked: Asked) -> Hindrance | None:
    if eviction.choices(asked.conn).eviction is not Eviction.OFF:
        return None
    return Hindrance("", asked.words("tiers.stays"), is_chosen=True)


def _obstacle(asked: Asked, title: str) -> Hindrance | None:
    why = eviction.obstacle(asked.conn, asked.now)
    return Hindrance("wait", asked.words(title), sentences(asked.words, why)) if why else None


def obstacle(asked: Asked) -> Hindrance | None:
    """Why nothing may leave this disk, if nothing may."""
    return _stays(asked) or _obstacle(asked, "tiers.stays_now")


def _busy(asked: Asked, other: str) -> Hindrance | None:
    """Letting leave and bringing back wait for each other."""
    part = by_hand.latest(asked.box, asked.conn, other)
    if part is None or part.state not in (PartState.RUNNING, PartState.WAITING):
        return None
    return Hindrance("", asked.words("tiers.busy"))


# --- what follows, and what came of it -------------------------------------------------------------------------------


def _costs(asked: Asked, found: list[Bucket]) -> list[str]:
    """What reading everything costs by the chosen way, and how long what lies deepest takes."""
    if not found:
        return []
    words, how = asked.words, recall.retrieval(asked.conn)
    cost = words(
        "tiers.money",
        value=words.decimal(round(sum(each.reading_all for each in found), 2)),
        currency=prices.CURRENCY,
    )
    way = words(f"tiers.way.{how}")
    return [
        words("tiers.return_cost", cost=cost),
        words("tiers.return_deep", n=hours_by(how, DEEP.wait_hours), way=way),
    ]


def _progress(
    part: Part | None, name: Name, words: Words, done: Callable[[Part, str, Words], str]
) -> Progress:
    found = progress_of(part, f"tiers.running.{name}", words)
    if part is None:
        return found
    if found.state == "running" and (told := int(part.detail.get("studies", 0))):
        return replace(found, words=words("tiers.so_far", what=found.words, n=told))
    if found.state == "done":
        return replace(found, words=done(part, words.moment(part.at_utc), words))
    return found


def _evicted(part: Part, at: str, words: Words) -> str:
    left, kept = (int(part.detail.get(each, 0)) for each in ("studies", "kept"))
    size = words.size(int(part.detail.get("bytes", 0)))
    said = words("tiers.evicted", at=at, n=left, size=size) if left else words("tiers.evicted_none", at=at)
    return f"{said} {words('tiers.evicted_kept', n=kept)}" if kept else said


def _moved(part: Part, at: str, words: Words) -> str:
    told = int(part.detail.get("studies", 0))
    return words("tiers.moved", at=at, n=told) if told else words("tiers.moved_none", at=at)


def _returned(part: Part, at: str, words: Words) -> str:
    if left := str(part.detail.get(by_hand.LEFT, "")):
        why = sentences(words, left, str(part.detail.get(by_hand.LEFT_HINT, "")))
        return words("tiers.returned_left", at=at, why=why)
    return words("tiers.returned", at=at, n=int(part.detail.get("instances", 0)))
