"""Once a study was destroyed, the intake logs hold nothing of it, though settled records usually stay until their next turn."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.box import Box
from appliance.catalog import erasure, settings, study_keys, tombstones
from appliance.ingest import Reception, reception, scouring
from appliance.store.intake_log import BLOCK, IntakeLog, Slot
from tests.boxes import box_in, data_set_of, recorded, send
from tests.instances import Instance

ONE = Instance(1, study=1, pixel_bytes=3_000, patient_id="GONE", patient_name="Zzyzxmarker^Alma")
OTHER = Instance(2, study=2, pixel_bytes=3_000)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "data") as opened:
        yield opened


def readable(box: Box) -> bytes:
    """The metadata of every record in the logs, of whichever epoch, settled or not."""
    cipher, found = AESGCM(box.intake_key), []
    for path in box.intake_folder.glob("*.log"):
        data = path.read_bytes()
        for at in range(BLOCK, len(data), BLOCK):
            head = data[at : at + 36]
            (length,) = struct.unpack_from("<I", head, 24)
            sealed = data[at + 40 : at + 40 + length]
            try:
                found.append(cipher.decrypt(sealed[:12], sealed[12:], head))
            except (InvalidTag, ValueError):
                continue
    return b"".join(found)


def destroy(box: Box) -> None:
    (row,) = [each for each in recorded(box) if each.sop_instance_uid == ONE.sop_instance_uid]
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        erased = erasure.erase(tx, row.study_id, now)
        assert erased is not None
        begun = tombstones.begin(tx, None, {}, now)
        tombstones.bury(
            tx, begun, erased, why={}, elsewhere={}, exports=0, manifest="m", archives=[], now=now
        )


def test_a_log_is_written_over_at_the_next_start(box: Box) -> None:
    first = Reception(box, "worker")
    send(first, ONE)
    send(first, OTHER)
    first.close()
    assert b"Zzyzxmarker" in readable(box), "the test can see"
    destroy(box)
    assert b"Zzyzxmarker" in readable(box)
    again = Reception(box, "worker")
    assert readable(box) == b""
    send(again, Instance(3, study=2, pixel_bytes=3_000))
    again.close()
    assert len(recorded(box)) == 2


def test_a_process_that_goes_on_does_it_when_it_is_quiet_and_loses_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(reception, "_QUIET_SECONDS", 0.02)
    running = Reception(box, "worker")
    try:
        send(running, ONE)
        send(running, OTHER)
        eventually(lambda: len(recorded(box)) == 2)
        destroy(box)
        for number in range(10, 40):  # in the midst of it
            send(running, Instance(number, study=3, pixel_bytes=3_000))
        eventually(lambda: b"Zzyzxmarker" not in readable(box))
        eventually(lambda: len(recorded(box)) == 31)
    finally:
        running.close()
    assert all(data_set_of(box, row) for row in recorded(box))


def test_a_process_that_is_never_quiet_does_it_between_two_batches(
    box: Box, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(reception, "_QUIET_SECONDS", 3600.0)
    monkeypatch.setattr(reception, "_BUSY_SECONDS", 0.0)
    running = Reception(box, "worker")
    try:
        send(running, ONE)
        eventually(lambda: len(recorded(box)) == 1)
        destroy(box)
        send(running, OTHER)
        eventually(lambda: b"Zzyzxmarker" not in readable(box))
        eventually(lambda: len(recorded(box)) == 1)
    finally:
        running.close()


def test_a_log_is_written_over_once_more_where_a_destroyed_key_came_into_it_late(
    box: Box, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    """By an image of the study that was sealed just before and waited for room: it stays, under another key."""
    monkeypatch.setattr(reception, "_QUIET_SECONDS", 0.02)
    late = Instance(3, study=1, pixel_bytes=3_000, patient_id="GONE", patient_name="Zzyzxmarker^Alma")
    running = Reception(box, "worker")
    append = running._log.append

    def done() -> int:
        with box.catalog.reading() as conn:
            return scouring.scoured(conn, "worker")

    def destroyed_before(*given: Any, **named: Any) -> Slot:
        destroy(box)
        eventually(lambda: done() == 1)
        with box.catalog.transaction() as tx:
            settings.put(tx, scouring.LOGS, 1, datetime.now(UTC))
        monkeypatch.setattr(reception, "_QUIET_SECONDS", 3600.0)
        return append(*given, **named)

    try:
        send(running, ONE)
        eventually(lambda: len(recorded(box)) == 1)
        with box.catalog.reading() as conn:
            ((_, wrapped),) = study_keys.keys_of_study(conn, ONE.study_instance_uid)
        monkeypatch.setattr(running._log, "append", destroyed_before)
        send(running, late)
        eventually(lambda: len(recorded(box)) == 1)
        with box.catalog.reading() as conn:
            assert settings.get(conn, scouring.LOGS) is None, "a certificate waits again"
    finally:
        running.close()
    assert b64encode(wrapped) in readable(box), "the test can see"
    Reception(box, "worker").close()
    assert readable(box) == b"" and done() == 1
    assert [data_set_of(box, row) for row in recorded(box)] == [late.data_set]


def test_a_log_that_nobody_has_open_is_written_over_by_whoever_asks(
    box: Box, eventually: Callable[..., None]
) -> None:
    running = Reception(box, "worker")
    try:
        send(running, ONE)
        send(running, OTHER)
        eventually(lambda: len(recorded(box)) == 2)
        destroy(box)
        assert not scouring.scour_idle(box, 1, datetime.now(UTC)), "its process has it open"
    finally:
        running.close()
    assert b"Zzyzxmarker" in readable(box), "a process that ends does not write over it"
    assert scouring.scour_idle(box, 1, datetime.now(UTC))
    assert readable(box) == b""
    Reception(box, "worker").close()
    assert len(recorded(box)) == 1


def test_a_log_that_nobody_has_open_keeps_what_may_not_be_settled(box: Box) -> None:
    (box.intake_folder).mkdir(exist_ok=True)
    log = IntakeLog(box.intake_folder, "worker", box.intake_key, box.config.store.log_bytes)
    log.append(b"acknowledged", [b"body"], patience_seconds=1)
    log.close()  # as a process that dies
    assert not scouring.scour_idle(box, 1, datetime.now(UTC))
    assert readable(box) == b"acknowledged"
    with box.catalog.reading() as conn:
        assert scouring.scoured(conn, "worker") == 0


def test_what_is_not_settled_is_never_written_over(tmp_path: Path) -> None:
    key = bytes(32)
    log = IntakeLog(tmp_path, "worker", key, 4 << 20)
    slot = log.append(b"told", [b"body"], patience_seconds=1)
    assert not log.scour()
    log.settled([slot])
    assert log.scour()
    log.close()
