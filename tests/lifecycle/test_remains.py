"""What the catalog's file keeps of a study that was destroyed, in whichever shape its pages were; and that the certificate says no more.

The shapes are drawn: patients and studies come in any order and any length, studies go in between, and others grow.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.catalog import Catalog, destructions, erasure, instances, settings, studies, tombstones
from appliance.catalog.database import Remains
from appliance.lifecycle import certificate, destruction, purging, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.request import Method
from appliance.model import KeyId, ObjectId, Received, Stored, Uid
from appliance.web.certificate_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.catalog.arrivals import KEY, NOW, received
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, study_of
from tests.lifecycle.remains import clear_pages

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk

SHAPES = 6
PEOPLE = 150
WHOLE = 1 << 40


@dataclass(frozen=True)
class Person:
    """A patient with one study; `marks` are in no other's rows."""

    uid: Uid
    name: str
    number: str
    key: KeyId
    wrapped: bytes

    @property
    def marks(self) -> tuple[bytes, ...]:
        texts = (self.uid, self.name, self.name.lower(), self.number, self.number.lower())
        return (*(each.encode() for each in texts), self.wrapped)


def person(shape: int, number: int) -> Person:
    tag = hashlib.sha256(f"{shape}/{number}".encode()).hexdigest()
    wrapped = hashlib.sha512(tag.encode()).digest() + bytes(18)
    return Person(
        Uid(f"1.2.{int(tag[:20], 16):025d}"),
        f"N{tag[20:40]}",
        f"P{tag[40:54]}",
        KeyId(tag[::-1][:32]),
        wrapped,
    )


def image(dice: random.Random, of: Person, moment: int) -> Received:
    series = f"{of.uid}.{dice.randrange(4)}"
    found = received(
        NOW + timedelta(seconds=moment),
        patient_id=of.number,
        patient_name=of.name,
        study_instance_uid=of.uid,
        series_instance_uid=Uid(series),
        sop_instance_uid=Uid(f"{series}.{dice.getrandbits(60)}"),
        accession_number=f"A{dice.getrandbits(30)}",
        study_description="x" * dice.randrange(80),
        study_date=f"20{dice.randrange(10, 27)}0{dice.randrange(1, 10)}1{dice.randrange(10)}",
    )
    object_id = ObjectId(f"{dice.getrandbits(128):032x}")
    return replace(found, stored=Stored(object_id, of.key, of.wrapped, 1000, 1060))


def erase(catalog: Catalog, of: Person) -> None:
    with catalog.transaction() as tx:
        row = studies.study(tx, of.uid)
        assert row is not None
        assert erasure.erase(tx, row.id, NOW) is not None


def grow(catalog: Catalog, dice: random.Random, of: Person) -> None:
    """Text of a study is filled, and it gets another image: its rows move."""
    with catalog.transaction() as tx:
        tx.exec_driver_sql(
            "UPDATE studies SET description = ?, search_folded = search_folded || ? WHERE study_instance_uid = ?",
            ("y" * dice.randrange(300), "z" * dice.randrange(200), of.uid),
        )
        instances.record_many(tx, [(image(dice, of, 1), 0)])


