"""Languages, complete and alike; every key that is used is there, and none is there for nothing."""

import ast
import json
import re
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from appliance import audit
from appliance.backup.inventory import Proof as BackupProof
from appliance.catalog.errors import PASSES
from appliance.catalog.freezes import Why
from appliance.catalog.holds import HoldKind
from appliance.catalog.outbox import MessageState
from appliance.catalog.people import PersonState
from appliance.catalog.tombstones import PlaceState
from appliance.cli.command import parser
from appliance.health import Severity as Urgency
from appliance.health import Verb
from appliance.health.looks import OF_STICK, Came
from appliance.identity import Proof, Role
from appliance.identity.permissions import Permission
from appliance.imaging.darkroom import _REASONS
from appliance.latency import STAGES
from appliance.lifecycle.destruction import Because
from appliance.lifecycle.policy import Basis, Doubt, RecordType, Starts, Status, Told
from appliance.lifecycle.request import ItemState, Method
from appliance.lifecycle.request import State as RequestState
from appliance.lifecycle.storage_class import Retrieval, Tier
from appliance.lifecycle.tiers import Pin
from appliance.notify.hooks import FORMATS, HEARS
from appliance.notify.kinds import OF_ACCOUNTS, RULES, Channel, Severity, Topic
from appliance.notify.mail import LETTERS
from appliance.notify.smtp import Step
from appliance.notify.telling import LETTER_OF
from appliance.replication import burial
from appliance.replication.delivery import Event, State
from appliance.settings import SECTIONS as SETTING_SECTIONS
from appliance.settings import SETTINGS
from appliance.settings.registry import PROVINCES
from appliance.store.keys import Guard
from appliance.updates.history import Outcome as UpdateOutcome
from appliance.updates.night import Hold
from appliance.web import plan_words, problems
from appliance.web.console import web_ui
from appliance.web.language import NAMES, Languages, Words
from appliance.web.pages import SECTIONS
from appliance.web.sharing import TERMS
from appliance.web.trying import TOUR
from appliance.web.views import disk_pin, guard, performance, updates
from appliance.web.views.notices import STATES as NOTICE_STATES
from appliance.web.views.retention import WHEN
from appliance.wizard import by_hand, checks, copies, forecast, machines, restoring, trial
from appliance.wizard.runs import PartState
from appliance.wizard.steps import State as StepState
from appliance.wizard.steps import Step as SetupStep
from tests.web.translations import LANGUAGES, full, lacking, values_in

ROOT = Path(__file__).parents[2]
FRENCH, ENGLISH = LANGUAGES.words("fr"), LANGUAGES.words("en")

