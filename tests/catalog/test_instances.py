"""What is received is recorded once, where it belongs, and nobody's study becomes somebody else's."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from appliance.catalog import Catalog, Conflict, instances, studies, study_keys
from appliance.catalog.instances import InstanceRow
from appliance.catalog.studies import StudyRow
from appliance.model import Intake, KeyId, ObjectId, Received, Uid
from tests.catalog.arrivals import NOW, received

STUDY = Uid("1.2.3")


def _record(catalog: Catalog, *batch: Received, version: int = 0) -> list[instances.Recorded]:
    with catalog.transaction() as tx:
        return instances.record_many(tx, [(each, version) for each in batch])


def _study(catalog: Catalog, uid: str = STUDY) -> StudyRow:
    with catalog.reading() as reading:
        found = studies.study(reading, Uid(uid))
    assert found is not None
    return found


def test_every_fact_comes_back_as_it_was_received(catalog: Catalog) -> None:
    arrival = received(
        series_number="2",
        series_description="Série 2",
        laterality="L",
        image_laterality="R",
        burned_in_annotation="NO",
        number_of_frames=3,
        size_bytes=4321,
    )
    (recorded,) = _record(catalog, arrival)
    header, stored = arrival.header, arrival.stored
    with catalog.reading() as reading:
        row = instances.instance(reading, recorded.instance_id)
    assert row == InstanceRow(
        id=recorded.instance_id,
        study_id=recorded.study_id,
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        modality="CT",
        series_number="2",
        series_description="Série 2",
        laterality="L",
        instance_number=header.instance_number,
        rows=512,
        columns=256,
        number_of_frames=3,
        image_laterality="R",
        burned_in_annotation="NO",
        object_id=stored.object_id,
        key_id=stored.key_id,
        size_bytes=4321,
        sealed_bytes=4381,
        intake=Intake.DICOM,
        origin_name="CT1",
        origin_address="10.0.0.7",
        received_utc=NOW,
        version=0,
        patient_conflict=False,
    )
    study = _study(catalog)
    assert (study.patient_name, study.patient_id, study.birth_date, study.sex) == (
        "CÔTÉ-LÉVESQUE^Hélène",
        "P-0042",
        "19700131",
        "F",
    )
    assert (study.accession_number, study.description, study.modalities) == ("ACC-77", "Panoramique", ("CT",))
    assert (study.instances, study.bytes, study.duplicates, study.patient_conflict) == (1, 4321, 0, False)
    assert study.id == recorded.study_id


def test_an_empty_batch_changes_nothing(catalog: Catalog) -> None:
    assert _record(catalog) == []
    with catalog.reading() as reading:
        assert studies.latest_change(reading) == 0


def test_one_at_a_time_and_in_one_batch_come_to_the_same(catalog: Catalog) -> None:
    batch = [
        received(
            study_instance_uid=f"1.2.{n % 3}", series_instance_uid=f"1.2.{n % 3}.{n % 2}", modality=modality
        )
        for n, modality in enumerate(["CT", "PX", "IO", "CT", "DX", "IO"] * 2)
    ]
    again = [
        replace(
            each,
            header=replace(each.header, study_instance_uid=Uid("9" + each.header.study_instance_uid)),
            stored=replace(each.stored, object_id=ObjectId("b" + each.stored.object_id[1:])),
        )
        for each in batch
    ]
    _record(catalog, *batch)
    with catalog.transaction() as tx:
        for each in again:
            instances.record(tx, each, version=0)
    for n in range(3):
        one, other = _study(catalog, f"1.2.{n}"), _study(catalog, f"91.2.{n}")
        assert (one.instances, one.bytes, one.modalities) == (other.instances, other.bytes, other.modalities)
        assert one.instances == 4
        with catalog.reading() as reading:
            assert len(studies.series_of_study(reading, Uid(f"1.2.{n}"))) == 2
            assert len(studies.series_of_study(reading, Uid(f"91.2.{n}"))) == 2


def test_totals_grow_over_batches(catalog: Catalog) -> None:
    _record(catalog, received(), received(modality="SR"))
    _record(catalog, received(NOW + timedelta(hours=1), modality="DX"), received(NOW - timedelta(hours=1)))
    study = _study(catalog)
    assert (study.instances, study.bytes) == (4, 4000)
    assert study.modalities == ("CT", "DX", "SR")
    assert study.first_received_utc == NOW
    assert study.last_received_utc == NOW + timedelta(hours=1)


def test_other_bytes_under_the_same_identity_are_kept_beside_the_first(catalog: Catalog) -> None:
    first = received()
    second = received(sop_instance_uid=first.header.sop_instance_uid)
    _record(catalog, first)
    with pytest.raises(Conflict):
        _record(catalog, second)
    _record(catalog, second, version=1)
    with catalog.reading() as reading:
        found = instances.versions(reading, first.header)
        elsewhere = replace(first.header, series_instance_uid=Uid("1.9"))
        assert instances.versions(reading, elsewhere) == []
    assert [(each.version, each.object_id) for each in found] == [
        (0, first.stored.object_id),
        (1, second.stored.object_id),
    ]
    assert _study(catalog).duplicates == 1


def test_the_same_uid_in_another_study_is_another_instance(catalog: Catalog) -> None:
    first = received()
    other = received(sop_instance_uid=first.header.sop_instance_uid, study_instance_uid="1.2.4")
    _record(catalog, first)
    _record(catalog, other)
    with catalog.reading() as reading:
        assert len(instances.versions(reading, first.header)) == 1
        asked = [first.header.sop_instance_uid, Uid("1.2.3.4.5.6")]
        assert instances.known_among(reading, asked) == {first.header.sop_instance_uid}
    known = instances.Known(catalog)
    assert [uid in known for uid in asked] == [True, False]
    known.close()


def test_an_object_is_recorded_once(catalog: Catalog) -> None:
    first = received()
    _record(catalog, first)
    with pytest.raises(Conflict):
        _record(catalog, replace(received(), stored=first.stored))
    with catalog.reading() as reading:
        assert list(instances.all_objects(reading)) == [
            (first.stored.object_id, first.stored.key_id, first.stored.sealed_bytes)
        ]


def test_a_batch_that_conflicts_leaves_nothing(catalog: Catalog) -> None:
    known = received()
    _record(catalog, known)
    with pytest.raises(Conflict):
        _record(catalog, received(), received(study_instance_uid="1.2.77"), known)
    assert _study(catalog).instances == 1
    with catalog.reading() as reading:
        assert studies.study(reading, Uid("1.2.77")) is None


@pytest.mark.parametrize("left_out", [{"patient_name": "", "patient_id": ""}, {"patient_id": ""}])
@pytest.mark.parametrize("same_batch", [True, False])
def test_two_people_behind_a_first_image_that_names_nobody_do_not_go_unseen(
    catalog: Catalog, left_out: dict[str, Any], same_batch: bool
) -> None:
    """Neither contradicts the first, so without a flag both would lie in one study, findable under no name."""
    batch = [received(**left_out), received(), received(patient_id="B2", patient_name="SMITH^John")]
    if same_batch:
        recorded = _record(catalog, *batch)
    else:
        recorded = [_record(catalog, each)[0] for each in batch]
    assert [each.patient_conflict for each in recorded] == [False, True, True]
    assert _study(catalog).patient_conflict


@pytest.mark.parametrize(
    "other",
    [
        {"patient_name": "TREMBLAY^Guy"},
        {"patient_id": "P-0043"},
        {"patient_birth_date": "19700130"},
    ],
)
@pytest.mark.parametrize("same_batch", [True, False])
def test_an_instance_of_somebody_else_is_flagged_and_never_renames_the_study(
    catalog: Catalog, other: dict[str, Any], same_batch: bool
) -> None:
    mine, theirs, mine_again = received(), received(**other), received()
    if same_batch:
        recorded = _record(catalog, mine, theirs, mine_again)
    else:
        recorded = [_record(catalog, each)[0] for each in (mine, theirs, mine_again)]
    assert [each.patient_conflict for each in recorded] == [False, True, False]
    study = _study(catalog)
    assert study.patient_conflict
    assert (study.patient_name, study.patient_id, study.birth_date) == (
        "CÔTÉ-LÉVESQUE^Hélène",
        "P-0042",
        "19700131",
    )
    with catalog.reading() as reading:
        rows = instances.instances_of_study(reading, STUDY)
        named = reading.exec_driver_sql(
            "SELECT p.patient_id, p.name, p.birth_date FROM instances AS i JOIN patients AS p ON p.id = other_patient"
        ).fetchall()
    assert [each.patient_conflict for each in rows] == [False, True, False]
    header = theirs.header
    assert named == [(header.patient_id, header.patient_name, header.patient_birth_date)]


@pytest.mark.parametrize("comes_first", [True, False])
def test_an_instance_that_is_known_to_name_another_names_no_study_even_if_it_is_the_first(
    catalog: Catalog, comes_first: bool
) -> None:
    mine, theirs = received(), received(patient_id="P-0043", patient_name="TREMBLAY^Guy")
    theirs = replace(theirs, of_study=mine.header)
    for each in (theirs, mine) if comes_first else (mine, theirs):
        _record(catalog, each)
    study = _study(catalog)
    assert (study.patient_id, study.patient_conflict, study.instances) == ("P-0042", True, 2)
    with catalog.reading() as reading:
        rows = instances.instances_of_study(reading, STUDY)
    assert {each.object_id for each in rows if each.patient_conflict} == {theirs.stored.object_id}


@pytest.mark.parametrize(
    "same",
    [
        {"patient_name": "Cote-Levesque^Helene"},
        {"patient_name": ""},
        {"patient_id": ""},
        {"patient_birth_date": "", "patient_sex": ""},
        {"issuer_of_patient_id": "CLINIC"},
    ],
)
def test_writing_it_otherwise_or_leaving_it_out_contradicts_nobody(
    catalog: Catalog, same: dict[str, Any]
) -> None:
    recorded = _record(catalog, received(), received(**same))
    assert not any(each.patient_conflict for each in recorded)
    assert not _study(catalog).patient_conflict


def test_people_with_one_patient_id_are_not_merged(catalog: Catalog) -> None:
    _record(
        catalog,
        received(study_instance_uid="1.1"),
        received(study_instance_uid="1.2", patient_name="Cote Levesque^Helene"),
        received(study_instance_uid="1.3", patient_name="TREMBLAY^Guy"),
        received(study_instance_uid="1.4", patient_birth_date="19800101"),
    )
    with catalog.reading() as reading:
        assert reading.exec_driver_sql("SELECT count(*) FROM patients").scalar_one() == 3


def test_what_the_first_instance_left_out_is_filled_and_found(catalog: Catalog) -> None:
    _record(catalog, received(accession_number="", study_description=""))
    _record(catalog, received(accession_number="ACC-88", study_description="Céphalométrie"))
    _record(catalog, received(accession_number="ACC-99", study_description="autre"))
    study = _study(catalog)
    assert (study.accession_number, study.description) == ("ACC-88", "Céphalométrie")
    with catalog.reading() as reading:
        assert [each.id for each in studies.find(reading, "acc 88 cephalometrie")] == [study.id]
        assert studies.find(reading, "autre") == []


def test_study_keys_come_along_and_stay_what_they_were(catalog: Catalog) -> None:
    first = received()
    later = received()
    other_key = replace(later, stored=replace(later.stored, key_id=KeyId("e" * 32), wrapped_key=b"other"))
    rewrapped = received()
    _record(
        catalog, first, other_key, replace(rewrapped, stored=replace(rewrapped.stored, wrapped_key=b"evil"))
    )
    with catalog.reading() as reading:
        assert study_keys.wrapped(reading, first.stored.key_id) == (STUDY, b"wrapped study key")
        assert study_keys.wrapped(reading, KeyId("e" * 32)) == (STUDY, b"other")
        assert study_keys.wrapped(reading, KeyId("0" * 32)) is None
        assert len(study_keys.keys_of_study(reading, STUDY)) == 2
        assert study_keys.latest_for(reading, Uid("1.9")) is None
        assert len(study_keys.under_earlier(reading, 2**32 - 1, 10)) == 2
    with catalog.transaction() as tx:
        study_keys.add(tx, KeyId("d" * 32), STUDY, b"newest", NOW + timedelta(seconds=1))
        study_keys.add(tx, KeyId("d" * 32), STUDY, b"ignored", NOW + timedelta(seconds=2))
        study_keys.rewrap(tx, KeyId("e" * 32), b"under a new root")
    with catalog.reading() as reading:
        assert study_keys.latest_for(reading, STUDY) == (KeyId("d" * 32), b"newest")
        assert study_keys.wrapped(reading, KeyId("e" * 32)) == (STUDY, b"under a new root")


def test_instances_are_listed_by_number_not_by_text(catalog: Catalog) -> None:
    numbers = ["10", "9", "", "2", "x", "1"]
    _record(catalog, *(received(instance_number=each) for each in numbers))
    _record(catalog, received(series_instance_uid="1.2.3.0", series_number="0", instance_number="7"))
    with catalog.reading() as reading:
        rows = instances.instances_of_study(reading, STUDY)
    assert [each.instance_number for each in rows] == ["7", "1", "2", "9", "10", "", "x"]


def test_all_objects_are_listed_however_many(catalog: Catalog) -> None:
    batch = [received() for _ in range(2345)]
    _record(catalog, *batch)
    with catalog.reading() as reading:
        assert [each[0] for each in instances.all_objects(reading)] == [
            each.stored.object_id for each in batch
        ]
