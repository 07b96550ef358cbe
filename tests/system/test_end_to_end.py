"""In by DICOM, out by `appliance export`: what was sent is what comes out, and what is refused leaves nothing."""

from __future__ import annotations

import os
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.cli import main
from tests import synthetic
from tests.dicom.corpus import Sample, paths, samples
from tests.dicom.peers import CT, DEFLATED, EXPLICIT, IMPLICIT, p_data, pdv
from tests.instances import Instance, element
from tests.replication.receivers import storescp
from tests.system.dcmtk import OPTION_OF, storescu, storescu_command
from tests.system.relay import line_that_stalls
from tests.system.running import CALLER, MIB, Appliance, appliance, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NESTING = 5000


def data_set_of(file: Path) -> bytes:
    """The bytes behind the file meta group, whose length must be right."""
    content = file.read_bytes()
    assert content[:132] == bytes(128) + b"DICM"
    assert content[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    return content[144 + int.from_bytes(content[140:144], "little") :]


def exported(box: Appliance, to: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The data sets of all that it holds, by `appliance export` of each study."""
    for name, value in box.environment.items():
        if name.startswith("APPLIANCE_"):
            monkeypatch.setenv(name, value)
    found = []
    for number, study in enumerate(box.studies()):
        folder = to / str(number)
        if number == 0:  # as typed; the others in this process, which spares starting another for each
            box.say("export", study["study_instance_uid"], "--to", folder)
        else:
            assert main(["export", study["study_instance_uid"], "--to", str(folder)]) == 0
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) == study["instances"]
        found += [data_set_of(file) for file in files]
    return sorted(found)


@pytest.fixture
def box(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Appliance]:
    with appliance(tmp_path / "box", free_port, start=["dicom"]) as running:
        yield running


def test_every_readable_file_comes_out_as_it_went_in(
    box: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(samples()) > 150
    sent = set()
    for sample in samples():
        with box.peer() as peer:
            peer.associate([(1, sample.sop_class_uid, [sample.transfer_syntax_uid])])
            answer = peer.store(sample.data_set, sample.sop_instance_uid, sample.sop_class_uid)
            assert answer.status == 0, (sample, answer.comment)
            peer.release()
        sent.add((sample.sop_instance_uid, sample.data_set))
    box.wait_for_instances(len(sent))
    assert exported(box, tmp_path / "out", monkeypatch) == sorted(data for _, data in sent)
    box.say("audit", "verify")
    box.say("verify", "--all")


def test_dcmtk_is_received_to_the_byte_as_dcmtk_receives_itself(
    box: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """storescu writes a data set anew before it sends it, so what storescp gets of it is what we must have kept."""
    with storescp("+xa", "+uf") as receiver:
        for syntax, members in _by_syntax().items():
            files = [_file_of(sample) for sample in members]
            for port, called in ((receiver.port, receiver.ae_title), (box.dicom_port, "CLINICBOX")):
                options = (OPTION_OF[syntax], "-R", "-nh", "--max-pdu", "16384")
                storescu(port, *options, calling=CALLER, called=called, files=files)
        kept_by_storescp = {data_set_of(path) for path in receiver.folder.iterdir()}
    assert len(kept_by_storescp) > 130
    box.wait_for_instances(len(kept_by_storescp))
    assert exported(box, tmp_path / "out", monkeypatch) == sorted(kept_by_storescp)


def _by_syntax() -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples():
        found.setdefault(sample.transfer_syntax_uid, []).append(sample)
    return found


def _file_of(sample: Sample) -> Path:
    (found,) = [path for path in paths() if "/".join(path.parts[-2:]) == sample.name]
    return found


def test_dcmtk_invents_a_hundred_instances_and_aborts_at_the_end(
    box: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (film,) = synthetic.write(iter([synthetic.panoramic(1, scale=0.1)]), tmp_path / "film")
    options = ("+II", "--repeat", "100", "--max-pdu", "4096", "--abort")
    sent = storescu(box.dicom_port, *options, calling=CALLER, files=[film])
    assert sent.returncode == 0, sent.stderr
    box.wait_for_instances(100)
    assert len(set(exported(box, tmp_path / "out", monkeypatch))) == 100


# --- what is refused, or breaks off, leaves nothing ------------------------------------------------------------------


def assert_nothing_is_left(box: Appliance) -> None:
    """No row, no object, no part, nothing in the intake log that a next start would find, no temporary file."""
    assert box.studies() == []
    wait_for(lambda: not box.files("objects"), "what was refused is still there")
    assert list(box.temporary.rglob("*")) == []
    box.stop("dicom")
    assert not box.files("objects")
    assert [path for path in box.files("intake") if path.suffix != ".log"] == []
    box.start("dicom")
    assert "accepted what the intake log held" not in box.log()
    assert box.studies() == []
    assert box.ask("verify", "--all") == []


def _nested(depth: int) -> bytes:
    """Sequences within sequences, each of undefined length, never closed."""
    opened = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return opened * depth


GOOD = Instance(1, pixel_bytes=200_000)
LARGE = Instance(2, pixel_bytes=3 * MIB)
MALFORMED: dict[str, tuple[bytes, str, int]] = {
    "nothing at all": (b"", EXPLICIT, 0xC000),
    "noise": (bytes(range(7, 250)) * 9, EXPLICIT, 0xC000),
    "text": (b"Dear colleague, thank you for referring to us this patient.\r\n" * 40, IMPLICIT, 0xC000),
    "cut in the header": (GOOD.data_set[:185], EXPLICIT, 0xC000),
    "another instance, and large": (LARGE.data_set, EXPLICIT, 0xA900),
    "not deflated, though so agreed": (GOOD.data_set, DEFLATED, 0xC000),
    "an inflate bomb": (zlib.compress(bytes(300 * MIB), 9, wbits=-15), DEFLATED, 0xC000),
    "nested without end": (_nested(NESTING), EXPLICIT, 0xC000),
    "no study": (GOOD.data_set.replace(b"\x20\x00\x0d\x00UI", b"\x20\x00\x0c\x00UI"), EXPLICIT, 0xC000),
    "another instance": (Instance(99).data_set, EXPLICIT, 0xA900),
    "another class": (
        GOOD.data_set.replace(
            element(8, 0x16, b"UI", CT.encode()), element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.4")
        ),
        EXPLICIT,
        0xA900,
    ),
}


def test_malformed_instances_are_refused_with_their_status_and_leave_nothing(box: Appliance) -> None:
    answers = {}
    for name, (data, syntax, _) in MALFORMED.items():
        with box.peer() as peer:
            peer.associate([(1, CT, [syntax])])
            answer = peer.store(data, GOOD.sop_instance_uid, CT, fragment_bytes=100_000)
            answers[name] = answer.status
            # One bad instance must not cost the next one its association.
            assert peer.store(b"", "1.2.3", CT).status == 0xC000
            peer.release()
    assert answers == {name: status for name, (*_, status) in MALFORMED.items()}
    assert_nothing_is_left(box)


@pytest.mark.parametrize("size_bytes", [300_000, 40 * MIB])
def test_a_sender_that_dies_in_mid_transfer_leaves_nothing(
    box: Appliance, tmp_path: Path, size_bytes: int
) -> None:
    side = int((size_bytes / 2) ** 0.5)
    film = synthetic.panoramic(1, scale=0.02)
    film.Rows = film.Columns = side
    film.PixelData = os.urandom(2 * side * side)
    film.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    with line_that_stalls(box.dicom_port, after_bytes=size_bytes // 2) as port:
        command = storescu_command(port, calling=CALLER, called="CLINICBOX", files=[tmp_path / "film.dcm"])
        sender = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if size_bytes > MIB:
                wait_for(lambda: box.files("objects"), "the transfer reaches the disk")
            else:
                wait_for(lambda: _connections(box) > 0, "the transfer has begun")
        finally:
            sender.kill()
            sender.wait()
        wait_for(lambda: _connections(box) == 0, "the receiving side notices")
    assert_nothing_is_left(box)


def _connections(box: Appliance) -> int:
    """How many connections its workers have open."""
    return sum(
        connection.status == "ESTABLISHED"
        for worker in box.workers()
        for connection in worker.net_connections("tcp")
    )


@pytest.mark.parametrize("how", ["abort", "close"])
def test_an_association_that_breaks_keeps_what_was_complete(
    box: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    half = LARGE.data_set[: 2 * MIB]
    with box.peer() as peer:
        peer.associate()
        assert peer.store(GOOD.data_set, GOOD.sop_instance_uid).status == 0
        peer.begin_store(LARGE.sop_instance_uid)
        for start in range(0, len(half), 16_000):
            peer.send(p_data(pdv(1, 0, half[start : start + 16_000])))
        if how == "abort":
            peer.send(b"\7\0\0\0\0\4\0\0\0\0")
    box.wait_for_instances(1)
    wait_for(lambda: len(box.files("objects")) == 1, "what was not complete is gone")
    assert exported(box, tmp_path / "out", monkeypatch) == [GOOD.data_set]