COMPUTED = (
    {f"state.{state}" for state in State}
    | {f"event.{event}" for event in (*Event, "owe")}
    | {f"tiers.tier.{each}" for each in Tier}
    | {f"tiers.way.{each}" for each in Retrieval}
    | {f"tiers.pin.{each}" for each in Pin}
    | {f"tiers.{part}{each}" for each in ("evict", "move", "return") for part in ("", "running.")}
    | {
        f"image.{reason}"
        for reason in (*_REASONS, "damaged", "missing", "in-archive", "away", "resting", "not-asked-for")
    }
    | {
        f"problem.{kind}.{part}"
        for kind in {kind for _, _, kind in problems.TABLE}
        | set(problems._BY_STATUS.values())
        | {"unexpected"}
        for part in ("title", "text")
    }
    | {f"delivery.{act}" for act in ("retry", "pause", "resume")}
    | {f"plan.{scenario}" for scenario in plan_words.SCENARIOS}
    | {f"plan.{scenario}.{step}" for scenario, steps in plan_words.STEPS.items() for step in steps}
    | {f"plan.{scenario}.{step}.typed" for scenario, step in plan_words.TYPED}
    | {f"plan.span.{unit}" for unit in ("seconds", "minutes", "hours", "days")}
    | {f"guard.why.{why}" for why in Why}
    | {f"guard.found.{name}" for name in guard.EVIDENCE}
    | {f"guard.first.{step}" for step in ("unplug", "leave", "call", "write", "mend", "release")}
    | {f"pin.state.{state}{part}" for state in disk_pin.TONES for part in ("", ".about")}
    | {f"pin.ended.{end}{part}" for end in disk_pin.ENDS for part in ("", ".about")}
    | {f"updates.{each}.pin" for each in ("state.waits", "start_question")}
    | {f"updates.state.{state}{part}" for state in updates.STATES for part in ("", ".about")}
    | {f"updates.moment.{hold}" for hold in ("free", *Hold)}
    | {f"updates.outcome.{each}{part}" for each in (updates.RUNS, *UpdateOutcome) for part in ("", ".about")}
    | {f"delivery.{act}_done" for act in ("retry", "pause", "resume", "cancel")}
    | {
        f"{kind}{part}"
        for kind in ("kind.s3", "kind.vault", "kind.sftp", "kind.smb", "kind.dicom", "kind.folder")
        for part in ("", "_text")
    }
    | {f"destinations.path_hint_{kind}" for kind in ("vault", "folder")}
    | {f"destinations.new_{kind}" for kind in ("s3", "vault", "sftp", "smb", "dicom", "folder")}
    | {f"nav.{name}" for name in SECTIONS}
    | {f"role.{role}{part}" for role in Role for part in ("", ".about")}
    | {f"permission.{each}" for each in Permission}
    | {f"user.state.{state}" for state in get_args(PersonState)}
    | {f"grant.term.{term}" for term in TERMS}
    | {f"period.{name}" for name in ("all", "today", "week", "month", "year")}
    | {f"stage.{number}" for number in range(1, 5)}
    | {f"settings.section.{section}" for section in SETTING_SECTIONS}
    | {f"configuration.{kind}" for kind in ("setting", "device", "destination", "rule")}
    | {f"setting.{key}{part}" for key in SETTINGS for part in ("", ".about")}
    | {each.sentence(word) for each in SETTINGS.values() for word in getattr(each.kind, "words", ())}
    | {f"notice.{kind}" for kind in (*RULES, *OF_ACCOUNTS)}
    | {f"severity.{severity}" for severity in Severity}
    | {f"event_of_notice.{event}" for event in (*LETTER_OF, "test", "line")}
    | {f"mail.{letter}.{part}" for letter in LETTERS for part in ("subject", "text", "action")}
    | {"mail.footer", "mail.ticket.footer"}
    | {f"ticket.{part}" for part in ("line", "phone", "version", "file", "file_kept")}
    | {f"notices.state_{state}" for state in NOTICE_STATES}
    | {f"notices.{name}" for name in ("arrived", "waiting", "failed")}
    | {f"topic.{topic}" for topic in Topic}
    | {f"channel.{channel}" for channel in Channel}
    | {f"message.{state}" for state in MessageState}
    | {f"hook_format.{form}" for form in FORMATS}
    | {f"hook_hears.{what}" for what in HEARS}
    | {f"mail_step.{step}" for step in Step}
    | {f"audit.kind.{kind}" for kind in audit.Kind}
    | {f"audit.outcome.{outcome}" for outcome in audit.Outcome}
    | {f"audit.actor.{kind}" for kind in audit.ActorKind}
    | {f"audit.report.{about}" for about in ("patient", "person", "year")}
    | {f"setup.{step}.{part}" for step in SetupStep for part in ("title", "why")}
    | {f"setup.state.{state}" for state in StepState}
    | {f"setup.role.{role}" for role in Role}
    | {
        f"part.{part}"
        for part in (*trial.PARTS, *chain(*copies.PARTS.values()), *restoring.LOOK_PARTS, *restoring.PARTS)
    }
    | {f"part.state.{state}" for state in PartState}
    | {f"backups.proof.{proof}" for proof in BackupProof}
    | {f"backups.running.{name}" for name in (by_hand.BACKUP, by_hand.DRILL, by_hand.VERIFY)}
    | {f"left_out.{reason}" for reason in ("no_destination", "no_bucket")}
    | {f"check.{code}" for code in checks.SUBJECTS}
    | {
        f"check.{code}{part}"
        for code, tone in checks.CODES.items()
        for part in ("", ".fix")[: 1 + (tone != "good")]
    }
    | {f"preset.{preset}{part}" for preset in machines.PRESETS for part in ("", ".about")}
    | {f"preset.{part}.{field}" for field in machines.FIELDS for part in ("field", "look")}
    | {f"province.{code}" for code in PROVINCES}
    | {f"storage.{kind}" for kind in forecast.BYTES}
    | {f"storage.basis.{basis}" for basis in forecast.Basis}
    | {f"report.seal.{kind}" for kind in get_args(Guard)}
    | {f"proof.{proof}" for proof in Proof}
    | {f"scope.{permission.replace(':', '.')}" for permission in Permission}
    | {f"tokens.state_{state}" for state in ("over", "removed")}
    | {f"tour.{name}{part}" for name, _ in TOUR for part in ("", "_text")}
    | {f"offline.check_{number}" for number in range(1, 4)}
    | {f"urgency.{each}" for each in Urgency}
    | {f"act.{verb}" for verb in Verb}
    | {f"performance.{stage}{part}" for stage in STAGES for part in ("", "_about")}
    | {f"performance.{period}" for period in performance.PERIODS}
    | {f"tone.{name}" for name in ("bone", "soft_tissue", "lung")}
    | {f"destruction.because.{each}" for each in Because}
    | {f"destruction.item.{each}" for each in (*ItemState, "would-leave")}
    | {f"destruction.method.{each}" for each in Method}
    | {f"destruction.state.{each}" for each in RequestState}
    | {f"hold.kind.{each}" for each in HoldKind}
    | {f"retention.basis.{each}" for each in Basis}
    | {f"retention.{part}.{each}" for each in Starts for part in ("counts", "starts")}
    | {f"retention.doubt.{each}" for each in Doubt}
    | {f"retention.records.{each}" for each in RecordType}
    | {f"retention.status.{each}" for each in Status}
    | {f"retention.entry.{each}" for each in Told}
    | {f"retention.entry.other.{each}" for each in Told if each is not Told.SEEN}
    | {f"updates.looked.{each}" for each in Came}
    | {f"updates.stick.{each}" for each in OF_STICK}
    | {f"updates.state.newest{each}" for each in (updates.NO_ADDRESS, updates.NAMED, updates.NAMED_BEFORE)}
    | {f"retention.state.{each}" for each in ("asked", "held")}
    | {f"retention.when.{each}" for each in WHEN}
    | {f"destroyed.place.{each}" for each in PlaceState}
    | {f"destroyed.here.{each}" for each in ("DONE", "OWED")}
    | {f"destroyed.{each}" for each in ("asked", "approved")}
)
OPEN_ENDED = (
    "modality.",
    "sex.",
    "side.",
    "process.",
    "audit.said.",
    "heartbeat.state.",
    "heartbeat.trouble.",
    "heartbeat.wanted.",
    "support.cut.",
    "support.ended.",
    "support.recording.",
    "support.scope.",
    "tiers.tagless",
    "tiers.trouble",
)
"""Prefixes for codes that come from elsewhere: shown as the code when there is no sentence."""


