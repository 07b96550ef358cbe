"""The bench measures what it says: same bytes, fresh UIDs, and no number for a receiver that failed."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from . import material
from .material import Kind, Template, fresh_uid
from .measure import Column, Measured
from .receivers import free_port
from .table import rate, tables
from .wire import PDV_HEADER_BYTES, Encoded, PeerFailed, Sender, _fragments, _tail, answers_echo

ROOT = Path(__file__).parents[2]


class Peer:
    """A pynetdicom receiver that keeps what it was sent and answers with the statuses it was given."""

    def __init__(self, sop_class: str, max_pdu_bytes: int) -> None:
        self.received: list[bytes] = []
        self.statuses: list[int] = []
        ae = AE("PEER")
        ae.maximum_pdu_size = max_pdu_bytes
        ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
        ae.add_supported_context(Verification, ExplicitVRLittleEndian)
        self.server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._keep)]
        )
        assert self.server is not None
        self.port: int = self.server.socket.getsockname()[1]  # type: ignore[union-attr]

    def _keep(self, event: evt.Event) -> int:
        self.received.append(event.request.DataSet.getvalue())  # type: ignore[union-attr]
        return self.statuses.pop(0) if self.statuses else 0


@pytest.fixture(scope="module")
def tiny() -> Kind:
    return material.tiny()


@pytest.fixture(params=[4096, 131072, 0])
def peer(request: pytest.FixtureRequest, tiny: Kind) -> Iterator[Peer]:
    running = Peer(tiny.templates[0].sop_class_uid, request.param)
    yield running
    running.server.shutdown()  # type: ignore[union-attr]


def decoded(data_set: bytes) -> Dataset:
    return dcmread(BytesIO(data_set), force=True)


def test_the_data_set_arrives_byte_for_byte_whatever_the_pdu_size(peer: Peer, tiny: Kind) -> None:
    sent = tiny.series(3, random.Random(1))
    with Sender(peer.port, [sent[0].sop_class_uid], called="PEER", calling="BENCH") as sender:
        assert [sender.store(instance) for instance in sent] == [0, 0, 0]
        sender.release()
    assert peer.received == [b"".join(instance.data_set) for instance in sent]


def test_a_failure_status_is_told(peer: Peer, tiny: Kind) -> None:
    peer.statuses = [0xA700]
    sent = tiny.series(1, random.Random(1))
    with Sender(peer.port, [sent[0].sop_class_uid], called="PEER", calling="BENCH") as sender:
        assert sender.store(sent[0]) == 0xA700
        sender.release()


def test_a_refused_context_is_no_association(peer: Peer) -> None:
    with pytest.raises(PeerFailed, match="refused"):
        Sender(peer.port, ["1.2.840.10008.5.1.4.1.1.4"], called="PEER", calling="BENCH")


def test_readiness_is_an_answered_echo(peer: Peer) -> None:
    assert answers_echo(peer.port, "PEER", "BENCH")
    assert not answers_echo(free_port(), "PEER", "BENCH")


def test_every_instance_sent_is_new_and_otherwise_the_same(tiny: Kind) -> None:
    chance = random.Random(5)
    instances = [decoded(b"".join(i.data_set)) for _ in range(2) for i in tiny.series(8, chance)]
    assert len({ds.SOPInstanceUID for ds in instances}) == 16
    assert len({ds.StudyInstanceUID for ds in instances}) == 2
    assert len({ds.SeriesInstanceUID for ds in instances}) == 2
    assert {ds.PixelData for ds in instances} == {
        decoded(template.head + template.pixel_data).PixelData for template in tiny.templates
    }


def test_the_uid_in_the_command_is_the_uid_in_the_data_set(tiny: Kind) -> None:
    for instance in tiny.series(4, random.Random(6)):
        assert decoded(b"".join(instance.data_set)).SOPInstanceUID == instance.sop_instance_uid


def test_fresh_uids_are_valid_and_of_one_length() -> None:
    chance = random.Random(2)
    uids = [fresh_uid(chance) for _ in range(1000)]
    assert {len(uid) for uid in uids} == {44}
    assert len(set(uids)) == 1000
    assert all(UID(uid).is_valid for uid in uids)


def test_a_uid_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="characters"):
        Template("1.2.3", b"", b"").instance("1.2", "1.2", "1.2")


@pytest.mark.parametrize(
    ("make", "size_bytes"), [(material.ct, 0.5e6), (material.tiny, 20e3), (material.dx, 13e6)]
)
def test_the_material_weighs_what_its_name_says(make, size_bytes: float) -> None:
    for instance in make().series(4, random.Random(1)):
        assert 0.85 < instance.size_bytes / size_bytes < 1.15


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=70), min_size=1, max_size=4),
    fragment_bytes=st.integers(min_value=1, max_value=64),
)
def test_fragments_keep_the_bytes_and_only_the_last_says_so(pieces: list[bytes], fragment_bytes: int) -> None:
    stream = b"".join(bytes(b) for b in _fragments(tuple(pieces), 3, fragment_bytes))
    joined, controls = b"", []
    while stream:
        length = int.from_bytes(stream[2:6], "big")
        assert int.from_bytes(stream[6:10], "big") == length - 4
        assert length - PDV_HEADER_BYTES <= fragment_bytes
        controls.append(stream[11])
        joined += stream[12 : 6 + length]
        stream = stream[6 + length :]
    assert joined == b"".join(pieces)
    assert controls == [0] * (len(controls) - 1) + [2]


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=9), st.data())
def test_what_a_short_write_left_is_the_end_of_the_batch(batch: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(batch)
    left = data.draw(st.integers(min_value=1, max_value=len(whole)))
    assert b"".join(bytes(b) for b in _tail(list(batch), left)) == whole[-left:]


def test_the_table_tells_medians_and_ratios() -> None:
    column = Column("ct1", "CT ×1", Kind("CT", ()), 10, 1, False)

    def found(receiver: str, wall_seconds: float, settled: float | None = None) -> Measured:
        return Measured("ct1", receiver, 10, 5_000_000, wall_seconds, 0.05, 0.01, 90_000_000, settled)

    measured = [found("Orthanc +ND", s) for s in (0.1, 0.2, 5.0)] + [found("ours", 0.05, 0.3)]
    assert rate(measured, column, "Orthanc +ND") == pytest.approx(50)
    shown = tables(measured, [column], ["Orthanc +ND", "ours"])
    assert "| Orthanc +ND | 50 | 90 |" in shown
    assert "| ours | 200 | 90 |" in shown
    assert "| ours | 4.0× |" in shown
    assert "| ours | 5.00 |" in shown
    assert "| ours | 0.05 → 0.30 |" in shown


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.slow
def test_a_quick_run_prints_the_table_and_leaves_nothing(tmp_path: Path) -> None:
    folder, told = tmp_path / "bench", tmp_path / "measured.json"
    done = run(
        "--quick", "--receivers", "orthanc,storescp", "--columns", "ct1,tiny4",
        "--folder", str(folder), "--json", str(told),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Ratio to Orthanc +ND" in done.stdout
    assert not list(folder.iterdir())
    measured = json.loads(told.read_text())
    assert {(m["column"], m["receiver"]) for m in measured} == {
        (column, receiver)
        for column in ("ct1", "tiny4")
        for receiver in ("Orthanc +ND", "storescp --fork +ND")
    }
    assert all(m["wall_seconds"] > 0 and m["instances"] > 0 for m in measured)


@pytest.mark.slow
def test_the_appliance_is_measured_until_its_catalog_shows_all(tmp_path: Path) -> None:
    told = tmp_path / "measured.json"
    done = run(
        "--quick", "--receivers", "appliance", "--columns", "tiny1,ct4",
        "--folder", str(tmp_path / "bench"), "--json", str(told),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "until the catalog shows all" in done.stdout
    for measured in json.loads(told.read_text()):
        assert measured["settled_seconds"] >= measured["wall_seconds"]


@pytest.mark.slow
def test_a_receiver_that_never_answers_fails_the_run(tmp_path: Path) -> None:
    liar = tmp_path / "bin" / "storescp"
    liar.parent.mkdir()
    liar.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo '$dcmtk: storescp v0' && exit 0\necho no licence >&2\nexit 1\n"
    )
    liar.chmod(0o755)
    command = [
        sys.executable,
        "-m",
        "tests.bench",
        "--quick",
        "--receivers",
        "storescp",
        "--columns",
        "tiny1",
    ]
    environment = os.environ | {"PATH": f"{liar.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 1
    assert "does not answer C-ECHO: no licence" in done.stderr
    assert not done.stdout


def test_an_unknown_column_is_named() -> None:
    done = run("--columns", "ct1,ct9")
    assert done.returncode == 2
    assert "'ct9' is none of" in done.stderr


def test_an_empty_association_sends_nothing(peer: Peer) -> None:
    with Sender(peer.port, [str(Verification)], called="PEER", calling="BENCH") as sender:
        assert sender.echo() == 0
        sender.release()
    assert peer.received == []


def test_encoded_instances_know_their_size() -> None:
    assert Encoded("1.2", "1.3", (b"abc", memoryview(b"de"))).size_bytes == 5
