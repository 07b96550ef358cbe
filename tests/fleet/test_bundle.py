"""A support file says how the box does, and nothing of a patient, whatever stood in its logs."""

import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from appliance import __version__, audit, logs, settings
from appliance.box import Box, open_box
from appliance.catalog import destinations, identifying
from appliance.catalog.schema import patients
from appliance.cli.command import main
from appliance.config import Config
from appliance.errors import Corrupt, OperatorNeeded
from appliance.fleet import bundle, known
from appliance.fleet.bundle import Bundle
from appliance.fleet.markers import Markers
from appliance.model import DestinationSettings
from tests.age_reader import READER, opened
from tests.fleet.outposts import unpacked
from tests.synthetic.patients import FRANCOIS, HELENE, ZOE
from tests.web.conftest import add_owner, fill

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENTS = (HELENE, FRANCOIS, ZOE)
"""Of the synthetic morning."""
PASSWORD = "a-secret-of-the-bucket"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    opened_box = open_box(Config(data=tmp_path_factory.mktemp("box")))
    add_owner(opened_box)
    fill(opened_box)
    with opened_box.catalog.transaction() as tx:
        settings.change(
            tx,
            opened_box.audit_key,
            {
                "mail.password": "a-secret-of-the-mail",
                "clinic.name": "Clinique du Lac",
                "clinic.privacy_officer_name": "Odile Roy",
                "plan.place": "derrière le poêle",
                "plan.key_holder": "Ginette Côté",
                "plan.phones": "Ginette 514 555-0142",
            },
            actor="tests",
            now=NOW,
            root=opened_box.root,
        )
        options = {"bucket": "b", "region": "ca-central-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE"}
        destinations.add(
            tx,
            DestinationSettings(
                name="cloud", kind="s3", takes="ciphertext", options=options, secret=PASSWORD
            ),
        )
    yield opened_box
    opened_box.close()


@pytest.fixture(scope="module")
def made(box: Box) -> Bundle:
    """A support file of a box whose processes have said what they must not say."""
    folder = box.config.data / logs.FOLDER
    folder.mkdir(exist_ok=True)
    said = [f"found {each.family_name}^{each.given_name} as {each.id}" for each in PATIENTS]
    said += [each.birth_date for each in PATIENTS]
    said += [f"gave {PASSWORD} and a-secret-of-the-mail", "an ordinary event: count=3"]
    (folder / "courier.log").write_text("".join(json.dumps({"event": each}) + "\n" for each in said))
    return bundle.make(box, NOW)


def test_nothing_of_a_patient_and_no_secret_is_in_it(box: Box, made: Bundle) -> None:
    with box.catalog.reading() as conn:
        assert {each.name for each in PATIENTS} <= {text for _, text in identifying.identifying(conn)}
    text = "".join(unpacked(made.data).values()).casefold()
    for each in PATIENTS:
        for marker in (each.family_name, each.id, each.birth_date):
            assert marker.casefold() not in text
    for secret in (PASSWORD, "a-secret-of-the-mail", "AKIAIOSFODNN7EXAMPLE"):
        assert secret.casefold() not in text


def test_what_was_cut_is_counted(made: Bundle) -> None:
    told = json.loads(made.files["contents.json"])
    assert told["cut"] == dict(made.cut)
    assert made.cut["secret"] >= 3
    assert made.cut["shape"] + made.cut.get("name", 0) >= len(PATIENTS)
    assert made.cut["birth_date"] >= 1
    assert "an ordinary event: count=3" in made.files["logs/courier.log"]


def test_it_says_how_the_box_does(made: Bundle) -> None:
    health = json.loads(made.files["health.json"])
    assert health["instances"] > 0
    assert {each["code"] for each in health["problems"]}
    assert json.loads(made.files["counts.json"])["instances"] == health["instances"]
    assert json.loads(made.files["versions.json"])["parts"]["pynetdicom"]
    assert [each["name"] for each in json.loads(made.files["configuration.json"])["destinations"]] == [
        "cloud"
    ]


def test_people_of_the_clinic_are_not_in_it(made: Bundle) -> None:
    text = "".join(made.files.values())
    assert "Clinique du Lac" not in text
    assert "Odile" not in text
    for piece in ("poêle", "Ginette", "Côté", "555-0142", "plan."):
        assert piece not in text


def test_the_archive_has_what_is_shown_before(made: Bundle) -> None:
    assert unpacked(made.data) == {f"{made.name}/{name}": text for name, text in made.files.items()}


def test_sealed_for_the_vendor_it_opens_to_the_vendor_alone(made: Bundle) -> None:
    sealed = made.sealed_for(READER)
    assert b"contents.json" not in sealed
    assert opened(sealed) == made.data


