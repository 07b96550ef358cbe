"""``appliance studies`` and ``appliance export``: what is kept, found by a name or a number, and taken out as DICOM files.

An exported file is the Part 10 file inside the sealed object, its data set byte for byte as received. Names are made
of running numbers in the order of series and instance numbers: a peer's UID never becomes a path.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table, date, person_name, safe, size
from appliance.cli.session import opened_box, record
from appliance.errors import OperatorNeeded, OutOfResources, Refused, Unknown

if TYPE_CHECKING:
    from appliance.box import Box
    from appliance.catalog import Reading
    from appliance.catalog.instances import InstanceRow
    from appliance.catalog.studies import StudyRow

COLUMNS = {
    "patient": "PATIENT",
    "patient_id": "PATIENT ID",
    "born": "BORN",
    "date": "DATE",
    "modalities": "MODALITY",
    "description": "DESCRIPTION",
    "accession_number": "ACCESSION",
    "instances": "IMAGES",
    "size": "SIZE",
}
PIECE_BYTES = 1 << 20
MOST_NAMED = 1000
"""Studies of a list that its audit row names; a longer list is everything."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def add_to(verbs: Verbs) -> None:
    """Add the two verbs."""
    studies = verbs.add(
        "studies",
        "find studies by patient name, ID, accession number or description",
        act=list_studies,
        about="Every word must match; accents and capitals don't matter. Without words: the newest.",
        examples=[
            "appliance studies",
            "appliance studies helene cote",
            "appliance studies --json --limit 10000",
        ],
    )
    studies.add_argument("words", nargs="*", metavar="QUERY", help="words to look for")
    studies.add_argument(
        "--limit", type=whole_number(1, 10_000_000), metavar="N", help="show at most so many (default: all)"
    )
    add_json(studies)
    export = verbs.add(
        "export",
        "write a study's images as DICOM files",
        act=export_study,
        about="STUDY is a Study Instance UID, or words that only one study matches. The files are in clear: "
        "keep them safe, and delete them when they are no longer needed. Nothing is ever overwritten.",
        examples=[
            'appliance export "cote helene" --to /media/usb/helene',
            "appliance export 1.2.840.1 --to /srv/helene",
        ],
    )
    export.add_argument("study", metavar="STUDY", help="its UID, or words that only one study matches")
    export.add_argument("--to", required=True, type=Path, metavar="DIR", help="the folder to write to")


def list_studies(arguments: Arguments) -> int:
    """Print the studies that match."""
    from appliance.catalog import studies

    with opened_box() as box:
        with box.catalog.reading() as conn:
            found = studies.find(conn, " ".join(arguments.words), limit=arguments.limit or 2**31, offset=0)
        with box.catalog.transaction() as tx:
            word = "study:search" if arguments.words else "study:list"
            shown_ids = [study.id for study in found[:MOST_NAMED]]
            record(tx, box, word, "command line", {"rows": len(found), "studies": shown_ids})
    if arguments.json:
        as_json([_row(study) for study in found])
    else:
        shown = [_shown(study) for study in found]
        as_table(
            COLUMNS,
            shown,
            empty="No study matches." if arguments.words else "No study has been received yet.",
        )
    return 0


def export_study(arguments: Arguments) -> int:
    """Write every instance of one study into a folder."""
    from appliance.catalog import instances

    with opened_box() as box:
        with box.catalog.reading() as conn:
            study = chosen_study(conn, arguments.study)
            rows = instances.instances_of_study(conn, study.study_instance_uid)
        files = list(_named(rows))
        _prepare(arguments.to, [name for name, _ in files])
        # Before the first file: one that is cut short has left files too.
        with box.catalog.transaction() as tx:
            uid = study.study_instance_uid
            details = {"instances": len(files), "to": str(arguments.to)}
            record(tx, box, "study:export", f"study:{study.id}", details, study=uid)
        for name, row in files:
            write_file(box, row, arguments.to / name)
    print(f"{len(files)} images written to {arguments.to}. They are in clear there.")
    return 0


