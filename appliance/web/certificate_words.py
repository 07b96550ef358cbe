"""A certificate of destruction in the words of a language: the same for the page and for the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.catalog.columns import utc_moment
from appliance.web.language import Words

TONES = {"DONE": "good", "OWED": "wait", "LAID": "wait", "GIVEN_UP": "bad"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what it is about, what is said, and how good that is."""

    label: str
    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Lines that belong together."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class WordedCertificate:
    """The whole certificate. `verdict` says in a sentence whether everything is done."""

    title: str
    clinic: str
    made: str
    verdict: str
    verdict_tone: str
    sections: tuple[Section, ...]


def worded(told: Mapping[str, Any], fingerprint: str, words: Words, attached: str = "") -> WordedCertificate:
    """The certificate `told` (`appliance.lifecycle.certificate.document`) in the language of `words`.

    `attached` is the SHA-256, in hexadecimal, of the signed file that the paper holds; empty where there is none, as on the page.
    """
    waiting = [each for each in (told["this_box"], *told["archives"]) if each["state"] in ("OWED", "LAID")]
    left_out = told.get("left_out", ())  # a certificate of earlier software says nothing of it
    given_up = any(each["state"] == "GIVEN_UP" for each in told["archives"])
    if told["completed_utc"] is None or waiting:
        verdict, tone = words("destroyed.verdict.waiting", n=max(1, len(waiting))), "wait"
    elif given_up:
        verdict, tone = words("destroyed.verdict.given_up", at=_moment(told["completed_utc"], words)), "wait"
    elif left_out:
        verdict, tone = (
            words("destroyed.verdict.left_out", n=len(left_out), at=_moment(told["completed_utc"], words)),
            "wait",
        )
    else:
        verdict, tone = words("destroyed.verdict.done", at=_moment(told["completed_utc"], words)), "good"
    return WordedCertificate(
        title=words("destroyed.title", label=told["certificate"]),
        clinic=told["clinic"],
        made=words("destroyed.made", at=_moment(told["issued_utc"], words)),
        verdict=verdict,
        verdict_tone=tone,
        sections=(
            Section(words("destroyed.authority"), tuple(_authority(told["authority"], words))),
            Section(words("destroyed.what"), tuple(_studies(told, words))),
            Section(words("destroyed.where"), tuple(_places(told, words))),
            Section(words("destroyed.left"), tuple(_left(told, words))),
            Section(
                words("destroyed.check"),
                (
                    Line(words("destroyed.fingerprint"), fingerprint),
                    *_check(f"{told['certificate']}.json", attached, words),
                ),
            ),
        ),
    )


def _check(name: str, attached: str, words: Words) -> Iterator[Line]:
    if not attached:
        yield Line(words("destroyed.how"), words("destroyed.how_text"))
        return
    yield Line(words("destroyed.attached"), words("destroyed.attached_text", name=name, digest=attached))
    yield Line(words("destroyed.how"), words("destroyed.how_attached", name=name))


def _authority(authority: Mapping[str, Any], words: Words) -> Iterator[Line]:
    if label := authority.get("found_as"):
        values = {"archive": authority["found_in"], "at": _moment(authority["destroyed_utc"], words)}
        yield Line(words("destroyed.found"), words("destroyed.found_text", label=label, **values))
        return
    for who in ("asked", "approved"):
        by, at = authority[f"{who}_by"], authority[f"{who}_utc"]
        yield Line(words(f"destroyed.{who}"), words("destroyed.by_at", by=by, at=_moment(at, words)))
    yield Line(words("destroyed.request"), str(authority["request"]))


def _studies(told: Mapping[str, Any], words: Words) -> Iterator[Line]:
    yield from (_study(each, words) for each in told["studies"])
    yield from (_left_out(each, words) for each in told.get("left_out", ()))
    if unknown := told["authority"].get("unknown"):
        yield Line(words("destroyed.unknown"), words("destroyed.unknown_text", n=unknown))


