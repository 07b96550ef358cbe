"""The disaster recovery plan in the words of a language: the same for the page, the paper and the command line.

Every step names the button as it is on this box, and where the box has a command line the command too, with the box's own bucket
or folder in it, so that nobody has to work anything out on the worst day. On the image nobody can log in: there no step names one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote

from appliance.backup.disaster_plan import Place, Plan
from appliance.backup.drill import Certificate
from appliance.system import System
from appliance.web.certificate_words import Line, Section
from appliance.web.language import Words
from appliance.web.reach_words import reach_of

LATE = timedelta(days=8)
"""From when on the last drill or backup is called old."""

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
    """The whole paper. `verdict` says in a sentence whether the box could be brought back today."""

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
        Section(words("plan.last_drill"), tuple(_drill(plan, words))),
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
    backed_up = [each for each in plan.archives if each.backed_up_utc is not None]
    if not backed_up:
        return words("plan.verdict.no_backup"), "bad"
    if not plan.recovery_confirmed:
        return words("plan.verdict.no_key"), "bad"
    newest = backed_up[0]
    assert newest.backed_up_utc is not None
    if plan.at_utc - newest.backed_up_utc > LATE:
        return words("plan.verdict.old", at=words.moment(newest.backed_up_utc)), "wait"
    drill = plan.last_drill
    if drill is None or not drill.passed or plan.at_utc - datetime.fromisoformat(drill.at_utc) > LATE:
        return words("plan.verdict.untried"), "wait"
    return words("plan.verdict.ready", at=words.moment(datetime.fromisoformat(drill.at_utc))), "good"


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
        when = (
            words("plan.backed_up", at=words.moment(each.backed_up_utc))
            if each.backed_up_utc
            else words("plan.never_backed_up")
        )
        fresh = each.backed_up_utc is not None and plan.at_utc - each.backed_up_utc <= LATE
        yield Line(each.name, f"{_where(each)} · {when}", "good" if fresh else "wait")
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


def _drill(plan: Plan, words: Words) -> Iterator[Line]:
    last = plan.last_drill
    if last is None:
        yield Line(words("plan.drill"), words("plan.no_drill"), "wait")
        return
    yield Line(words("plan.drill"), _drilled(last, words), "good" if last.passed else "bad")
    if (found := plan.estimate) is None:
        return
    yield Line(words("plan.in_service"), span(found.in_service_seconds, words))
    if found.all_home_seconds is not None:
        yield Line(words("plan.all_home"), span(found.all_home_seconds, words))
    yield Line(words("plan.estimate"), words("plan.estimate_text"))


def _drilled(last: Certificate, words: Words) -> str:
    return words(
        "plan.drill_passed" if last.passed else "plan.drill_failed",
        at=words.moment(datetime.fromisoformat(last.at_utc)),
        archive=last.archive,
        studies=words("dashboard.studies", n=last.studies),
        images=words("studies.images", n=last.instances),
        catalog=span(last.catalog_seconds, words),
        sampled=words("studies.images", n=last.sampled),
        sample=span(last.sample_seconds, words),
    )


def span(seconds: float, words: Words) -> str:
    """A time span in the unit that a person would use, never too short: 50 s, 12 min, 3 h, 2 days."""
    for unit, each in (("seconds", 1), ("minutes", 60), ("hours", 3600)):
        count = max(1, -int(-seconds // each))
        if count <= (90 if unit != "hours" else 48):
            return words(f"plan.span.{unit}", n=count)
    return words("plan.span.days", n=max(1, -int(-seconds // 86_400)))


def _steps(plan: Plan, scenario: str, words: Words) -> Iterator[Line]:
    values = {
        "commands": _commands(plan),
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
        if plan.system is System.OPEN and (scenario, step) in TYPED:
            said = f"{said} {words(f'plan.{scenario}.{step}.typed', **values)}"
        yield Line(str(number), said)


def _commands(plan: Plan) -> str:
    """How the box is restored, from the best archive it has."""
    for each in plan.archives:
        if each.kind == "s3":
            endpoint = (
                f" --endpoint-url {quote(each.where['endpoint_url'])} --canadian"
                if "endpoint_url" in each.where
                else ""
            )
            return (
                f"appliance restore s3 --bucket {quote(each.where.get('bucket', 'B'))} --region {quote(each.where.get('region', 'R'))}"
                f"{endpoint} --access-key-id K"
            )
        if each.kind == "vault":
            return f"appliance restore folder --path {quote(each.where.get('path', 'P'))}"
        if each.kind == "sftp":
            return (
                f"appliance restore sftp --address {quote(each.where.get('address', 'A'))} --port {each.where.get('port', '22')} "
                f"--user {quote(each.where.get('user', 'U'))} --folder {quote(each.where.get('folder', 'D'))} "
                f"--fingerprint {each.where.get('host_key', 'F').rpartition(' ')[2]}"
            )
        if each.kind == "smb":
            folder = f" --folder {quote(each.where['folder'])}" if each.where.get("folder") else ""
            domain = f" --domain {quote(each.where['domain'])}" if each.where.get("domain") else ""
            return (
                f"appliance restore smb --address {quote(each.where.get('address', 'A'))} --port {each.where.get('port', '445')} "
                f"--share {quote(each.where.get('share', 'S'))}{folder} --user {quote(each.where.get('user', 'U'))}{domain}"
            )
    return "appliance restore folder --path P"  # where there is no archive yet: what it will look like


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
