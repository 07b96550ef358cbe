"""What somebody new tries first: the guided tour, once a person, and the sample study, for as long as it is wanted.

The sample is the wizard's test image, imported like any file: sealed, recorded, delivered as the rules say. Taking it
from view takes nothing from the store: it is no patient's, and what a box has received it keeps until its retention
ends. Hidden is a study by its own UID, never by the patient's ID: a real image that somebody took under the test
patient's ID must stay in sight.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime

from appliance import local_time
from appliance.box import Box
from appliance.catalog import Reading, Transaction, settings, sight
from appliance.catalog.sight import Sight, StudyRow
from appliance.dicom.part10 import file_head
from appliance.ingest import import_file
from appliance.model import Intake, Origin, Uid
from appliance.wizard.sample import PATIENT_ID, SOP_CLASS, TRANSFER_SYNTAX, Sample, new_sample

TOUR = (
    ("studies", ".side a[href='/studies']"),
    ("search", "[data-search]"),
    ("row", ".study"),
    ("languages", ".languages"),
    ("help", ".help-mark"),
)
"""The stops of the tour: the name of their sentences, and what they point at. A stop whose thing is not on the page is
left out by the script."""

_SAMPLES = "samples-shown"
_HIDDEN = "samples-hidden"


@dataclass(frozen=True, slots=True)
class Trying:
    """What a list of studies must know: the samples in view, those taken from it, and whether the reader is new."""

    samples: frozenset[str]
    hidden: frozenset[str]
    is_new: bool


def trying_of(reading: Reading, person_id: int) -> Trying:
    """All of it, read at once."""
    kept = settings.several(reading, (_SAMPLES, _HIDDEN, _toured(person_id)))
    gone = frozenset(kept.get(_HIDDEN, ()))
    return Trying(frozenset(kept.get(_SAMPLES, ())) - gone, gone, _toured(person_id) not in kept)


def _toured(person_id: int) -> str:
    return f"toured:{person_id}"


def toured(tx: Transaction, person_id: int, now: datetime) -> None:
    """The tour is not offered to this person again."""
    settings.put(tx, _toured(person_id), now.isoformat(), now)


def load(box: Box, now: datetime) -> Sample:
    """Import a sample study made at `now`."""
    here = local_time.here(now)
    sample = new_sample(here.strftime("%Y%m%d"), here.strftime("%H%M%S"))
    import_file(box, io.BytesIO(_part10(sample)), Origin(Intake.IMPORT, "sample"))
    return sample


def shown(tx: Transaction, sample: Sample, now: datetime) -> None:
    """Remember that a sample is to be marked as one."""
    settings.put(tx, _SAMPLES, [*samples(tx), sample.study_instance_uid], now)


def samples(reading: Reading) -> tuple[Uid, ...]:
    """The sample studies, those in view."""
    gone = hidden(reading)
    return tuple(Uid(each) for each in settings.get(reading, _SAMPLES, ()) if each not in gone)


def row_of(reading: Reading, sees: Sight, uid: Uid) -> StudyRow | None:
    """A sample study, if whoever looks may see it."""
    rows = sight.find(reading, sees, PATIENT_ID, limit=100)
    return next((row for row in rows if row.study_instance_uid == uid), None)


def hidden(reading: Reading) -> frozenset[str]:
    """The sample studies that were taken from view."""
    return frozenset(settings.get(reading, _HIDDEN, ()))


def hide(tx: Transaction, now: datetime) -> tuple[Uid, ...]:
    """Take all samples from view; which they were."""
    gone = samples(tx)
    settings.put(tx, _HIDDEN, sorted(hidden(tx) | set(gone)), now)
    return gone


def _part10(sample: Sample) -> bytes:
    head = file_head(
        sop_class_uid=SOP_CLASS,
        sop_instance_uid=sample.sop_instance_uid,
        transfer_syntax_uid=TRANSFER_SYNTAX,
        source_ae_title="",
    )
    return head + sample.data_set()