def chosen_study(conn: Reading, text: str) -> StudyRow:
    """The one study that `text` means: its UID, or words that no other study matches.

    Raises `Unknown` when there is none and `Refused` when there are several.
    """
    from appliance.catalog import studies
    from appliance.model import Uid

    text = text.strip()
    if exact := studies.study(conn, Uid(text)):
        return exact
    # A UID that isn't here must not be taken for words: they could match another patient's study.
    is_words = text and not _UID.fullmatch(text)
    found = studies.find(conn, text, limit=2, offset=0) if is_words else []
    if not found:
        raise Unknown("no study matches that", hint="look for it with 'appliance studies'")
    if len(found) > 1:
        raise Refused(
            "several studies match that", hint="give more words, or the UID from 'appliance studies --json'"
        )
    return found[0]


def write_file(box: Box, row: InstanceRow, path: Path) -> None:
    """Write the Part 10 file of an instance to `path`, whole or not at all, never over an existing file."""
    from appliance.replication import recall

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with (
            recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes) as source,
            part.open("xb") as target,
        ):
            shutil.copyfileobj(source, target, PIECE_BYTES)
            target.flush()
            os.fsync(target.fileno())
        with path.open("xb"):  # takes the name, or fails because somebody has it
            pass
        part.replace(path)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise OutOfResources(
            f"{path.parent} cannot be written to ({error.strerror})",
            hint="make space there, or choose another folder",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _named(rows: Sequence[InstanceRow]) -> Iterator[tuple[Path, InstanceRow]]:
    """A relative name for each instance: ``02-IO/0017.dcm``, by the order of series and instance numbers."""
    by_series: dict[str, list[InstanceRow]] = {}
    for row in rows:
        by_series.setdefault(row.series_instance_uid, []).append(row)
    series = sorted(
        by_series.values(), key=lambda members: (_number(members[0].series_number), members[0].id)
    )
    for place, members in enumerate(series, start=1):
        modality = "".join(
            letter for letter in members[0].modality[:16] if letter.isascii() and letter.isalnum()
        )
        folder = f"{place:02d}-{modality}" if modality else f"{place:02d}"
        members.sort(key=lambda row: (_number(row.instance_number), row.id))
        for position, row in enumerate(members, start=1):
            yield Path(folder, f"{position:04d}.dcm"), row


def _prepare(folder: Path, names: Sequence[Path]) -> None:
    """Make the folder, and refuse before the first byte if any of the names is taken."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorNeeded(
            f"the folder {folder} cannot be made ({error.strerror})", hint="choose another with --to"
        ) from error
    for name in names:
        if (folder / name).exists():
            raise _taken(folder / name)


def _taken(path: Path) -> Refused:
    return Refused(f"{path} exists already and is not overwritten", hint="choose an empty folder with --to")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _number(text: str) -> int:
    """An integer string (VR IS) as a number; what isn't one comes last."""
    try:
        return int(text)
    except ValueError:
        return 2**31


def _row(study: StudyRow) -> dict[str, object]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "patient_id": study.patient_id,
        "patient_name": study.patient_name,
        "birth_date": study.birth_date,
        "study_date": study.study_date,
        "modalities": list(study.modalities),
        "description": study.description,
        "accession_number": study.accession_number,
        "instances": study.instances,
        "bytes": study.bytes,
    }


def _shown(study: StudyRow) -> dict[str, object]:
    return {
        "patient": safe(person_name(study.patient_name)),
        "patient_id": study.patient_id,
        "born": date(study.birth_date),
        "date": date(study.study_date),
        "modalities": ", ".join(study.modalities),
        "description": study.description,
        "accession_number": study.accession_number,
        "instances": study.instances,
        "size": size(study.bytes),
    }