def used() -> set[str]:
    """Keys written out in templates and views."""
    keys = set(COMPUTED)
    for template in (ROOT / "web-ui" / "templates").rglob("*.html"):
        keys |= set(re.findall(r'\bt\("([a-z_]+(?:\.[a-z0-9_.-]+)?)"\s*[,)]', template.read_text("utf-8")))
    known = set(FRENCH.sentences)
    for module in (ROOT / "appliance" / "web").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if name in ("words", "t", "self") and isinstance(node.args[0].value, str):
                    keys.add(node.args[0].value)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known:
                keys.add(node.value)
    return {key for key in keys if "." in key or key == "product"}


@pytest.mark.parametrize("code", full())
def test_a_language_has_every_sentence_with_its_values_and_plural_forms(code: str) -> None:
    missing = used() - set(ENGLISH.sentences)
    assert not missing, f"en: {sorted(missing)}"
    assert not lacking(code), f"{code}: {lacking(code)}"


def test_a_language_says_nothing_that_english_does_not() -> None:
    for code in NAMES:
        idle = set(LANGUAGES.words(code).sentences) - set(ENGLISH.sentences)
        assert not idle, f"{code}: {sorted(idle)}"


def test_no_sentence_is_there_for_nothing() -> None:
    idle = {key for key in ENGLISH.sentences if key != "causes" and not key.startswith(OPEN_ENDED)} - used()
    assert not idle, sorted(idle)


