"""The disaster recovery plan in the words of a language: the same for the page, the paper and the command line.

Every step names the button as it is on this box, and where the box has a command line the command too, with the box's own bucket
or folder in it, so that nobody has to work anything out on the worst day. On the image nobody can log in: there no step names one.

A step of restoring has a line for each archive with a copy, so that whoever stands there may take the one that is left, and calls it what the
page of restoring does. Where there is no copy it says that, and no command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote
from typing import Final

from appliance.backup.disaster_plan import Place, Plan, elsewhere_first
from appliance.model import DestinationKind
from appliance.system import System
from appliance.web.certificate_words import Line, Section
from appliance.web.language import Words
from appliance.web.reach_words import reach_of
from appliance.web.work_words import sentences

LATE = timedelta(days=8)
"""From when on the last drill or backup is called old."""

RESTORE = "restore"
"""The step that says from where the box is restored."""

CHOICES: Final[Mapping[DestinationKind, str]] = {
    "s3": "restore.bucket",
    "sftp": "restore.server",
    "smb": "restore.share",
    "vault": "restore.disk",
}
"""What is chosen for each kind of archive on the page of restoring."""

_PORTS: Final[Mapping[DestinationKind, str]] = {"sftp": "22", "smb": "445"}
"""What that page takes unless somebody says otherwise."""

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
        Section(words("plan.others"), tuple(_others(plan, words))),
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
    if not plan.ways and plan.written_down:
        most = elsewhere_first(plan.written_down)[0]
        studies = words("dashboard.studies", n=most.studies)
        return words("plan.verdict.studies", archive=most.name, studies=studies), "bad"
    if not plan.ways:
        return words("plan.verdict.no_backup"), "bad"
    if not plan.recovery_confirmed:
        return words("plan.verdict.no_key"), "bad"
    newest = plan.ways[0].backed_up_utc
    ready = [each for each in plan.ways if _is_ready(plan, each)]
    if ready:
        said = list(_ready(plan, ready, words))
    elif newest is not None and _is_late(plan, newest):
        said = [words("plan.verdict.old", at=words.moment(newest))]
    else:
        said = [words("plan.verdict.untried")]
    if lacking := [each.name for each in plan.archives if not (each.backed_up_utc or each.paused)]:
        said.append(words("plan.verdict.lacking", names=words.several(lacking)))
    return " ".join(said), "good" if ready and len(said) == 1 else "wait"


def _ready(plan: Plan, ready: list[Place], words: Words) -> Iterator[str]:
    """From where the box could be brought back, and what there is to be said against that."""
    away = [each for each in elsewhere_first(ready) if plan.are_elsewhere((each.name, *each.images_from))]
    first = (away or elsewhere_first(ready))[0]
    assert first.tried is not None
    yield words("plan.verdict.ready", archive=first.name, at=words.moment(first.tried.at_utc))
    if not first.is_elsewhere:
        yield words("plan.verdict.near")
    if first.images_from:
        key = "plan.verdict.images" if plan.are_elsewhere(first.images_from) else "plan.verdict.images_near"
        yield words(key, archive=first.name, sources=words.several(first.images_from))
    if others := [each.name for each in plan.ways if each not in ready]:
        yield words("plan.verdict.others", names=words.several(others))


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
        yield Line(each.name, " · ".join(_told_of(each, words)), "good" if fresh else "wait")
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


def _told_of(archive: Place, words: Words) -> Iterator[str]:
    """What kind of archive it is, where, by which key it is known, when it last took a backup, and whether it is paused."""
    yield from _where(archive, words)
    if archive.kind == "sftp" and (key := _fingerprint(archive)):
        yield words("plan.fingerprint", fingerprint=key)
    yield from _state(archive, words)


def _state(archive: Place, words: Words) -> Iterator[str]:
    """When an archive last took a backup, and whether it is paused."""
    if archive.backed_up_utc:
        yield words("plan.backed_up", at=words.moment(archive.backed_up_utc))
    else:
        yield words("plan.never_backed_up")
    if archive.paused:
        yield words("plan.paused")


def _drills(plan: Plan, words: Words) -> Iterator[Line]:
    aside = plan.set_aside
    shown = [each for each in plan.archives if each in plan.ways or not (each in aside or each.paused)]
    for each in elsewhere_first(shown):
        label = words("plan.drill", archive=each.name)
        if each.tried is None:
            yield Line(label, words("plan.no_drill"), "wait")
        else:
            yield Line(label, _drilled(each, words), "good" if each.tried.passed else "bad")
        if each.estimate is not None:
            yield Line(words("plan.index_back", archive=each.name), span(each.estimate.index_seconds, words))
        if home := _home(each, words):
            yield Line(_of_all_home(each, words), home)
    if not shown:
        yield Line(words("backups.archive"), words("plan.no_drill"), "wait")
    if any(each.estimate for each in shown):
        yield Line(words("plan.estimate"), words("plan.estimate_text"))


def _of_all_home(archive: Place, words: Words) -> str:
    """Of which archives it is said how long all images take."""
    if not archive.images_from:
        return words("plan.all_home", archive=archive.name)
    sources = words.several(archive.images_from)
    return words("plan.all_home_from", archive=archive.name, sources=sources)


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


def _drilled(archive: Place, words: Words) -> str:
    """How the latest drill of an archive went, and what was wrong."""
    tried = archive.tried
    assert tried is not None
    found = tried.found
    if found is None:
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
        if found.sources:
            sources = words.several(found.sources)
            said = words("plan.drill_sources", drill=said, archive=archive.name, sources=sources)
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
            ways = tuple(_ways(plan, scenario, words))
            said = "\n".join((said, *ways)) if ways else words("plan.no_copy")
        elif plan.system is System.OPEN and (scenario, step) in TYPED:
            said = f"{said} {words(f'plan.{scenario}.{step}.typed', **values)}"
        yield Line(str(number), said)


def _ways(plan: Plan, scenario: str, words: Words) -> Iterator[str]:
    """From where the box is restored, a line for each archive with a copy: those with a backup by its age, after a theft or a fire by where
    they are; then those with nothing but study manifests. Empty where there is no copy."""
    is_lost = scenario == "stolen"  # and whatever stood beside it
    ways = tuple(each for each in plan.archives if each.backed_up_utc)
    aside, alone = plan.set_aside, plan.written_down
    if is_lost:
        ways, alone = elsewhere_first(ways), elsewhere_first(alone)
    for each in (*ways, *alone):
        said = words(
            _way(each, is_lost=is_lost, is_aside=each in aside),
            archive=each.name,
            where=" · ".join(_chosen(each, words)),
            studies=words("dashboard.studies", n=each.studies),
        )
        yield said + _typed(plan, scenario, _command(each), words)
    if is_lost and (ways or alone) and not any(each.is_elsewhere for each in (*ways, *alone)):
        yield words("plan.no_copy_elsewhere")


def _way(of: Place, *, is_lost: bool, is_aside: bool) -> str:
    """How an archive is named; `is_lost` after a theft or a fire, `is_aside` where another in use has a newer backup."""
    if not of.backed_up_utc:
        return "plan.way.studies"
    if is_aside:
        return "plan.way.paused" if of.is_elsewhere or not is_lost else "plan.way.paused_near"
    if of.is_elsewhere or not is_lost:
        return "plan.way"
    return "plan.way.perhaps" if of.may_be_elsewhere else "plan.way.near"


def _chosen(of: Place, words: Words) -> Iterator[str]:
    """What is chosen and typed on the page of restoring, and how old the backup there is."""
    yield words("plan.choice", choice=words(CHOICES[of.kind]))
    yield from _address(of, words)
    yield from _state(of, words)


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
            f"--fingerprint {_fingerprint(of) or 'F'}"
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


def _others(plan: Plan, words: Words) -> Iterator[Line]:
    for each in plan.places:
        if not each.is_archive:
            yield Line(each.name, " · ".join(_where(each, words)))


def _where(of: Place, words: Words) -> Iterator[str]:
    """What kind of place it is, as the page of destinations calls it, and where."""
    yield words(f"kind.{of.kind}")
    yield from _address(of, words)


def _address(of: Place, words: Words) -> Iterator[str]:
    """What a person types to be there, but for the key by which a server is known, and a port that goes without saying."""
    for name, said in of.where.items():
        if name == "port":
            if said != _PORTS.get(of.kind):
                yield f"{words('devices.port')} {said}"
        elif name != "host_key":
            yield said


def _fingerprint(of: Place) -> str:
    """By which a file server is known; empty where it is no file server, or not known yet."""
    return of.where.get("host_key", "").rpartition(" ")[2]
