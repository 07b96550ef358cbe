"""What was received lately lies in the intake logs, under a key that no destruction ends: the certificate waits until they were written over."""

from __future__ import annotations

from base64 import b64encode

import pytest

from appliance.catalog import tombstones
from appliance.catalog.tombstones import PlaceState
from appliance.ingest import Reception, reception
from appliance.lifecycle import certificate, purging
from appliance.store.intake_log import BLOCK, metadata_in
from appliance.web.certificate_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import Clinic, eventually
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import recorded, send
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
