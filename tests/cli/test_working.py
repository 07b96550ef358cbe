"""Importing, finding, exporting, verifying, following deliveries: what is done with the box from day to day."""

import os
import select
from pathlib import Path
from typing import Any

import pydicom
import pytest

from appliance.box import open_box
from appliance.config import Config
from appliance.lifecycle import purging, verification
from tests.boxes import box_in, recorded
from tests.cli.conftest import Say
from tests.lifecycle.purge import LATER, approve


def data_set_of(file: Path) -> bytes:
    """The bytes of a Part 10 file behind its file meta group."""
    content = file.read_bytes()
    assert content[128:132] == b"DICM"
    return content[144 + int.from_bytes(content[140:144], "little") :]


def uid_of(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


# --- import, studies -------------------------------------------------------------------------------------------------


def test_a_folder_is_taken_in_and_found_again(say: Say, films: list[Path]) -> None:
    taken = say("import", films[0].parent)
    assert taken.code == 0, taken.err
    rows = say("studies", "--json").rows
    assert sum(row["instances"] for row in rows) == len(films)
    assert set(rows[0]) == {
        *("study_instance_uid", "patient_id", "patient_name", "birth_date", "study_date", "modalities"),
        *("description", "accession_number", "instances", "bytes"),
    }
    assert all(isinstance(row["modalities"], list) for row in rows)


def test_a_study_is_found_without_accents_and_capitals(say: Say, films: list[Path]) -> None:
    say("import", films[0].parent)
    names = {row["patient_name"] for row in say("studies", "--json", "helene", "COTE").rows}
    assert len(names) == 1
    assert names.pop().startswith("Côté")
    assert say("studies", "nobody of that name").out == "No study matches.\n"
    assert "Côté-Lévesque, Hélène" in say("studies", "helene").out
    assert len(say("studies", "--json", "--limit", 1).rows) == 1


def test_what_is_no_image_is_skipped_and_named(say: Say, films: list[Path], tmp_path: Path) -> None:
    junk = tmp_path / "letter.txt"
    junk.write_text("Dear colleague")
    outcome = say("import", junk, films[0])
    assert outcome.code == 65
    assert str(junk) in outcome.err
    assert "1 images taken in, 1 files skipped" in outcome.out
    assert len(say("studies", "--json").rows) == 1


def test_a_pipe_is_skipped_rather_than_waited_for(say: Say, films: list[Path]) -> None:
    os.mkfifo(films[0].with_name("pipe\x1b"))
    done = say("import", films[0].parent)
    assert done.code == 65
    assert "pipe·: it is no file" in done.err
    assert "1 files skipped." in done.out


def test_a_wrong_path_imports_nothing(say: Say, films: list[Path], tmp_path: Path) -> None:
    assert say("import", films[0], tmp_path / "nowhere").code == 66
    assert say("studies", "--json").rows == []


def test_importing_again_stores_nothing_twice(say: Say, films: list[Path]) -> None:
    say("import", films[0])
    say("import", films[0])
    (row,) = say("studies", "--json").rows
    assert row["instances"] == 1


# --- export ----------------------------------------------------------------------------------------------------------


def test_an_export_is_byte_for_byte_what_was_received(say: Say, films: list[Path], tmp_path: Path) -> None:
    say("import", films[0].parent)
    sent = {uid_of(film): data_set_of(film) for film in films}
    for number, row in enumerate(say("studies", "--json").rows):
        assert say("export", row["study_instance_uid"], "--to", tmp_path / "out" / str(number)).code == 0
    exported = sorted((tmp_path / "out").rglob("*.dcm"))
    assert {uid_of(file): data_set_of(file) for file in exported} == sent
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".dcm"]