def test_plural_forms_are_those_of_the_language() -> None:
    assert ENGLISH("studies.images", n=0) == "0 images"
    assert ENGLISH("studies.images", n=1) == "1 image"
    assert FRENCH("studies.images", n=0) == "0 image"
    assert FRENCH("studies.images", n=2) == "2 images"
    assert FRENCH("studies.images", n=12345) == "12\u00a0345 images"


def test_dates_times_sizes_and_numbers_are_written_as_here() -> None:
    assert FRENCH.date("20260301") == "1er\u00a0mars\u00a02026"
    assert ENGLISH.date("20260301") == "Mar\u00a01, 2026"
    assert FRENCH.time("091500.123") == "9\u00a0h\u00a015"
    assert ENGLISH.time("091500") == "09:15"
    assert FRENCH.size(1_600_000) == "1,6\u00a0Mo"
    assert ENGLISH.size(999) == "999\u00a0bytes"
    assert FRENCH.decimal(0.25) == "0,25"
    assert FRENCH.day_and_time("20260301", "0915") == "1er\u00a0mars\u00a02026, 9\u00a0h\u00a015"
    assert "2026" in FRENCH.moment(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize("recorded", ["", "2026", "99999999", "yesterday", "20261340"])
def test_what_is_no_date_is_shown_as_recorded(recorded: str) -> None:
    if recorded != "99999999":
        assert FRENCH.date(recorded) == recorded


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("CÔTÉ-LÉVESQUE^Hélène", "CÔTÉ-LÉVESQUE, Hélène"),
        ("Gagné^François^Xavier^Dr^PhD", "Gagné, François Xavier"),
        ("=山田^太郎", "山田, 太郎"),
        ("Zoé", "Zoé"),
        ("", "Sans nom"),
        ("^^", "Sans nom"),
    ],
)
def test_names_are_family_then_given(recorded: str, shown: str) -> None:
    assert FRENCH.person(recorded) == shown


@pytest.mark.parametrize(
    ("wishes", "accepted", "chosen"),
    [
        (("fr", None), "en", "fr"),
        ((None, "fr"), "en", "fr"),
        (("xx", None), "fr-CA,fr;q=0.8,en;q=0.5", "fr"),
        ((None, None), "en;q=0.1,fr;q=0.9", "fr"),
        ((None, None), "de,ja", "en"),
        ((None, None), "fr;q=x, ,;;", "en"),
        ((None, None), "", "en"),
    ],
)
def test_the_language_is_the_wish_then_the_browsers(wishes, accepted: str, chosen: str) -> None:
    assert Languages.choose(*wishes, accepted=accepted) == chosen


def test_our_own_errors_at_the_console_are_translated() -> None:
    causes = FRENCH.sentences["causes"]
    for module in [
        *(ROOT / "appliance" / "web").rglob("*.py"),
        *(ROOT / "appliance" / "identity").rglob("*.py"),
    ]:
        if module.parent.name == "api":
            continue  # the interface for programs speaks English
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if not (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") in ("Refused", "Unknown", "Transient")
            ):
                continue
            texts = [*node.args, *(each.value for each in node.keywords if each.arg == "hint")]
            for text in texts:
                if isinstance(text, ast.Constant) and module.name != "claim.py":
                    assert text.value in causes, f"{module.name}: {text.value!r}"


@pytest.mark.parametrize("code", [each for each in full() if each != "en"])
def test_what_a_destruction_waits_for_is_said_in_the_readers_words(code: str) -> None:
    reasons = {burial.LATER_PAPER, burial.LATER_SOFTWARE, burial.TAKING_IN}
    assert reasons <= set(LANGUAGES.words(code).sentences["causes"])


@pytest.mark.parametrize("code", [each for each in full() if each != "en"])
def test_what_to_do_about_a_busy_catalog_is_said_in_the_readers_words(code: str) -> None:
    assert PASSES in LANGUAGES.words(code).sentences["causes"]


