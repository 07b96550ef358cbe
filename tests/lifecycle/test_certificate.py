"""A certificate of destruction says what was destroyed and what is left, names nobody, and shows any change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import audit
from appliance.box import Box
from appliance.catalog import destinations, erasure, tombstones
from appliance.catalog.columns import canonical_json
from appliance.catalog.tombstones import Certificate, PlaceState
from appliance.cli import main
from appliance.errors import Refused
from appliance.lifecycle import certificate, laws
from appliance.lifecycle.policy import RecordType, Starts
from appliance.model import DestinationSettings
from appliance.web.certificate_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.boxes import box_in, send
from tests.instances import Instance
from tests.lifecycle.purge import GONE, MARKERS, study_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
RULES: dict[str, Any] = {
    "keep_until": "2026-03-14",
    "rules": [
        {
            "rule": "qc-medical-minor",
            "until": "2026-03-14",
            "years": 10,
            "starts": "majority",
            "basis": "law",
            "source": "M-9, r. 20.3",
            "verified": None,
        }
    ],
}
AUTHORITY = {
    "request": 4,
    "method": "destroy",
    "asked_by": "marie",
    "asked_utc": "2026-11-25T15:00:00.000000Z",
    "approved_by": "paul",
    "approved_utc": "2026-11-25T16:00:00.000000Z",
    "digest": "ab",
}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "data") as opened:
        yield opened


def receive(box: Box, *images: Instance) -> None:
    from appliance.ingest import Reception

    reception = Reception(box, "worker")
    for each in images:
        send(reception, each)
    reception.close()


def destroyed(box: Box, *images: Instance) -> Certificate:
    """A study is destroyed that went to a bucket, which has done its part, and to a disk, which has not."""
    receive(box, *images)
    study = study_of(box, images[0])
    with box.catalog.transaction() as tx:
        bucket = destinations.add(tx, DestinationSettings("cloud", "s3", "ciphertext", {}))
        disk = destinations.add(tx, DestinationSettings("usb", "vault", "ciphertext", {}))
        erased = erasure.erase(tx, study.id, NOW)
        assert erased is not None
        begun = tombstones.begin(tx, 4, AUTHORITY, NOW)
        tombstones.bury(
            tx,
            begun,
            erased,
            why=RULES,
            elsewhere={"pacs": 2},
            exports=1,
            manifest="manifests/00.sealed",
            archives=[bucket, disk],
            now=NOW,
        )
        tombstones.close(tx, begun.id, NOW)
        detail = {"snapshot": "20261126T120000Z-01234567", "older": 3}
        tombstones.move(tx, begun.id, bucket, PlaceState.DONE, NOW, detail=detail)
        return tombstones.certificate(tx, begun.label)


def issued(box: Box, found: Certificate) -> bytes:
    with box.catalog.transaction() as tx:
        return certificate.issue(tx, box.root, found, NOW)


def test_it_says_what_was_destroyed_on_whose_word_and_what_is_left(box: Box) -> None:
    found = destroyed(box, *GONE)
    with box.catalog.reading() as conn:
        told = certificate.verify(conn, box.root, issued(box, found)).document
    (study,) = told["studies"]
    assert (study["images"], study["given_in_clear"], study["exports"]) == (3, {"pacs": 2}, 1)
    assert (told["authority"]["asked_by"], told["authority"]["approved_by"]) == ("marie", "paul")
    by_name = {each["name"]: each for each in told["archives"]}
    assert (by_name["usb"]["state"], by_name["usb"]["versions_until_utc"]) == ("OWED", None)
    assert (by_name["cloud"]["state"], by_name["cloud"]["older_backups"]) == ("DONE", 3)
    assert by_name["cloud"]["versions_until_utc"][:10] == f"{NOW + timedelta(days=35):%Y-%m-%d}"
    assert told["completed_utc"] is None


def test_it_names_nobody_and_tells_no_birthday(box: Box) -> None:
    text = issued(box, destroyed(box, *GONE))
    for marker in (*MARKERS, GONE[0].study_instance_uid.encode(), b"03-14"):
        assert marker not in text


def test_any_change_shows_and_another_box_is_told_from_this_one(box: Box, tmp_path: Path) -> None:
    text = issued(box, destroyed(box, *GONE))
    with box.catalog.reading() as conn:
        right = certificate.verify(conn, box.root, text)
        assert right.ours
        assert right.fingerprint == certificate.fingerprint(box.root)

        def changed(path: tuple[Any, ...], value: Any) -> bytes:
            told = json.loads(text)
            place = told
            for each in path[:-1]:
                place = place[each]
            assert place[path[-1]] != value
            place[path[-1]] = value
            return json.dumps(told).encode()

        for path, value in (
            (("document", "authority", "approved_by"), "marie"),
            (("document", "studies", 0, "images"), 2),
            (("document", "archives", 1, "state"), "DONE"),
            (("document", "completed_utc"), "2026-11-26T12:00:00.000000Z"),
            (("signature", "value"), "00" * 64),
        ):
            with pytest.raises(Refused, match="changed"):
                certificate.verify(conn, box.root, changed(path, value))
        for beside in (
            {"note": "\ud800"},
            {"note": "x"},
            {"value": json.loads(text)["signature"]["value"].upper()},
        ):
            told = json.loads(text)
            told["signature"] |= beside
            assert certificate.verify(conn, box.root, json.dumps(told).encode()) == right, "it is not signed"
        for other in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000, json.dumps({"document": {}}).encode()):
            with pytest.raises(Refused, match="no certificate"):
                certificate.verify(conn, box.root, other)
    with box_in(tmp_path / "other") as other_box, other_box.catalog.reading() as conn:
        assert not certificate.verify(conn, other_box.root, text).ours


def test_line_ends_that_the_mail_has_changed_alter_no_certificate(box: Box) -> None:
    text = issued(box, destroyed(box, *GONE))
    with box.catalog.reading() as conn:
        for came in (text, text.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + text, text.rstrip()):
            found = certificate.verify(conn, box.root, came)
            assert found.ours
            assert found.sha256 == certificate.digest(text), "as the paper says it"


def test_whoever_has_the_file_can_check_it_without_this_product(box: Box) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    told = json.loads(issued(box, destroyed(box, *GONE)))
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(told["signature"]["public_key"]))
    plain = json.dumps(told["document"], ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    public.verify(bytes.fromhex(told["signature"]["value"]), plain)
    assert plain == canonical_json(told["document"]).encode()


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
def test_it_is_in_plain_words_in_every_language(box: Box, language: str) -> None:
    found = destroyed(box, *GONE)
    words = Languages(web_ui() / "languages").words(language)
    with box.catalog.reading() as conn:
        told = certificate.document(conn, found, NOW)
    paper = worded(told, "AB-CD", words)
    assert paper.verdict_tone == "wait"
    assert [len(each.lines) for each in paper.sections] == [3, 1, 3, 5, 2]
    assert "pacs" in [line.label for line in paper.sections[3].lines]
    assert "M-9" in paper.sections[1].lines[0].text


OWN = "the clinic's own period, set by marie on 2026-11-25 UTC: our policy of 2026"


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "the clinic's own period, set by marie on 2026-11-25 UTC: our policy of 2026"),
        ("fr", "délai de la clinique, fixé par marie le 2026-11-25 UTC\u00a0: our policy of 2026"),
        ("es", "plazo propio de la clínica, fijado por marie el 2026-11-25 UTC: our policy of 2026"),
        ("zh", "诊所自定年限，由 marie 于 2026-11-25 UTC 设定：our policy of 2026"),
    ],
)
def test_it_says_by_whose_word_a_period_of_the_clinics_own_ran_out(
    box: Box, monkeypatch: pytest.MonkeyPatch, language: str, said: str
) -> None:
    figure = laws.OwnFigure(
        RecordType.MEDICAL, Starts.LAST_ENTRY, 12, "our policy of 2026", "marie", NOW - timedelta(days=1)
    )
    own, law = laws.book("QC", [figure]).rules[-1], RULES["rules"][0]
    rule = {**law, "rule": own.id, "basis": str(own.basis), "source": own.source}
    monkeypatch.setitem(RULES, "rules", [rule, law])
    found = destroyed(box, *GONE)
    with box.catalog.reading() as conn:
        told = certificate.verify(conn, box.root, issued(box, found)).document
    assert [(each["basis"], each["source"]) for each in told["studies"][0]["rules"]] == [
        ("clinic", OWN),
        ("law", "M-9, r. 20.3"),
    ]
    words = Languages(web_ui() / "languages").words(language)
    assert f"{said}; M-9, r. 20.3" in worded(told, "AB-CD", words).sections[1].lines[0].text


LAID_WAITS_FOR = (
    "the newest backup in usb did not pass its drill, so the older ones stay",
    "the clock of the box is in doubt, and the certificate is to say on which day nothing is left in the bucket",
    "the backup was interrupted",
    "the restore drill was interrupted",
    "a backup is being made already",
)


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
@pytest.mark.parametrize("why", LAID_WAITS_FOR)
def test_it_says_why_an_archive_waits_whose_keys_are_destroyed_already(
    box: Box, language: str, why: str
) -> None:
    found = destroyed(box, *GONE)
    words = Languages(web_ui() / "languages").words(language)
    with box.catalog.transaction() as tx:
        usb = next(each for each in tombstones.places(tx, found.id) if each.name == "usb").destination
        tombstones.move(tx, found.id, usb, PlaceState.LAID, NOW, reason=why)
        for hours in (1, 2):  # tried again, in vain
            later = NOW + timedelta(hours=hours)
            tombstones.move(tx, found.id, usb, PlaceState.LAID, later, reason=why)
        told = certificate.document(tx, found, NOW)
    (place,) = [each for each in told["archives"] if each["name"] == "usb"]
    assert (place["waits_for"], place["since_utc"]) == (why, "2026-11-26T12:00:00.000000Z")
    (line,) = [each for each in worded(told, "AB-CD", words).sections[2].lines if each.label == "usb"]
    assert line.text.startswith(words("destroyed.place.LAID")) and words.cause(why) in line.text
    assert (language == "en") == (words.cause(why).lower() == why)


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
def test_it_says_where_an_archive_was_that_has_moved(box: Box, language: str) -> None:
    found = destroyed(box, *GONE)
    words = Languages(web_ui() / "languages").words(language)
    with box.catalog.transaction() as tx:
        places = {each.name: each.destination for each in tombstones.places(tx, found.id)}
        tombstones.give_up(tx, found.id, places["usb"], NOW, reason=tombstones.MOVED)
        destinations.change(tx, "usb", {"path": "/media/old"})
        tombstones.complete(tx, found.id, NOW)
        told = certificate.document(tx, tombstones.certificate(tx, found.label), NOW)
        again = json.loads(canonical_json(told))
    (line,) = [each for each in worded(again, "AB-CD", words).sections[2].lines if each.label == "usb"]
    assert "/media/old" in line.text and line.tone == "bad"
    for each in again["archives"]:  # as earlier software has written it
        del each["where"], each["has_moved"]
    (line,) = [each for each in worded(again, "AB-CD", words).sections[2].lines if each.label == "usb"]
    assert line.text == words("destroyed.place.GIVEN_UP", at=words.moment(NOW))


def test_the_command_line_lists_shows_writes_and_checks(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = destroyed(box, *GONE)
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    assert main(["destruction", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["certificate"], row["studies"], row["images"], row["waiting"]) == (found.label, 1, 3, "usb")
    assert main(["destruction", "list"]) == 0
    assert main(["destruction", "show", found.label]) == 0
    assert "pacs: Was given 2 images in clear" in capsys.readouterr().out
    file, paper = tmp_path / "c.json", tmp_path / "c.pdf"
    command = ["destruction", "certificate", found.label, "--file", str(file), "--pdf", str(paper)]
    assert main([*command, "--language", "fr"]) == 0
    assert paper.read_bytes().startswith(b"%PDF")
    assert main(["destruction", "verify", str(file)]) == 0
    assert "this box issued it" in capsys.readouterr().out
    signed = file.read_bytes()
    file.write_bytes(signed.replace(b"\n", b"\r\n"))
    assert main(["destruction", "verify", str(file)]) == 0
    assert certificate.digest(signed) in capsys.readouterr().out
    file.write_bytes(signed.replace(b"paul", b"anne"))
    assert main(["destruction", "verify", str(file)]) == Refused.exit_code
    assert main(["destruction", "show", "D-1"]) != 0
    assert main(["destruction", "certificate", found.label]) == Refused.exit_code
    with box.catalog.reading() as conn:
        actions = [row["action"] for row in audit.export(conn)]
    assert actions.count("destruction:certify") == 1
