"""The disaster recovery plan in the words of a language: the same for the page, the paper and the command line.

Every step names the button as it is on this box, and where the box has a command line the command too, with the box's own bucket
or folder in it, so that nobody has to work anything out on the worst day. On the image nobody can log in: there no step names one.

A step of restoring has a line for each archive that is in use, so that whoever stands there may take the one that is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote

from appliance.backup.disaster_plan import Place, Plan, Tried, elsewhere_first
from appliance.system import System
from appliance.web.certificate_words import Line, Section
from appliance.web.language import Words
from appliance.web.reach_words import reach_of
from appliance.web.work_words import sentences

LATE = timedelta(days=8)
"""From when on the last drill or backup is called old."""

RESTORE = "restore"
"""The step that says from where the box is restored."""

SCENARIOS = ("stolen", "disk", "ransomware", "offline", "key")
STEPS = {
    "stolen": ("call", "privacy", "blank", "restore", "rotate", "machines"),
    "disk": ("leave", "blank", "restore", "machines"),
    "ransomware": ("unplug", "look", "call", "mend", "release"),
    "offline": ("nothing", "look", "long", "after"),
    "key": ("works", "rotate", "check", "lost"),
}
"""The steps of each scenario, in order: ``plan.SCENARIO.STEP`` of the languages."""

TYPED = {
    ("stolen", "restore"),
    ("stolen", "rotate"),
    ("disk", "restore"),
    ("ransomware", "look"),
    ("ransomware", "release"),
    ("offline", "long"),
    ("key", "rotate"),
    ("key", "check"),
}
"""The steps that have a command, too: ``plan.SCENARIO.STEP.typed``."""


@dataclass(frozen=True, slots=True)
class WordedPlan:
    """The whole paper. `verdict` says whether the box could be brought back today; the text of a step may be of several lines."""

    title: str
    clinic: str
    made: str
    verdict: str
    verdict_tone: str
    sections: tuple[Section, ...]


def worded(plan: Plan, words: Words) -> WordedPlan:
    """`plan` in the language of `words`."""
    verdict, tone = _verdict(plan, words)
    sections = (
        Section(words("plan.whom"), tuple(_whom(plan, words))),
        Section(words("plan.copies"), tuple(_copies(plan, words))),
        Section(words("plan.last_drill"), tuple(_drills(plan, words))),
        *(Section(words(f"plan.{name}"), tuple(_steps(plan, name, words))) for name in SCENARIOS),
        Section(words("plan.box"), tuple(_box(plan, words))),
        Section(words("plan.machines"), tuple(_machines(plan))),
        Section(words("plan.others"), tuple(_others(plan))),
    )
    return WordedPlan(
        title=words("plan.title"),
        clinic=plan.people.get("clinic.name", ""),
        made=words("plan.made", at=words.moment(plan.at_utc), who=plan.who),
        verdict=verdict,
        verdict_tone=tone,
        sections=tuple(each for each in sections if each.lines),
    )


def _verdict(plan: Plan, words: Words) -> tuple[str, str]:
    backed_up = [each for each in plan.ways if each.backed_up_utc is not None]
    if not backed_up:
        return words("plan.verdict.no_backup"), "bad"
    if not plan.recovery_confirmed:
        return words("plan.verdict.no_key"), "bad"
    newest = backed_up[0]
    assert newest.backed_up_utc is not None
    if _is_late(plan, newest.backed_up_utc):
        return words("plan.verdict.old", at=words.moment(newest.backed_up_utc)), "wait"
    ready = [each for each in backed_up if _is_ready(plan, each)]
    if not ready:
        return words("plan.verdict.untried"), "wait"
    first = elsewhere_first(ready)[0]
    assert first.tried is not None
    said = [words("plan.verdict.ready", archive=first.name, at=words.moment(first.tried.at_utc))]
    if not first.is_elsewhere:
        said.append(words("plan.verdict.near"))
    if others := [each.name for each in backed_up if each not in ready]:
        said.append(words("plan.verdict.others", names=words.several(others)))
    return " ".join(said), "wait" if len(said) > 1 else "good"


def _is_ready(plan: Plan, place: Place) -> bool:
    """Whether an archive has both a backup and a drill that passed, of late."""
    if place.backed_up_utc is None or place.tried is None or not place.tried.passed:
        return False
    return not (_is_late(plan, place.backed_up_utc) or _is_late(plan, place.tried.at_utc))


def _is_late(plan: Plan, at: datetime) -> bool:
    return plan.at_utc - at > LATE


def _whom(plan: Plan, words: Words) -> Iterator[Line]:
    for key, label in (
        ("plan.phones", "plan.phones"),
        ("plan.key_holder", "plan.key_holder"),
        ("plan.place", "plan.place"),
        ("clinic.phone", "setting.clinic.phone"),
        ("clinic.address", "setting.clinic.address"),
        ("clinic.privacy_officer_name", "setting.clinic.privacy_officer_name"),
        ("clinic.privacy_officer_email", "setting.clinic.privacy_officer_email"),
    ):
        said = " · ".join(line.strip() for line in plan.people.get(key, "").splitlines() if line.strip())
        if said:
            yield Line(words(label), said)
        elif key.startswith("plan."):
            yield Line(words(label), words("plan.not_said"), "bad")


def _copies(plan: Plan, words: Words) -> Iterator[Line]:
    for each in plan.archives:
        fresh = each.backed_up_utc is not None and not _is_late(plan, each.backed_up_utc)
        yield Line(each.name, _told_of(each, words), "good" if fresh else "wait")
    if not plan.archives:
        yield Line(words("plan.copies"), words("plan.verdict.no_backup"), "bad")
    if (reach := reach_of(((each.name, each.kind) for each in plan.archives), words)) is not None:
        yield Line(words("reach.title"), reach.text, reach.tone)
    yield Line(
        words("setup.recovery.title"),
        words("report.key_confirmed" if plan.recovery_confirmed else "report.key_open"),
        "good" if plan.recovery_confirmed else "bad",
    )
    studies = words("dashboard.studies", n=plan.kept.studies)
    images = words("studies.images", n=plan.kept.instances)
    yield Line(words("plan.kept"), f"{studies}, {images}, {words.size(plan.kept.bytes)}")


def _told_of(archive: Place, words: Words) -> str:
    """Where an archive is, when it last took a backup, and whether it is paused."""
    when = (
        words("plan.backed_up", at=words.moment(archive.backed_up_utc))
        if archive.backed_up_utc
        else words("plan.never_backed_up")
    )
    return " · ".join((_where(archive), when, *([words("plan.paused")] if archive.paused else [])))


def _drills(plan: Plan, words: Words) -> Iterator[Line]:
    for each in elsewhere_first(plan.ways):
        label = words("plan.drill", archive=each.name)
        if each.tried is None:
            yield Line(label, words("plan.no_drill"), "wait")
        else:
            yield Line(label, _drilled(each.tried, words), "good" if each.tried.passed else "bad")
        if each.estimate is not None:
            yield Line(words("plan.index_back", archive=each.name), span(each.estimate.index_seconds, words))
        if home := _home(each, words):
            yield Line(words("plan.all_home", archive=each.name), home)
    if not plan.ways:
        yield Line(words("backups.archive"), words("plan.no_drill"), "wait")
    if any(each.estimate for each in plan.ways):
        yield Line(words("plan.estimate"), words("plan.estimate_text"))


def _home(archive: Place, words: Words) -> str:
    """How long it takes until all images are home, and how much of that what lies in deep archive; empty where neither is known."""
    found = archive.estimate
    home = span(found.all_home_seconds, words) if found and found.all_home_seconds is not None else ""
    if not archive.wait_hours:
        return home
    hours = words("plan.span.hours", n=archive.wait_hours)
    return (
        words("plan.home_waits", span=home, hours=hours) if home else words("plan.home_unknown", hours=hours)
    )


def _drilled(tried: Tried, words: Words) -> str:
    """How the latest drill of an archive went, and what was wrong."""
    if (found := tried.found) is None:
        key = "plan.drill_stopped" if tried.has_reached else "plan.drill_broken"
        said = words(key, at=words.moment(tried.at_utc))
    else:
        said = words(
            "plan.drill_passed" if found.passed else "plan.drill_failed",
            at=words.moment(tried.at_utc),
            studies=words("dashboard.studies", n=found.studies),
            images=words("studies.images", n=found.instances),
            catalog=span(found.catalog_seconds, words),
            sampled=words("studies.images", n=found.sampled),
            sample=span(found.sample_seconds, words),
        )
        if found.resting:
            said = words("plan.drill_resting", drill=said, images=words("studies.images", n=found.resting))
    why = sentences(words, *tried.reason.split("; "))
    return words("plan.drill_why", drill=said, why=why) if why else said


def span(seconds: float, words: Words) -> str:
    """A time span in the unit that a person would use, never too short: 50 s, 12 min, 3 h, 2 days."""
    for unit, each in (("seconds", 1), ("minutes", 60), ("hours", 3600)):
        count = max(1, -int(-seconds // each))
        if count <= (90 if unit != "hours" else 48):
            return words(f"plan.span.{unit}", n=count)
    return words("plan.span.days", n=max(1, -int(-seconds // 86_400)))


def _steps(plan: Plan, scenario: str, words: Words) -> Iterator[Line]:
    values = {
        "ae_title": plan.ae_title,
        "port": str(plan.dicom_port),
        "address": (*plan.addresses, "—")[0],
        "restore": words("welcome.restore"),
        "guard": words("guard.title"),
        "freeze": words("guard.freeze"),
        "release": words("guard.release"),
        "deliveries": words("nav.deliveries"),
        "backups": words("nav.backups"),
        "keys": words("root_key.keys"),
        "new_key": words("setup.key.new"),
        "sheet": words("setup.key.sheet"),
        "new_root": words("root_key.act"),
        "destinations": words("nav.destinations"),
        "add": words("destinations.add_title"),
        "holder": " ".join(plan.people.get("plan.key_holder", "").split()) or words("plan.not_said"),
    }
    for number, step in enumerate(STEPS[scenario], 1):
        said = words(f"plan.{scenario}.{step}", **values)
        if (scenario, step) == ("stolen", "call") and plan.seal in {"host", "file"}:
            said = f"{said} {words('plan.stolen.readable')}"
        if step == RESTORE:
            said = "\n".join((said, *_ways(plan, scenario, words)))
        elif plan.system is System.OPEN and (scenario, step) in TYPED:
            said = f"{said} {words(f'plan.{scenario}.{step}.typed', **values)}"
        yield Line(str(number), said)


def _ways(plan: Plan, scenario: str, words: Words) -> Iterator[str]:
    """From where the box is restored, a line for each archive; the last resort last."""
    is_lost = scenario == "stolen"  # and whatever stood beside it
    ways = elsewhere_first(plan.ways) if is_lost else plan.ways
    for each in ways:
        said = words(_way(each) if is_lost else "plan.way", archive=each.name, where=_told_of(each, words))
        yield said + _typed(plan, scenario, _command(each), words)
    if not ways:  # where there is no archive yet: what it will look like
        yield from filter(None, [_typed(plan, scenario, "appliance restore folder --path P", words).strip()])
    for each in plan.set_aside:
        yield words("plan.way.paused", archive=each.name, where=_told_of(each, words))
    if is_lost and ways and not any(each.is_elsewhere and each.backed_up_utc for each in plan.archives):
        yield words("plan.no_copy_elsewhere")


def _way(of: Place) -> str:
    """How an archive is named after a theft or a fire."""
    if of.is_elsewhere:
        return "plan.way"
    return "plan.way.perhaps" if of.may_be_elsewhere else "plan.way.near"


def _typed(plan: Plan, scenario: str, command: str, words: Words) -> str:
    """The sentence with `command`; empty where the box has no command line."""
    if plan.system is not System.OPEN:
        return ""
    return f" {words(f'plan.{scenario}.{RESTORE}.typed', command=command)}"


def _command(of: Place) -> str:
    """How the box is restored from an archive."""
    where = of.where
    if of.kind == "s3":
        endpoint = (
            f" --endpoint-url {quote(where['endpoint_url'])} --canadian" if "endpoint_url" in where else ""
        )
        return (
            f"appliance restore s3 --bucket {quote(where.get('bucket', 'B'))} --region {quote(where.get('region', 'R'))}"
            f"{endpoint} --access-key-id K"
        )
    if of.kind == "sftp":
        return (
            f"appliance restore sftp --address {quote(where.get('address', 'A'))} --port {where.get('port', '22')} "
            f"--user {quote(where.get('user', 'U'))} --folder {quote(where.get('folder', 'D'))} "
            f"--fingerprint {where.get('host_key', 'F').rpartition(' ')[2]}"
        )
    if of.kind == "smb":
        folder = f" --folder {quote(where['folder'])}" if where.get("folder") else ""
        domain = f" --domain {quote(where['domain'])}" if where.get("domain") else ""
        return (
            f"appliance restore smb --address {quote(where.get('address', 'A'))} --port {where.get('port', '445')} "
            f"--share {quote(where.get('share', 'S'))}{folder} --user {quote(where.get('user', 'U'))}{domain}"
        )
    return f"appliance restore folder --path {quote(where.get('path', 'P'))}"


def _box(plan: Plan, words: Words) -> Iterator[Line]:
    yield Line("DICOM", words("report.dicom", ae_title=plan.ae_title, port=str(plan.dicom_port)))
    if plan.names:
        yield Line(words("report.names"), ", ".join(plan.names))
    if plan.addresses:
        yield Line(words("plan.addresses"), ", ".join(plan.addresses))
    yield Line(words("plan.version"), plan.version)


def _machines(plan: Plan) -> Iterator[Line]:
    for each in plan.devices:
        at = f"{each.ae_title} · {each.address}" + (f":{each.port}" if each.port else "")
        yield Line(each.name or str(each.ae_title), at)


def _others(plan: Plan) -> Iterator[Line]:
    for each in plan.places:
        if not each.is_archive:
            yield Line(each.name, _where(each))


def _where(of: Place) -> str:
    return " · ".join((of.kind, *of.where.values()))
