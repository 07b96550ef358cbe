"""What is left of a study when nobody may know whose it is. Pure.

Chosen: say what may be seen, and leave out the rest (P-39.1 s.12, s.23; PS3.15 E.1-1 as a list of what identifies).
Of the study remain the sex, the year, the kinds of image and a pseudonym; of an image its geometry and side. Text that
people or machines typed is left out whole, because a name may be in it. Rejected: cleaning texts by pattern, which
misses the one name that matters.

The pseudonym is an HMAC-SHA-256 of the study's UID under a key of this box, cut to 40 bits: the same each time, so that
two people can speak of the same case, and of no use without the key, even to somebody who knows the UID. Two studies of
one patient have two pseudonyms.

Pixels may say a name too. An image is shown only if its kind is one that machines write no text into, and it isn't
flagged BurnedInAnnotation (0028,0301). Ultrasound, photographs, secondary captures and documents never are.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from appliance.model import Uid

if TYPE_CHECKING:
    from appliance.catalog.instances import InstanceRow
    from appliance.catalog.studies import StudyRow

CLEAR_MODALITIES = frozenset({"CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX"})
"""Kinds of image whose makers write text beside the pixels and not into them (PS3.3 C.7.3.1.1.1)."""

CLEAR_SOP_CLASSES = frozenset(
    {
        Uid("1.2.840.10008.5.1.4.1.1.1"),  # Computed Radiography
        Uid("1.2.840.10008.5.1.4.1.1.1.1"),  # Digital X-Ray, for presentation
        Uid("1.2.840.10008.5.1.4.1.1.1.1.1"),  # … for processing
        Uid("1.2.840.10008.5.1.4.1.1.1.2"),  # Digital Mammography, for presentation
        Uid("1.2.840.10008.5.1.4.1.1.1.2.1"),  # … for processing
        Uid("1.2.840.10008.5.1.4.1.1.1.3"),  # Digital Intra-Oral X-Ray, for presentation
        Uid("1.2.840.10008.5.1.4.1.1.1.3.1"),  # … for processing
        Uid("1.2.840.10008.5.1.4.1.1.2"),  # CT
        Uid("1.2.840.10008.5.1.4.1.1.2.1"),  # Enhanced CT
        Uid("1.2.840.10008.5.1.4.1.1.4"),  # MR
        Uid("1.2.840.10008.5.1.4.1.1.4.1"),  # Enhanced MR
        Uid("1.2.840.10008.5.1.4.1.1.13.1.1"),  # X-Ray 3D Angiographic
        Uid("1.2.840.10008.5.1.4.1.1.13.1.2"),  # X-Ray 3D Craniofacial
        Uid("1.2.840.10008.5.1.4.1.1.13.1.3"),  # Breast Tomosynthesis
        Uid("1.2.840.10008.5.1.4.1.1.20"),  # Nuclear Medicine
        Uid("1.2.840.10008.5.1.4.1.1.128"),  # Positron Emission Tomography
    }
)
"""What machines send as images of their own (PS3.4 B.5); what they send as captures of their screens is not here."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
_SIGNS = 8
_SEXES = ("F", "M", "O")


@dataclass(frozen=True, slots=True)
class Veil:
    """The key under which studies get their pseudonyms."""

    key: bytes = field(repr=False)

    def pseudonym(self, study_instance_uid: Uid) -> str:
        """The name by which a study goes, such as ``K7Q2-M9XD``."""
        number = int.from_bytes(hmac.digest(self.key, study_instance_uid.encode(), "sha256")[:5], "big")
        signs = "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_SIGNS)))
        return f"{signs[:4]}-{signs[4:]}"

    def study(self, row: StudyRow, *, modalities: Sequence[str], instances: int, size_bytes: int) -> StudyRow:
        """`row` without what identifies; the last three are of the images that are shown."""
        year = _year(row.last_received_utc)
        return replace(
            row,
            study_instance_uid=Uid(""),
            patient_id="",
            issuer_of_patient_id="",
            patient_name=self.pseudonym(row.study_instance_uid),
            birth_date="",
            sex=row.sex if row.sex in _SEXES else "",
            study_date=row.study_date[:4] if row.study_date[:4].isdecimal() else "",
            study_time="",
            accession_number="",
            description="",
            referring_physician_name="",
            modalities=tuple(modalities),
            instances=instances,
            bytes=size_bytes,
            duplicates=0,
            patient_conflict=False,
            first_received_utc=year,
            last_received_utc=year,
            change=0,
        )

    def instance(self, row: InstanceRow) -> InstanceRow:
        """`row` without what identifies. Its object and key stay: the picture is read by them."""
        return replace(
            row,
            study_instance_uid=Uid(""),
            series_instance_uid=Uid(self.pseudonym(row.series_instance_uid)),  # tells series apart
            sop_instance_uid=Uid(""),
            series_number="",
            series_description="",
            instance_number=row.instance_number if row.instance_number.isdecimal() else "",
            origin_name="",
            origin_address="",
            received_utc=_year(row.received_utc),
            patient_conflict=False,
        )


def is_clear(modality: str, sop_class_uid: str, burned_in_annotation: str) -> bool:
    """Whether an image of that kind may be shown to somebody who must not learn whose it is."""
    return (
        modality in CLEAR_MODALITIES
        and sop_class_uid in CLEAR_SOP_CLASSES
        and burned_in_annotation.upper() in ("", "NO")
    )


def _year(moment: datetime) -> datetime:
    return datetime(moment.year, 1, 1, tzinfo=UTC)
