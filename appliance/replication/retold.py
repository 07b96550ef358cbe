"""What a study manifest tells, as it was received once: the rows of a document back as instances."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from appliance.catalog.columns import utc_moment
from appliance.errors import Corrupt
from appliance.model import Header, Intake, KeyId, ObjectId, Origin, Received, Stored, Uid


def instances(told: Mapping[str, Any]) -> Iterator[tuple[Received, int]]:
    """Each instance of a manifest as it was received, with its version. Raises `Corrupt`."""
    try:
        people = {row["id"]: row for row in told["patients"]}
        all_studies = {row["id"]: row for row in told["studies"]}
        all_series = {row["id"]: row for row in told["series"]}
        wrapped = {row["id"]: base64.b64decode(row["wrapped"]) for row in told["study_keys"]}
        for row in sorted(told["instances"], key=lambda row: int(row["id"])):
            of_series = all_series[row["series"]]
            of_study = all_studies[of_series["study"]]
            own, other = people[of_study["patient"]], row["other_patient"]
            received = _received(row, of_series, of_study, own, wrapped[row["key_id"]])
            if other is not None:
                # Whose the study is, the document says: the images that say so may come later, or lie elsewhere.
                of_another = _received(row, of_series, of_study, people[other], wrapped[row["key_id"]])
                received = replace(of_another, of_study=received.header)
            yield received, int(row["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt("a study manifest lacks what it should hold") from error


def _received(
    row: dict[str, Any],
    of_series: dict[str, Any],
    of_study: dict[str, Any],
    person: dict[str, Any],
    key: bytes,
) -> Received:
    header = Header(
        sop_class_uid=Uid(row["sop_class_uid"]),
        sop_instance_uid=Uid(row["sop_instance_uid"]),
        study_instance_uid=Uid(of_study["study_instance_uid"]),
        series_instance_uid=Uid(of_series["series_instance_uid"]),
        transfer_syntax_uid=Uid(row["transfer_syntax_uid"]),
        patient_id=person["patient_id"],
        issuer_of_patient_id=person["issuer"],
        patient_name=person["name"],
        patient_birth_date=person["birth_date"],
        patient_sex=person["sex"],
        study_date=of_study["study_date"],
        study_time=of_study["study_time"],
        accession_number=of_study["accession_number"],
        study_description=of_study["description"],
        referring_physician_name=of_study["referring_physician_name"],
        modality=of_series["modality"],
        series_number=of_series["series_number"],
        series_description=of_series["description"],
        body_part_examined=of_series["body_part_examined"],
        laterality=of_series["laterality"],
        image_laterality=row["image_laterality"],
        burned_in_annotation=row.get("burned_in_annotation", ""),
        instance_number=row["instance_number"],
        manufacturer=of_series["manufacturer"],
        manufacturer_model_name=of_series["manufacturer_model_name"],
        station_name=of_series["station_name"],
        number_of_frames=int(row["number_of_frames"]),
        rows=int(row["rows"]),
        columns=int(row["columns"]),
    )
    stored = Stored(
        ObjectId(row["object_id"]),
        KeyId(row["key_id"]),
        key,
        int(row["size_bytes"]),
        int(row["sealed_bytes"]),
    )
    origin = Origin(Intake(row["intake"]), row["origin_name"], row["origin_address"])
    return Received(header, origin, stored, utc_moment(row["received_utc"]))