def test_an_export_is_named_by_order_and_never_by_uids(say: Say, films: list[Path], tmp_path: Path) -> None:
    say("import", films[0].parent)
    outcome = say("export", "helene bilan", "--to", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.dcm"))
    assert len(names) == 19
    assert all(name.split("/")[0] in {"01-PX", "02-IO"} for name in names)
    films_in_order = [
        int(pydicom.dcmread(tmp_path / "out" / name).InstanceNumber) for name in names if "IO" in name
    ]
    assert films_in_order == sorted(films_in_order)


def test_an_export_never_overwrites(say: Say, films: list[Path], tmp_path: Path) -> None:
    say("import", films[0].parent)
    target = tmp_path / "out"
    (target / "02-IO").mkdir(parents=True)
    precious = target / "02-IO" / "0018.dcm"
    precious.write_text("precious")
    outcome = say("export", "helene bilan", "--to", target)
    assert outcome.code == 65
    assert precious.read_text() == "precious"
    assert [path for path in target.rglob("*") if path.is_file()] == [precious], (
        "refused before the first byte"
    )


def test_an_export_needs_exactly_one_study(say: Say, films: list[Path], tmp_path: Path) -> None:
    say("import", films[0].parent)
    assert say("export", "1.2.3.4", "--to", tmp_path / "out").code == 66
    assert say("export", "", "--to", tmp_path / "out").code == 66
    assert say("export", "2026", "--to", tmp_path / "out").code in {65, 66}
    assert not (tmp_path / "out").exists()


def test_an_export_to_a_forbidden_folder_says_so(say: Say, films: list[Path]) -> None:
    say("import", films[0])
    assert say("export", "helene", "--to", Path("/proc/out")).code == 78  # not even root may write there


def test_an_export_that_is_cut_short_is_in_the_audit(
    say: Say, films: list[Path], data_dir: Path, tmp_path: Path
) -> None:
    say("import", films[0].parent)
    victims = objects_in(data_dir)
    for victim in victims[len(victims) // 2 :]:
        victim.unlink()
    out = tmp_path / "out"
    codes = [
        say("export", row["study_instance_uid"], "--to", out / str(number)).code
        for number, row in enumerate(say("studies", "--json").rows)
    ]
    assert any(codes)
    assert list(out.rglob("*.dcm")), "what was written before lies there in clear"
    told = [row for row in say("audit", "export").rows if row["action"] == "study:export"]
    assert len(told) == len(codes)


# --- verify ----------------------------------------------------------------------------------------------------------


def objects_in(data: Path) -> list[Path]:
    return sorted((data / "objects").rglob("*.sealed"))


def test_whole_objects_verify(say: Say, films: list[Path]) -> None:
    say("import", *films[:3])
    assert "3 objects opened: all are whole" in say("verify").out
    whole = say("verify", "--all", "--json")
    assert (whole.code, whole.rows) == (0, [])


def test_how_far_a_verification_is_is_shown_on_a_terminal_and_nowhere_else(
    say: Say, films: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    say("import", *films[:3])
    assert say("verify", "--all").err == ""
    ours, theirs = os.openpty()
    try:
        with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
            patch.setattr("sys.stderr", terminal)
            assert say("verify", "--all").code == 0
            shown = ""
            while (
                shown.count("\r") < 5 and select.select([ours], [], [], 60)[0]
            ):  # a terminal gives it in pieces
                shown += os.read(ours, 1000).decode()
    finally:
        os.close(ours)
    assert shown.split("\r") == ["", "0 of 3", "1 of 3", "2 of 3", "3 of 3", ""]


def test_one_altered_byte_is_found_and_is_76(say: Say, films: list[Path], data_dir: Path) -> None:
    say("import", *films[:3])
    victim = objects_in(data_dir)[1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    outcome = say("verify", "--all", "--json")
    assert outcome.code == 76
    assert [(row["object_id"], row["problem"]) for row in outcome.rows] == [(victim.stem, "corrupt")]
    assert "damaged" in {problem["code"] for problem in say("status", "--json").rows["problems"]}
    victim.write_bytes(
        bytes(content[: len(content) // 2])
        + bytes([content[len(content) // 2] ^ 1])
        + content[len(content) // 2 + 1 :]
    )
    assert say("verify", "--all").code == 0
    assert "damaged" not in {problem["code"] for problem in say("status", "--json").rows["problems"]}


@pytest.mark.parametrize("damage", ["missing", "cut", "longer"])
def test_a_quick_verification_finds_what_is_missing_or_has_another_length(
    say: Say, films: list[Path], data_dir: Path, damage: str
) -> None:
    say("import", *films[:2])
    victim = objects_in(data_dir)[0]
    content = victim.read_bytes()
    victim.unlink()
    if damage != "missing":
        victim.write_bytes(content[:-100] if damage == "cut" else content + bytes(100))
    outcome = say("verify", "--json")
    assert outcome.code == 76
    assert [row["object_id"] for row in outcome.rows] == [victim.stem]


def test_a_study_that_is_destroyed_on_purpose_while_everything_is_read_is_no_loss(
    say: Say, films: list[Path], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the jobs, as two people have decided; the verification had its list before."""
    say("import", *films[:3])
    with box_in(data_dir) as box:
        approve(box, recorded(box)[0].study_id)
    look = verification._finding
    left = [LATER]

    def meanwhile(*of: Any) -> verification.Finding | None:
        if left:
            with box_in(data_dir) as box:
                assert purging.carry_out(box, left.pop()) == 1
        return look(*of)

    monkeypatch.setattr(verification, "_finding", meanwhile)
    outcome = say("verify", "--all")
    assert outcome.code == 0, outcome.err
    assert "0 objects read in full: all are whole" in outcome.out
    assert "damaged" not in {problem["code"] for problem in say("status", "--json").rows["problems"]}


# --- audit -----------------------------------------------------------------------------------------------------------


def test_the_audit_verifies_and_exports(say: Say, films: list[Path]) -> None:
    say("import", films[0])
    verified = say("audit", "verify")
    assert verified.code == 0
    witness = verified.out.split(": ")[-1].strip()
    actions = [row["action"] for row in say("audit", "export").rows]
    assert actions == ["instance:receive", "study:import", "audit:verify", "audit:export"]
    lines = say("audit", "export", "--csv").out.splitlines()
    assert lines[0].startswith("id,at_utc,actor")
    assert len(lines) == 6
    assert say("audit", "verify", "--witness", witness).code == 0


def test_a_rolled_back_audit_is_found_through_the_witness(
    say: Say, films: list[Path], data_dir: Path
) -> None:
    say("import", films[0])
    early = (data_dir / "catalog.db").read_bytes()
    say("import", films[1])
    witness = say("audit", "verify").out.split(": ")[-1].strip()
    for name in ("catalog.db-wal", "catalog.db-shm"):
        (data_dir / name).unlink(missing_ok=True)
    (data_dir / "catalog.db").write_bytes(early)
    assert say("audit", "verify").code == 0, "alone, an old log is a whole log"
    outcome = say("audit", "verify", "--witness", witness)
    assert outcome.code == 76
    assert "altered" in outcome.err


# --- deliveries ------------------------------------------------------------------------------------------------------


@pytest.fixture
def owed(say: Say, films: list[Path], tmp_path: Path) -> int:
    """The number of a delivery that waits for a folder."""
    say("destination", "add", "folder", "hand-over", "--path", tmp_path)
    say("rule", "add", "--to", "hand-over")
    say("import", films[0])
    (row,) = say("deliveries", "--json").rows
    return int(row["id"])


def test_a_delivery_is_listed_with_the_keys_of_the_contract(say: Say, owed: int, films: list[Path]) -> None:
    (row,) = say("deliveries", "--json").rows
    assert list(row) == [
        *("id", "destination", "state", "study_instance_uid", "sop_instance_uid"),
        *("attempts", "next_attempt_utc", "receipt"),
    ]
    assert (row["destination"], row["state"], row["attempts"]) == ("hand-over", "PENDING", 0)
    assert row["sop_instance_uid"] == uid_of(films[0])
    assert say("deliveries", "list", "--json").rows == [row]
    assert say("deliveries", "--json", "list").rows == [row]
    assert say("deliveries", "list", "--state", "CONFIRMED", "--json").rows == []
    assert say("deliveries", "--destination", "nowhere").code == 66
    assert "PENDING" in say("deliveries").out


def test_a_delivery_is_paused_resumed_cancelled_and_retried(say: Say, owed: int) -> None:
    for verb, state in (
        *(("pause", "PAUSED"), ("resume", "PENDING"), ("cancel", "CANCELLED")),
        ("retry", "PENDING"),
    ):
        assert say("deliveries", verb, owed).code == 0
        assert say("deliveries", "show", owed, "--json").rows["state"] == state
    steps = [event["event"] for event in say("deliveries", "show", owed, "--json").rows["events"]]
    assert steps == ["owe", "pause", "resume", "cancel", "retry"]
    assert f"Delivery {owed} to hand-over" in say("deliveries", "show", owed).out


def test_what_cannot_be_decided_is_refused_whole(say: Say, owed: int) -> None:
    assert say("deliveries", "resume", owed).code == 65
    assert say("deliveries", "pause", owed, owed + 1).code == 66
    assert say("deliveries", "show", owed, "--json").rows["state"] == "PENDING", "all or none"
    assert say("deliveries", "pause").code == 64
    assert say("deliveries", "pause", owed, "--destination", "hand-over").code == 64


def test_all_of_a_destination_are_decided_at_once_but_a_cancellation_stands(say: Say, owed: int) -> None:
    assert say("deliveries", "cancel", "--destination", "hand-over").code == 0
    assert "0 deliveries" in say("deliveries", "retry", "--destination", "hand-over").out
    assert say("deliveries", "show", owed, "--json").rows["state"] == "CANCELLED"


# --- status and configuration ----------------------------------------------------------------------------------------


def test_a_box_without_its_processes_is_not_ready_and_says_what_to_do(say: Say) -> None:
    status = say("status", "--json")
    assert status.code == 0
    assert status.rows["ready"] is False
    blocking = {each["code"] for each in status.rows["problems"] if each["blocks"]}
    assert blocking == {"dicom-stopped", "courier-stopped", "jobs-stopped", "web-stopped"}
    assert all(each["words"] and each["fix"] for each in status.rows["problems"])
    assert say("status").out.startswith("Not ready.")


def test_a_box_that_cannot_be_opened_is_a_status_too(say: Say, data_dir: Path) -> None:
    open_box(Config(data=data_dir)).close()
    (data_dir / "keys" / "machine.key").write_bytes(os.urandom(32))
    outcome = say("status", "--json")
    assert outcome.code == 78
    assert outcome.rows["ready"] is False
    assert outcome.rows["problems"][0]["fix"]
    assert say("studies").code == 78


def test_a_wrong_setting_is_one_line_with_its_remedy(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLIANCE_WEB_PROT", "8081")
    outcome = say("status")
    assert outcome.code == 78
    assert (
        outcome.err
        == "appliance: there is no setting APPLIANCE_WEB_PROT (the environment) — did you mean APPLIANCE_WEB_PORT?\n"
    )
