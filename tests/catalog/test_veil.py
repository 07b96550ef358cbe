"""What is left of a study when nobody may know whose it is."""

import re
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catalog.instances import InstanceRow
from appliance.catalog.studies import StudyRow
from appliance.catalog.veil import Veil, is_clear
from appliance.model import InstanceId, Intake, KeyId, ObjectId, Uid

VEIL = Veil(b"k" * 32)
AT = datetime(2026, 3, 17, 9, 41, tzinfo=UTC)
SAID = "secret"
"""Stands in every text of the rows below."""
STUDY = StudyRow(
    7, Uid(SAID), SAID, SAID, SAID, SAID, SAID, "20260317", "094100", SAID, SAID, SAID, (SAID,), 5, 900, 1, True, AT, AT, 8
)  # fmt: skip
INSTANCE = InstanceRow(
    InstanceId(3), 7, Uid(SAID), Uid(SAID), Uid(SAID), Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2.1"),
    "CT", SAID, SAID, "R", SAID, 10, 10, 1, "L", "", ObjectId("o" * 32), KeyId("k" * 32), 100, 120, Intake.DICOM,
    SAID, SAID, AT, 0, True,
)  # fmt: skip
DX = "1.2.840.10008.5.1.4.1.1.1.1"


def test_nothing_that_was_typed_or_tells_a_day_is_left_of_a_study() -> None:
    veiled = VEIL.study(STUDY, modalities=["CT"], instances=2, size_bytes=300)
    assert SAID not in repr(veiled)
    assert "03-17" not in repr(veiled)
    assert "datetime.datetime(2026, 1, 1, 0, 0" in repr(veiled)
    assert (veiled.id, veiled.study_date, veiled.instances, veiled.bytes) == (7, "2026", 2, 300)


def test_nothing_that_was_typed_or_tells_a_day_is_left_of_an_instance() -> None:
    veiled = VEIL.instance(INSTANCE)
    assert SAID not in repr(veiled)
    assert veiled.received_utc == datetime(2026, 1, 1, tzinfo=UTC)
    assert (veiled.object_id, veiled.image_laterality) == (INSTANCE.object_id, "L")


@pytest.mark.parametrize("row", [STUDY, INSTANCE])
def test_every_text_of_the_rows_is_tried(row: object) -> None:
    """A new field of text must be put into the rows above, and so be thought of."""
    texts = [getattr(row, field.name) for field in fields(row)]  # type: ignore[arg-type]
    known = ("20260317", "094100", "CT", "R", "L", "", SAID, "o" * 32, "k" * 32, Intake.DICOM)
    assert {text for text in texts if isinstance(text, str)} <= {
        *known,
        INSTANCE.sop_class_uid,
        INSTANCE.transfer_syntax_uid,
    }


@given(uid=st.text("0123456789.", min_size=1, max_size=64), key=st.binary(min_size=32, max_size=32))
def test_a_pseudonym_is_eight_signs_and_stays_the_same(uid: str, key: bytes) -> None:
    name = Veil(key).pseudonym(Uid(uid))
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", name)
    assert name == Veil(key).pseudonym(Uid(uid))


def test_a_pseudonym_is_another_under_another_key_and_for_another_study() -> None:
    names = {Veil(bytes([n]) * 32).pseudonym(Uid("1.2.3")) for n in range(50)}
    names |= {VEIL.pseudonym(Uid(f"1.2.{n}")) for n in range(500)}
    assert len(names) == 550


def test_the_key_is_not_shown() -> None:
    assert "kkk" not in repr(VEIL)


@pytest.mark.parametrize(
    ("modality", "sop_class", "burned_in", "clear"),
    [
        ("DX", DX, "", True),
        ("DX", DX, "NO", True),
        ("DX", DX, "YES", False),
        ("DX", DX, "yes", False),
        ("DX", DX, "MAYBE", False),
        ("PX", "1.2.840.10008.5.1.4.1.1.7", "NO", False),  # a capture of a screen
        ("CT", "1.2.840.10008.5.1.4.1.1.7.3", "NO", False),
        ("US", "1.2.840.10008.5.1.4.1.1.6.1", "NO", False),
        ("XC", "1.2.840.10008.5.1.4.1.1.77.1.4", "NO", False),
        ("DOC", "1.2.840.10008.5.1.4.1.1.104.1", "NO", False),
        ("SR", "1.2.840.10008.5.1.4.1.1.88.33", "", False),
        ("OT", DX, "NO", False),
        ("", DX, "NO", False),
        ("CT", "1.2.3.4", "NO", False),
    ],
)
def test_an_image_is_shown_only_if_nothing_is_written_into_it(
    modality: str, sop_class: str, burned_in: str, clear: bool
) -> None:
    assert is_clear(modality, sop_class, burned_in) is clear