def _study(each: Mapping[str, Any], words: Words) -> Line:
    first, last = each["received"]
    received = words.date(first.replace("-", ""))
    if last != first:
        received = words("destroyed.from_to", first=received, last=words.date(last.replace("-", "")))
    values = {
        "images": words("studies.images", n=each["images"]),
        "size": words.size(each["bytes"]),
        "received": received,
        "at": _moment(each["destroyed_utc"], words),
    }
    if before := each.get("destroyed_before_utc"):
        said = words("destroyed.study_found", before=_moment(before, words), **values)
    else:
        sources = "; ".join(
            dict.fromkeys(words.within(str(rule["source"] or rule["rule"])) for rule in each["rules"])
        )
        said = words("destroyed.study_text", year=each["kept_until_year"], sources=sources, **values)
    if each["kept_anonymous"]:
        kept = words("studies.images", n=each["kept_anonymous"])
        said += " " + words("destroyed.kept_anonymous", images=kept)
    return Line(words("destroyed.study", number=each["study"], digest=each["digest"][:16]), said)


def _left_out(each: Mapping[str, Any], words: Words) -> Line:
    why = words(f"destruction.because.{each['because']}")
    said = words("destroyed.left_out_text", because=why)
    return Line(words("destroyed.left_out", number=each["study"]), said, "wait")


def _places(told: Mapping[str, Any], words: Words) -> Iterator[Line]:
    state = told["this_box"]["state"]
    here = "destroyed.here.lines" if _holds_copies(told) else f"destroyed.here.{state}"
    if told["this_box"].get("waits_for") == "intake-log":
        here = "destroyed.here.log"
    elif told["this_box"].get("waits_for") == "set-aside":
        here = "destroyed.here.set_aside"
    yield Line(words("destroyed.this_box"), words(here), TONES[state])
    for each in told["archives"]:
        values = {"at": _moment(each["since_utc"], words), "n": each["older_backups"] or 0}
        said = words(f"destroyed.place.{each['state']}", **values)
        if each.get("has_moved"):  # a certificate of earlier software says nothing of this, nor of the other
            said = words("destroyed.place.MOVED", at=values["at"], where=each["where"])
        if why := each.get("waits_for"):
            waits = words("destroyed.place.waits_for", at=values["at"], why=words.cause(why))
            said = f"{said} {waits}" if each["state"] == "LAID" else waits
        yield Line(each["name"], said, TONES[each["state"]])


def _holds_copies(told: Mapping[str, Any]) -> bool:
    """Whether unused space of this box's index may hold copies; a certificate of earlier software says nothing of it."""
    return bool(told["this_box"].get("unused_space") == "may-hold-copies")


def _left(told: Mapping[str, Any], words: Words) -> Iterator[Line]:
    """What is not gone, or not yet: said plainly, since nobody else can say it."""
    clear: dict[str, int] = {}
    for each in told["studies"]:
        for name, count in each["given_in_clear"].items():
            clear[name] = clear.get(name, 0) + count
    for name, count in sorted(clear.items()):
        yield Line(name, words("destroyed.left.clear", n=count), "wait")
    if exports := sum(each["exports"] for each in told["studies"]):
        yield Line(words("destroyed.exports"), words("destroyed.left.exports", n=exports), "wait")
    if _holds_copies(told):
        yield Line(words("destroyed.this_box"), words("destroyed.left.unused_space"), "wait")
    for each in told["archives"]:
        if each["ciphertext_stays"]:
            yield Line(each["name"], words("destroyed.left.ciphertext"))
        if stay := each.get("backups_not_ours"):  # a certificate of earlier software says nothing of it
            yield Line(each["name"], words("destroyed.left.backups_not_ours", n=stay))
        if stay := each.get("backups_under_later_key"):
            yield Line(each["name"], words("destroyed.left.backups_under_later_key", n=stay), "bad")
        if said := _versions(each, words):
            yield said
    yield Line(words("destroyed.audit"), words("destroyed.left.audit"))


def _versions(each: Mapping[str, Any], words: Words) -> Line | None:
    """What an archive keeps of what was written over; a certificate of earlier software doesn't know whether it does."""
    left, until = each.get("versions", "not-told"), each["versions_until_utc"]
    if left == "for-ever":
        return Line(each["name"], words("destroyed.left.versions_for_ever"), "bad")
    if not until:
        return None
    key = "destroyed.left.versions_until" if left == "for-days" else "destroyed.left.versions"
    return Line(each["name"], words(key, at=_moment(until, words)))


def _moment(text: str | None, words: Words) -> str:
    return words.moment(utc_moment(text)) if text else ""
