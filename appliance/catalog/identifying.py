"""What the catalog knows that names a patient: for a search of what is to leave the box. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import func, select

from appliance.catalog.database import Reading
from appliance.catalog.schema import patients, studies


def identifying(reading: Reading) -> Iterator[tuple[str, str]]:
    """Every text that is known to name somebody, with its kind: ``name``, ``id``, ``birth_date`` or ``accession``."""
    people = select(patients.c.name, patients.c.patient_id, patients.c.birth_date)
    for name, patient_id, birth_date in reading.execute(people):
        yield "name", name
        yield "id", patient_id
        yield "birth_date", birth_date
    visits = select(studies.c.accession_number, studies.c.referring_physician_name).distinct()
    for accession, physician in reading.execute(visits):
        yield "accession", accession
        yield "name", physician


def mark(reading: Reading) -> tuple[int, int]:
    """The highest rows of patients and studies: another mark, and there is more that names somebody. Quick."""
    highest = select(
        select(func.max(patients.c.id)).scalar_subquery(), select(func.max(studies.c.id)).scalar_subquery()
    )
    patient, study = reading.execute(highest).one()
    return patient or 0, study or 0