def shaped(catalog: Catalog, shape: int) -> list[bytes]:
    """Fill a catalog in a shape of its own; what must not be in its file, of the studies that were destroyed in it."""
    dice = random.Random(shape)
    people = [person(shape, number) for number in range(PEOPLE)]
    coming = [each for each in people for _ in range(dice.randrange(1, 6))]
    dice.shuffle(coming)
    while coming:
        some = [coming.pop() for _ in range(min(len(coming), dice.randrange(1, 60)))]
        with catalog.transaction() as tx:
            instances.record_many(tx, [(image(dice, each, moment), 0) for moment, each in enumerate(some)])
    going = dice.sample(people, dice.choice([1, 3, PEOPLE // 3, PEOPLE // 2]))
    staying = [each for each in people if each not in going]
    for each in going:
        erase(catalog, each)
        if dice.random() < 0.5:
            grow(catalog, dice, dice.choice(staying))
    return [mark for each in going for mark in each.marks]


def left_in(path: Path, marks: list[bytes]) -> int:
    pages = clear_pages(path, KEY)
    return sum(mark in pages for mark in marks)


def test_nothing_is_left_in_a_catalog_that_is_written_anew_and_little_in_one_that_is_not(
    tmp_path: Path,
) -> None:
    left = 0
    for shape in range(SHAPES):
        path = tmp_path / f"{shape}.db"
        catalog = Catalog.open(path, KEY)
        marks = shaped(catalog, shape)
        assert left_in(path, marks) > 0, "the test can see: the log has them"
        assert catalog.forget_deleted(0) is Remains.COPIES
        left += left_in(path, marks)
        assert catalog.forget_deleted(WHOLE) is Remains.NONE
        assert left_in(path, marks) == 0, shape
        catalog.close()
    assert left > 0, "if SQLite leaves none any more, the certificate may say so of a large catalog too"


@pytest.mark.parametrize("most_bytes", [0, purging.REWRITTEN_BYTES])
@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
def test_the_certificate_says_whether_the_index_was_written_anew(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, most_bytes: int, language: str
) -> None:
    monkeypatch.setattr(purging, "REWRITTEN_BYTES", most_bytes)
    clinic.receive(*IMAGES[:4], *GONE)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    carry_out(clinic)
    words = Languages(web_ui() / "languages").words(language)
    claim, left = words("destroyed.here.DONE"), words("destroyed.left.unused_space")

    def said() -> tuple[str, set[str]]:
        with clinic.box.catalog.reading() as conn:
            (found,) = tombstones.certificates(conn)
            told = certificate.document(conn, found, LATER)
        lines = [line.text for section in worded(told, "AB-CD", words).sections for line in section.lines]
        return told["this_box"]["unused_space"], {claim, left}.intersection(lines)

    assert said() == (("may-hold-copies", {left}) if most_bytes == 0 else ("written-over", {claim}))
    monkeypatch.undo()
    purging.carry_out(clinic.box, LATER)  # it has become smaller, or the box has learnt to
    assert said() == ("written-over", {claim})


def test_a_box_that_was_updated_writes_its_index_anew_once_more(clinic: Clinic) -> None:
    """Earlier software did not write down whether it had."""
    clinic.receive(*GONE)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    carry_out(clinic)
    with clinic.box.catalog.transaction() as tx:
        settings.remove(tx, purging.REWRITTEN)
    purging.carry_out(clinic.box, LATER)
    with clinic.box.catalog.reading() as conn:
        assert settings.get(conn, purging.REWRITTEN) == tombstones.last_destroyed(conn)


def test_what_people_wrote_in_a_request_goes_with_the_study(clinic: Clinic) -> None:
    """Of the one that is carried out, of an earlier one that was withdrawn, and of one that earlier software carried out."""
    box = clinic.box
    clinic.receive(*IMAGES[:4], *GONE)
    clinic.deliver()
    number, other = study_of(box, GONE[0]).id, study_of(box, IMAGES[0]).id
    marie = Act(by="marie", now=LATER, audit_key=box.audit_key)
    marks = ("Wasfilmed", "Tookback", "Otherone", "Fromearlier")

    def ask(study: int, reason: str) -> int:
        return destruction.ask(tx, marie, [study], method=Method.DESTROY, reason=reason).id

    def pages() -> bytes:
        return clear_pages(box.config.data.absolute() / "catalog.db", box.root.derive("catalog"))

    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, LATER, follows_time_server=True)
        if retention.clock_of(tx, LATER).doubt is not None:
            retention.trust_clock(tx, marie)
        first = ask(number, f"file of {marks[0]}")
        destruction.withdraw(tx, marie, first, reason=f"{marks[1]} called")
        stays = ask(other, f"file of {marks[2]}")
    second = approve(box, number)
    assert all(each.encode() in pages() for each in marks[:3]), "the test can see"
    carry_out(clinic)
    with box.catalog.reading() as conn:
        told = [destructions.request(conn, each) for each in (first, second)]
        assert destructions.request(conn, stays).reason == f"file of {marks[2]}", "its study is here"
    assert [(each.reason, each.end_reason) for each in told] == [("", "")] * 2
    assert not any(each.encode() in pages() for each in marks[:2])

    with box.catalog.transaction() as tx:
        tx.exec_driver_sql(
            "UPDATE destruction_requests SET reason = ? WHERE id = ?", (f"file of {marks[3]}", second)
        )
    assert marks[3].encode() in pages()
    purging.carry_out(box, LATER)
    assert marks[3].encode() not in pages()