def test_only_a_file_that_was_written_was_taken(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken() -> int:
        with box.catalog.reading() as conn:
            return [each["action"] for each in audit.export(conn)].count("support:take")

    def is_full(file: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    before = taken()
    assert main(["support", "file", "--to", str(tmp_path / "nowhere")]) == OperatorNeeded.exit_code
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", is_full)
        assert main(["support", "file", "--to", str(tmp_path)]) == OperatorNeeded.exit_code
    assert (taken(), list(tmp_path.iterdir())) == (before, []), "and half a file is none"
    assert main(["support", "file", "--to", str(tmp_path)]) == 0
    assert (taken(), len(list(tmp_path.iterdir()))) == (before + 1, 1)


def test_a_file_that_still_holds_something_is_not_made(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look is a look: with a first one that sees nothing, it stops the file."""
    monkeypatch.setattr(bundle, "_cut_within", lambda markers, document, counted: document)
    with pytest.raises(Corrupt, match="thrown away"):
        bundle.make(box, NOW)


@pytest.fixture
def small(data_dir: Path) -> Iterator[Box]:
    """A box that knows nobody yet."""
    with closing(open_box(Config(data=data_dir))) as opened_box:
        (data_dir / logs.FOLDER).mkdir(exist_ok=True)
        yield opened_box


def knows(box: Box, **patient: str) -> None:
    common = {"patient_id": "P-77777", "issuer": "", "name": "Roy^Ana", "birth_date": "19500512", "sex": "F"}
    with box.catalog.transaction() as tx:
        tx.execute(insert(patients).values(**(common | {"name_folded": ""} | patient)))


OWN = {
    "a number that is the year": {"patient_id": "2026"},
    "born on the day of the file": {"birth_date": f"{NOW:%Y%m%d}"},
    "called like a file": {"name": "Read^Contents"},
    "called like a process": {"name": "Courier^Web"},
}


@pytest.mark.parametrize("who", OWN)
def test_a_patient_who_is_called_as_the_box_speaks_does_not_stop_it(small: Box, who: str) -> None:
    knows(small, **OWN[who])
    (small.config.data / logs.FOLDER / "courier.log").write_text("2026-03-01 Courier: read the contents\n")
    made = bundle.make(small, NOW)
    told = json.loads(made.files["contents.json"])
    assert told["made_utc"] == NOW.isoformat(timespec="seconds")
    assert told["files"] == sorted(made.files), "the list of what is in it can be read"
    assert "[cut: " in made.files["logs/courier.log"], "in what was not written for the list it is cut"


@pytest.mark.parametrize("place", ["logs/courier.log", "health.json", "contents.json"])
def test_whatever_is_left_of_a_patient_in_any_file_stops_it(small: Box, place: str) -> None:
    """Also in the list of contents, should it ever hold more than the words of the box."""
    knows(small, patient_id="2026")
    with small.catalog.reading() as conn:
        markers = known.markers(conn, small)
    files = dict(bundle.make(small, NOW).files)
    files.setdefault(place, "")
    own = {NOW.isoformat(timespec="seconds"), __version__, *files}
    bundle._look_again(markers, files, own)
    files[place] = json.dumps({"said": "found 2026"}) if place.endswith(".json") else "found 2026\n"
    with pytest.raises(Corrupt, match="thrown away"):
        bundle._look_again(markers, files, own)


def test_a_secret_that_is_a_word_of_our_own_marks_does_not_stop_it() -> None:
    markers = Markers([("name", "Roy^Ana")], ["secret"])
    left, counted = markers.cut("Ana said secret")
    assert (left, counted) == ("[cut: name] said [cut: secret]", {"name": 1, "secret": 1})
    assert markers.cut(left) == (left, {})


def test_the_last_lines_of_a_process_are_kept_and_bounded(tmp_path: Path) -> None:
    kept = logs.Kept(tmp_path / "logs" / "web.log", most_bytes=1000)
    kept.setFormatter(logs.JsonLines("web"))
    for number in range(100):
        kept.emit(logging.LogRecord("x", logging.INFO, "", 0, "event %d", (number,), None))
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["web.log", "web.log.1"] or files == ["web.log.1"]
    assert sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) < 2500
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    text = logs.kept_lines(tmp_path)["web"]
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert events == [f"event {number}" for number in range(100 - len(events), 100)]


def test_a_process_does_not_fail_for_its_log(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    kept = logs.Kept(tmp_path / "logs" / "web.log")
    kept.setFormatter(logs.JsonLines("web"))
    kept.emit(logging.LogRecord("x", logging.INFO, "", 0, "event", (), None))
