"""What was received lately lies in the intake logs, under a key that no destruction ends: the certificate waits until they were written over."""

from __future__ import annotations

import errno
from base64 import b64encode
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import instances, tombstones
from appliance.catalog.tombstones import PlaceState
from appliance.errors import Transient
from appliance.ingest import Reception, reception, set_aside
from appliance.ingest.awaiting import recorded_parts
from appliance.lifecycle import certificate, purging
from appliance.store.intake_log import BLOCK, metadata_in
from appliance.web.certificate_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import Clinic, eventually
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import recorded, send
from tests.instances import Instance
from tests.lifecycle.purge import GONE, LATER, MARKERS, approve, owed, secrets_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk


def test_the_certificate_waits_until_no_intake_log_holds_the_study(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that receives all day has it in its log; one that has ended does not keep the certificate waiting."""
    monkeypatch.setattr(reception, "_QUIET_SECONDS", 3600.0)
    box, languages = clinic.box, Languages(web_ui() / "languages")
    running = Reception(box, "dicom-0")

    def told() -> dict[str, object]:
        with box.catalog.reading() as conn:
            (paper,) = tombstones.certificates(conn)
            return certificate.document(conn, paper, LATER)

    try:
        for each in GONE:
            send(running, each)
        eventually(lambda: len(recorded(box)) == len(GONE))
        clinic.deliver()
        secrets = secrets_of(box, GONE[0])
        approve(box, secrets.row.id)
        for _ in range(3):
            purging.carry_out(box, LATER)
            clinic.deliver_until(lambda: not owed(clinic))
        clear = b"".join(metadata_in(box.intake_folder, box.intake_key))
        assert MARKERS[0] in clear and b64encode(secrets.bytes_[0]) in clear
        with box.catalog.reading() as conn:
            (paper,) = tombstones.certificates(conn, unfinished=True)
            (place,) = tombstones.places(conn, paper.id)
        assert place.state is PlaceState.DONE, "nothing else is left to do"
        assert told()["this_box"] == {"state": "OWED", "waits_for": "intake-log"}
        for words in map(languages.words, ("en", "fr", "es", "zh")):
            in_words = worded(told(), "AB-CD", words)
            assert in_words.verdict_tone == "wait"
            assert in_words.sections[2].lines[0].text == words("destroyed.here.log")
    finally:
        running.close()
    purging.carry_out(box, LATER)
    assert told()["this_box"] == {"state": "DONE", "unused_space": "written-over"}
    with box.catalog.reading() as conn:
        assert tombstones.certificates(conn, unfinished=True) == []
    for path in box.intake_folder.glob("*.log"):
        assert not any(path.read_bytes()[BLOCK:])


def left_in_its_part(box: Box, image: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process acknowledges `image`, which is too large for a log, and dies before it is settled."""

    def busy(*_: object) -> None:
        raise Transient("the catalog is busy")

    with monkeypatch.context() as while_busy:
        while_busy.setattr(reception, "accept", busy)
        running = Reception(box, "dicom-0")
        send(running, image)
        running.close()
    assert [each.received.header.sop_instance_uid for each in recorded_parts(box, "dicom-0")] == [
        image.sop_instance_uid
    ]


def this_box(box: Box) -> dict[str, object]:
    with box.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
        said: dict[str, object] = certificate.document(conn, paper, LATER)["this_box"]
        assert (paper.completed_utc is not None) == (said["state"] == "DONE")
    return said


def test_the_certificate_waits_for_a_large_image_whose_process_is_down(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its part has the record that a log would have: name, key and all. Another's part is nothing to it."""
    box = clinic.box
    clinic.receive(*GONE[:2])
    clinic.deliver()
    left_in_its_part(box, GONE[2], monkeypatch)
    approve(box, secrets_of(box, GONE[0]).row.id)
    for _ in range(3):
        purging.carry_out(box, LATER)
        clinic.deliver_until(lambda: not owed(clinic))
    assert this_box(box) == {"state": "OWED", "waits_for": "intake-log"}
    Reception(box, "dicom-0").close()  # it starts again
    assert [row.sop_instance_uid for row in recorded(box)] == [GONE[2].sop_instance_uid], "as a new study"
    left_in_its_part(box, Instance(50, study=5, pixel_bytes=2_400_000), monkeypatch)
    purging.carry_out(box, LATER)
    assert this_box(box) == {"state": "DONE", "unused_space": "written-over"}


def test_the_certificate_waits_while_an_image_that_came_before_is_set_aside_with_the_key(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = clinic.box
    clinic.receive(*GONE[:2])
    clinic.deliver()
    left_in_its_part(box, GONE[2], monkeypatch)
    approve(box, secrets_of(box, GONE[0]).row.id)
    carried_out = purging.carry_out(box, LATER)
    assert carried_out == 1
    with monkeypatch.context() as defect:
        defect.setattr(instances, "record_many", _refuse)
        Reception(box, "dicom-0").close()  # it can't be recorded
    (aside,) = set_aside.paths(box)
    assert not list(recorded_parts(box, "dicom-0"))
    read_bytes = Path.read_bytes

    def on_a_bad_sector(path: Path) -> bytes:
        if path == aside:
            raise OSError(errno.EIO, "Input/output error")
        return read_bytes(path)

    for _ in range(3):
        purging.carry_out(box, LATER)
        clinic.deliver_until(lambda: not owed(clinic))
    with monkeypatch.context() as sector:
        sector.setattr(Path, "read_bytes", on_a_bad_sector)
        purging.carry_out(box, LATER)
    assert this_box(box) == {"state": "OWED", "waits_for": "set-aside"}
    with box.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
        told = certificate.document(conn, paper, LATER)
        assert [each.state for each in tombstones.places(conn, paper.id)] == [PlaceState.DONE]
    for words in map(Languages(web_ui() / "languages").words, ("en", "fr", "es", "zh")):
        assert worded(told, "AB-CD", words).sections[2].lines[0].text == words("destroyed.here.set_aside")
    Reception(box, "dicom-0").close()  # mended: it is accepted, under another key
    assert not aside.exists() and len(recorded(box)) == 1
    purging.carry_out(box, LATER)
    assert this_box(box) == {"state": "DONE", "unused_space": "written-over"}


def _refuse(*_: object) -> None:
    raise ValueError("a defect")
