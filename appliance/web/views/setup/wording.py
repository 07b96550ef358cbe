"""The report of setting up in one language: sections of lines, ready to print."""

from __future__ import annotations

from dataclasses import dataclass

from appliance import certificates
from appliance.web.language import Words
from appliance.wizard.checks import Finding
from appliance.wizard.report import Report
from appliance.wizard.runs import PartState
from appliance.wizard.steps import State


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report; `tone` is good, wait, bad or nothing."""

    label: str
    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under a title."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class WordedReport:
    """The whole paper. `verdict` says in a sentence what the test study proved."""

    title: str
    clinic: str
    made: str
    verdict: str
    verdict_tone: str
    sections: tuple[Section, ...]


_STATE_TONES = {State.DONE: "good", State.LATER: "wait", State.OPEN: "wait", State.LOCKED: ""}
_PART_TONES = {
    PartState.DONE: "good",
    PartState.FAILED: "bad",
    PartState.LEFT_OUT: "wait",
    PartState.RUNNING: "wait",
    PartState.WAITING: "",
}


def worded(report: Report, words: Words) -> WordedReport:
    """`report` in the language of `words`."""
    run = report.trial
    if run is None or not run.passed:
        verdict, tone = words("report.verdict.open"), "bad"
    elif any(each.state is PartState.LEFT_OUT for each in run.parts):
        verdict, tone = words("report.verdict.here_only"), "wait"
    else:
        verdict, tone = words("report.verdict.proved"), "good"
    sections = (
        Section(words("report.steps"), _steps(report, words)),
        Section(words("report.trial"), _trial(report, words)),
        Section(words("report.checks"), tuple(_finding(each, words) for each in report.findings)),
        Section(words("report.box"), _box(report, words)),
        Section(words("report.machines"), _machines(report, words)),
        Section(words("report.copies"), _copies(report)),
        Section(words("report.people"), _people(report, words)),
        Section(words("report.problems"), _problems(report, words)),
        Section(words("report.versions"), tuple(Line(name, version) for name, version in report.versions)),
    )
    return WordedReport(
        title=words("report.title"),
        clinic=str(report.clinic["name"]),
        made=words("report.made", at=words.moment(report.at_utc), who=report.who),
        verdict=verdict,
        verdict_tone=tone,
        sections=tuple(each for each in sections if each.lines),
    )


def _steps(report: Report, words: Words) -> tuple[Line, ...]:
    return tuple(
        Line(words(f"setup.{each.step}.title"), words(f"setup.state.{each.state}"), _STATE_TONES[each.state])
        for each in report.places
    )


def _trial(report: Report, words: Words) -> tuple[Line, ...]:
    if report.trial is None:
        return ()
    lines = []
    for each in report.trial.parts:
        if each.state is PartState.LEFT_OUT:
            text = words(f"left_out.{each.detail['reason']}")
        elif each.state is PartState.FAILED:
            text = words.cause(each.cause)
        else:
            text = words(f"part.state.{each.state}")
        at = f" · {words.moment(each.at_utc)}" if each.at_utc else ""
        lines.append(Line(words(f"part.{each.name}"), text + at, _PART_TONES[each.state]))
    if report.seen is not None:
        seen = words("trial.seen_by", who=report.seen.who, at=words.moment(report.seen.at_utc))
        lines.append(Line(words("report.looked"), seen, "good"))
    else:
        lines.append(Line(words("report.looked"), words("report.not_looked"), "wait"))
    return tuple(lines)


def _finding(found: Finding, words: Words) -> Line:
    return Line(words(f"check.{found.subject}"), finding_words(found, words), found.tone)


def finding_words(found: Finding, words: Words) -> str:
    """What a check found, in a sentence."""
    values = {
        name: words.size(value) if name in ("free", "size") and isinstance(value, int) else value
        for name, value in found.values.items()
    }
    return words(f"check.{found.code}", **values)


def _box(report: Report, words: Words) -> tuple[Line, ...]:
    lines = [
        Line(words("report.officer"), str(report.clinic["privacy_officer_name"])),
        Line("DICOM", words("report.dicom", ae_title=report.ae_title, port=str(report.dicom_port))),
        Line(
            words("setup.recovery.title"),
            words("report.key_confirmed" if report.recovery_confirmed == "yes" else "report.key_open"),
            "good" if report.recovery_confirmed == "yes" else "bad",
        ),
        Line(
            words("report.seal"),
            words(f"report.seal.{report.seal}"),
            "wait" if report.seal in {"host", "file"} else "",
        ),
    ]
    if (found := report.certificate) is not None:
        lines.append(Line(words("report.names"), ", ".join((*found.names, *found.addresses))))
        lines.append(Line(words("report.fingerprint"), certificates.in_words(found.fingerprint)))
        lines.append(Line("SHA-256", certificates.hexadecimal(found.fingerprint)))
        lines.append(Line(words("report.certificate_ends"), words.moment(found.server_ends_utc)))
    return tuple(lines)


def _machines(report: Report, words: Words) -> tuple[Line, ...]:
    lines = []
    for each in report.machines:
        device = each.device
        proofs = [
            words("machine.called", at=words.moment(each.called_us_utc))
            if each.called_us_utc
            else words("machine.not_called"),
        ]
        if each.call is not None:
            ms = each.call.ms
            proofs.append(
                words.cause(each.call.cause) if ms is None else words("machine.answered", ms=str(ms))
            )
        if each.image is not None:
            proofs.append(words("machine.image", at=words.moment(each.image.received_utc)))
        label = f"{device.name or device.ae_title} ({device.ae_title} {device.address})"
        tone = "good" if each.called_us_utc else "wait"
        lines.append(Line(label, " · ".join(proofs), tone))
    return tuple(lines)


def _copies(report: Report) -> tuple[Line, ...]:
    return tuple(
        Line(
            each.name,
            " · ".join(
                str(each.options[name])
                for name in ("bucket", "region", "endpoint_url", "ae_title", "address", "path")
                if name in each.options
            ),
        )
        for each in report.destinations
    )


def _people(report: Report, words: Words) -> tuple[Line, ...]:
    return tuple(Line(name, words(f"setup.role.{role}")) for name, role in report.people)


def _problems(report: Report, words: Words) -> tuple[Line, ...]:
    return tuple(Line(words.cause(what), words.cause(fix), "wait") for what, fix in report.problems)