def test_a_language_file_is_sorted_by_page_and_holds_no_markup() -> None:
    for code in NAMES:
        text = (web_ui() / "languages" / f"{code}.json").read_text("utf-8")
        assert "<" not in text
        assert json.loads(text)["product"]


def test_a_sentence_that_is_missing_is_an_error_and_not_a_blank() -> None:
    with pytest.raises(KeyError):
        Words("fr", {})("studies.title")


def test_a_cause_that_carries_a_value_keeps_it() -> None:
    assert FRENCH.cause("PANO1@10.0.0.5:104 cannot be reached (no route)") == (
        "PANO1@10.0.0.5:104 est injoignable (no route)"
    )
    assert FRENCH.cause("something nobody has translated") == "Something nobody has translated"
    for cause, said in FRENCH.sentences["causes"].items():
        assert values_in(said) <= values_in(cause), cause


def test_a_cause_within_a_cause_is_said_in_the_same_language() -> None:
    gone = "the key of the backup was destroyed"
    said = "la clé de la sauvegarde a été détruite"
    assert (
        FRENCH.cause(f"the last backup failed (usb: {gone})")
        == f"La dernière sauvegarde a échoué (usb: {said})"
    )
    assert FRENCH.cause(f"the last restore drill failed ({gone}; {gone})").endswith(f"({said}; {said})")
    away = "the last backup failed (b2: sending failed: the cloud storage does not answer (timed out))"
    assert "b2: " in FRENCH.cause(away)
    assert "the cloud storage" not in FRENCH.cause(away)
    assert FRENCH.cause("the last backup failed (usb: errno: 5)").endswith("(usb: errno: 5)")


@pytest.mark.parametrize("code", full())
def test_of_several_causes_that_fit_the_most_particular_is_said(code: str) -> None:
    words = LANGUAGES.words(code)
    for cause, said in words.sentences["causes"].items():
        values = dict.fromkeys(values_in(cause), "x1")
        expected = said.format(**values) if values else said
        found = words.cause(cause.format(**values) if values else cause)
        assert found == f"{expected[:1].upper()}{expected[1:]}", cause
    assert words.cause("the mail server mx.clinic.ca cannot be reached (no route)") != words.cause(
        "the mail server mx.clinic.ca cannot be reached (no route)".replace("the mail server ", "")
    )


@pytest.mark.parametrize("code", full())
def test_nobody_is_sent_to_a_command_line_from_a_page(code: str) -> None:
    """On the image nobody can log in: only what is marked as typed may name a command (`plan_words` shows it elsewhere)."""
    nouns = "|".join(parser().verbs.names())
    typed = re.compile(
        rf"\bappliance (?:{nouns})\b|\b(?:systemctl|journalctl|chmod|chown|sudo|ansible-playbook|make setup)\b"
    )
    causes = LANGUAGES.words(code).sentences["causes"]
    sentences = {
        key: said if isinstance(said, str) else " ".join(said.values())
        for key, said in LANGUAGES.words(code).sentences.items()
        if not key.endswith(".typed") and not key.startswith("audit.said.")
    }
    assert "plan.key.rotate" in sentences
    assert {key: said for key, said in sentences.items() if typed.search(said)} == {}
    named = [cause for cause in FRENCH.sentences["causes"] if typed.search(cause)]
    assert named
    assert [cause for cause in named if cause not in causes] == []


@pytest.mark.parametrize("code", ["en", "fr"])
def test_every_problem_of_an_unfinished_box_is_said_in_both_languages(code: str, data_dir: Path) -> None:
    from appliance import health
    from appliance.box import open_box
    from appliance.config import Config

    box = open_box(Config(data=data_dir))
    problems_found = health.status(box, datetime.now(UTC)).problems
    box.close()
    assert len(problems_found) >= 5
    for problem in problems_found:
        for text in (problem.words, problem.fix):
            said = LANGUAGES.words(code).cause(text)
            is_translated = code != "en" or "appliance " in text  # a page names no command
            assert (said.lower() != text.lower()) is is_translated, text
