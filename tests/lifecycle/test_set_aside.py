"""An image that came and could not be recorded names a patient, in no study: that study is not destroyed past it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from appliance import audit
from appliance.backup import snapshot
from appliance.box import Box
from appliance.catalog import destructions, instances, studies, tombstones
from appliance.cli import main
from appliance.errors import OutOfResources
from appliance.ingest import Reception, set_aside
from appliance.lifecycle import certificate, purging, unsettled
from appliance.lifecycle.destruction import Because
from appliance.lifecycle.request import Method, State
from appliance.replication.destinations import Archive, build
from appliance.web.certificate_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import recorded, send
from tests.instances import Instance
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, study_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk

OTHER = [
    Instance(number, study=88, pixel_bytes=3_000, patient_id="B-88", patient_name="Autre^Personne")
    for number in (40, 41)
]


def put_aside(box: Box, image: Instance, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of `image`, which came while a defect kept it from being recorded."""
    record_many = instances.record_many

    def refuse_it(tx: object, batch: object) -> object:
        if any(received.header.sop_instance_uid == image.sop_instance_uid for received, _ in batch):  # type: ignore[attr-defined]
            raise ValueError("a defect")
        return record_many(tx, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as defect:
        defect.setattr(instances, "record_many", refuse_it)
        reception = Reception(box, "dicom-0")
        send(reception, image)
        reception.close()
    (record,) = set_aside.paths(box)
    return record


def test_a_study_of_which_an_image_is_set_aside_stays_until_that_is_accepted(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    box = clinic.box
    clinic.receive(*GONE[1:])
    aside = put_aside(box, GONE[0], monkeypatch)
    clinic.deliver()
    asked = approve(box, study_of(box, GONE[1]).id)
    purging.carry_out(box, LATER)
    with box.catalog.reading() as conn:
        assert tombstones.certificates(conn) == [] and len(studies.find(conn)) == 1, (
            "nothing says that it is gone"
        )
        request = destructions.request(conn, asked)
        assert request.state is State.WITHDRAWN, "it may be asked for again"
        assert [each.left_out_because for each in request.decisions] == [Because.SET_ASIDE]
    assert "an image of the study came and is set aside" in caplog.text
    assert aside.exists()
    Reception(box, "dicom-0").close()  # mended, and the box starts again
    assert not aside.exists()
    clinic.deliver()
    approve(box, study_of(box, GONE[1]).id)
    purging.carry_out(box, LATER)
    with box.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
        assert tombstones.studies_of(conn, paper.id)[0].instances == len(GONE)
    assert recorded(box) == []


def test_it_holds_back_neither_the_others_of_its_request_nor_their_backups(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one left out is told with its reason, on the certificate and where it is shown."""
    box = clinic.box
    clinic.receive(*GONE, OTHER[1])
    put_aside(box, OTHER[0], monkeypatch)
    clinic.deliver()
    old = clinic.back_up()
    archive = build(clinic.place, None)  # type: ignore[arg-type]
    assert isinstance(archive, Archive)
    assert snapshot.key_key(old.name) in {each.key for each in archive.documents("snapshots/")}
    stays = study_of(box, OTHER[1]).id
    asked = approve(box, study_of(box, GONE[0]).id, stays)
    carry_out(clinic)
    kept = {each.key for each in archive.documents("snapshots/")}
    assert snapshot.key_key(old.name) not in kept, "who is destroyed was in it"
    with box.catalog.reading() as conn:
        assert destructions.request(conn, asked).state is State.CARRIED_OUT
        (paper,) = tombstones.certificates(conn)
        told = certificate.document(conn, paper, LATER)
        acts = [(row["action"], row["subject"]) for row in audit.export(conn)]
    assert ("destruction:leave-out", f"study:{stays}") in acts
    assert paper.completed_utc is not None and len(told["studies"]) == 1
    assert told["left_out"] == [{"study": stays, "because": "set-aside"}]
    for words in map(Languages(web_ui() / "languages").words, ("en", "fr", "es", "zh")):
        why = words("destruction.because.set-aside")
        said = worded(told, "AB-CD", words)
        assert said.verdict_tone == "wait"
        assert why in said.sections[1].lines[1].text
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    assert main(["destruction", "show", paper.label]) == 0
    shown = capsys.readouterr().out
    assert f"Study {stays}: Left out, and not destroyed." in shown
    assert "1 study that was asked for was left out" in shown
    assert main(["destruction", "list"]) == 0
    assert "LEFT OUT" in capsys.readouterr().out


def test_while_others_wait_the_certificate_says_that_archives_wait_for_them(clinic: Clinic) -> None:
    """Their older backups become unreadable once, for all studies of a request."""
    box = clinic.box
    clinic.receive(*GONE, *OTHER)
    clinic.deliver()
    approve(box, study_of(box, GONE[0]).id, study_of(box, OTHER[0]).id)
    first = iter((True, False))
    purging.carry_out(box, LATER, purging.Around(keep_going=lambda: next(first, False)))
    with box.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
        (archive,) = certificate.document(conn, paper, LATER)["archives"]
    assert archive["waits_for"] == certificate.WAITS_FOR_OTHERS
    for words in map(Languages(web_ui() / "languages").words, ("fr", "es", "zh")):
        assert words.cause(archive["waits_for"]) != words.cause("nobody has translated this")
        assert words.cause(archive["waits_for"]) != certificate.WAITS_FOR_OTHERS.capitalize()


def test_no_copies_are_sealed_of_a_study_that_is_to_be_anonymous_and_can_not_be_destroyed(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, reached = clinic.box, list[str]()
    clinic.receive(*GONE[1:])
    put_aside(box, GONE[0], monkeypatch)
    clinic.deliver()
    asked = approve(box, study_of(box, GONE[1]).id, method=Method.ANONYMISE)
    purging.carry_out(box, LATER, purging.Around(reached=reached.append))
    assert reached == []
    with box.catalog.reading() as conn:
        assert destructions.request(conn, asked).state is State.WITHDRAWN


@pytest.mark.parametrize("of", ["another study", "nobody, since it is damaged"])
def test_one_that_is_not_of_the_study_keeps_it_from_nothing(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    box = clinic.box
    another = next(each for each in IMAGES if each.study_instance_uid != GONE[0].study_instance_uid)
    clinic.receive(*GONE)
    aside = put_aside(box, another, monkeypatch)
    if of != "another study":
        aside.write_bytes(b"nothing opens this")
    clinic.deliver()
    approve(box, study_of(box, GONE[0]).id)
    purging.carry_out(box, LATER)
    assert recorded(box) == []
    assert aside.exists()


@pytest.fixture
def sector(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[Path]]:
    """The record of an image of another study; while its context lasts the disk does not give it back."""
    another = next(each for each in IMAGES if each.study_instance_uid != GONE[0].study_instance_uid)
    clinic.receive(*GONE)
    aside, read_bytes = put_aside(clinic.box, another, monkeypatch), Path.read_bytes
    clinic.deliver()

    def read(path: Path) -> bytes:
        if path == aside:
            raise OSError(errno.EIO, "Input/output error")
        return read_bytes(path)

    @contextmanager
    def dying() -> Iterator[Path]:
        with monkeypatch.context() as bad:
            bad.setattr(Path, "read_bytes", read)
            yield aside

    return dying


def test_a_record_on_a_bad_sector_may_be_anybodys_and_keeps_no_image_from_being_received(
    clinic: Clinic, sector: Callable[[], AbstractContextManager[Path]]
) -> None:
    box = clinic.box
    approve(box, study_of(box, GONE[0]).id)
    with sector() as aside:
        purging.carry_out(box, LATER)
        assert len(recorded(box)) == len(GONE), "it waits"
        reception = Reception(box, "dicom-0")
        reception.close()
    assert aside.exists()
    purging.carry_out(box, LATER)
    assert recorded(box) == []


@pytest.mark.parametrize("method", list(Method))
def test_while_a_record_is_on_a_bad_sector_each_request_that_waits_for_it_says_so(
    clinic: Clinic,
    sector: Callable[[], AbstractContextManager[Path]],
    method: Method,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box = clinic.box
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    asked = approve(box, study_of(box, GONE[0]).id, method=method)

    def waits() -> bool:
        with box.catalog.reading() as conn:
            noted = unsettled.is_waiting(conn, asked)
        assert main(["retention", "requests", "--json"]) == 0
        out = capsys.readouterr()
        assert [each["waits"] for each in json.loads(out.out)] == [noted]
        assert (f"Request {asked} waits: the disk does not give back whose an image is" in out.err) == noted
        return noted

    assert not waits()
    with sector():
        purging.carry_out(box, LATER)
        assert waits()
        assert "no study is destroyed: of whom an image that is set aside is can't be read" in caplog.text
        assert "made anonymous" not in caplog.text
    purging.carry_out(box, LATER)
    assert not waits()


def test_a_record_that_goes_bad_while_studies_are_destroyed_stops_the_rest(
    clinic: Clinic,
    sector: Callable[[], AbstractContextManager[Path]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = clinic.box
    asked = approve(box, study_of(box, GONE[0]).id)
    monkeypatch.setattr(purging, "note_waiting", lambda *_: False)  # it was read a moment ago
    with sector():
        assert purging.carry_out(box, LATER) == 0
    assert "a study of an approved request waits: of whom an image that is set aside is" in caplog.text
    with box.catalog.reading() as conn:
        assert destructions.request(conn, asked).state is State.APPROVED


@pytest.mark.parametrize(
    ("method", "said"), [(Method.DESTROY, "destroyed"), (Method.ANONYMISE, "made anonymous")]
)
def test_what_waits_for_a_disk_is_told_as_what_was_asked_for(
    clinic: Clinic,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: Method,
    said: str,
) -> None:
    box = clinic.box
    clinic.receive(*GONE)
    clinic.deliver()
    approve(box, study_of(box, GONE[0]).id, method=method)

    def refuse(*_: object) -> None:
        raise OutOfResources("the disk is full")

    monkeypatch.setattr(purging, "_refuse_unless_ready", refuse)
    purging.carry_out(box, LATER)
    assert f"a study is {said} later: the disk is full" in caplog.text
