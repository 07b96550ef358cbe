"""The certificate of a restore drill in the words of a language, for the page and for the paper."""

from __future__ import annotations

from datetime import datetime

from appliance.backup.drill import Certificate
from appliance.web.certificate_words import Line, Section, WordedCertificate
from appliance.web.language import Words


def findings(found: Certificate, words: Words) -> tuple[str, ...]:
    """What was not as it should be, a sentence each."""
    return tuple(f"{words.cause(each)}." for each in found.findings)


def worded(found: Certificate, clinic: str, words: Words) -> WordedCertificate:
    """The whole certificate."""
    what = (
        Line(words("backups.archive"), found.archive),
        Line(words("backups.of"), words.moment(datetime.fromisoformat(found.made_utc))),
        Line(words("backups.name"), found.snapshot),
        Line(words("backups.remembers"), contents(found.studies, found.instances, words)),
    )
    tried: tuple[Line, ...] = (
        Line(words("backups.opened_in"), words.manner.span(found.catalog_seconds)),
        Line(
            words("backups.sampled"),
            words("backups.sampled_of", n=found.sampled, size=words.size(found.sampled_bytes)),
        ),
        Line(words("backups.sampled_in"), words.manner.span(found.sample_seconds)),
    )
    untried: tuple[Line, ...] = ()
    if found.sources:
        tried = (*tried, Line(words("backups.sources"), words.several(found.sources)))
    if found.ungiven:
        tried = (*tried, Line(words("backups.ungiven"), words.several(found.ungiven), "wait"))
    if found.resting:
        untried = (Line(words("backups.resting"), words("studies.images", n=found.resting)),)
    wrong = tuple(Line(words("backups.wrong"), each, "bad") for each in findings(found, words))
    return WordedCertificate(
        title=words("backups.certificate"),
        clinic=clinic,
        made=words.moment(datetime.fromisoformat(found.at_utc)),
        verdict=words("backups.passed_text" if found.passed else "backups.failed_text"),
        verdict_tone="good" if found.passed else "bad",
        sections=(
            Section(words("backups.what"), what),
            Section(words("backups.tried"), (*tried, *untried, *wrong)),
        ),
    )


def contents(studies: int, images: int, words: Words) -> str:
    """How much a backup remembers."""
    return f"{words('dashboard.studies', n=studies)}, {words('studies.images', n=images)}"
