"""R12, R22: after reception, crash, refusals, failed deliveries and pictures, no word of a patient is in clear anywhere."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import synthetic
from tests.dicom.peers import Closed, Peer, Rejected, p_data, pdv
from tests.replication.receivers import storescp
from tests.synthetic import HELENE, MARKERS
from tests.system.browser import Browser
from tests.system.clear_text import betrayals, planted, words_in
from tests.system.dcmtk import storescu
from tests.system.running import CALLER, MIB, Appliance, appliance, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PASSWORD = "quatre lapins sur une horloge"


def begin(peer: Peer, film: Path, *, sent_bytes: int) -> None:
    """Send the first so many bytes of the data set of a file, and leave it there."""
    ds = synthetic.panoramic(9)
    content = film.read_bytes()
    data = content[144 + int.from_bytes(content[140:144], "little") :]
    assert len(data) > sent_bytes
    peer.associate([(1, str(ds.SOPClassUID), ["1.2.840.10008.1.2.1"])])
    peer.begin_store(str(ds.SOPInstanceUID), str(ds.SOPClassUID))
    for start in range(0, sent_bytes, 64_000):
        peer.send(p_data(pdv(1, 0, data[start : min(start + 64_000, sent_bytes)])))


def kill_the_worker_of(box: Appliance, peer: Peer) -> None:
    """`kill -9` of the receiving process that serves this association."""
    port = peer.socket.getsockname()[1]
    (worker,) = [
        each
        for each in box.workers()
        for connection in each.net_connections("tcp")
        if connection.status == "ESTABLISHED" and connection.raddr.port == port
    ]
    worker.send_signal(signal.SIGKILL)
    worker.wait(30)


def use_the_console(box: Appliance) -> None:
    code = re.search(r"Claim code ([0-9A-Z]{4}-[0-9A-Z]{4})", box.log())
    assert code is not None
    browser = Browser(box.web_port)
    browser.claim(code[1], login="mtremblay", name="Marie Tremblay", password=PASSWORD)
    page = browser.get("/studies").decode()
    assert HELENE.family_name in page, "the console does not show the study that the scan is about"
    browser.post("/studies", text="helene")
    study = re.search(r'href="(/studies/\d+)', page)
    assert study is not None
    page = browser.get(study[1]).decode()
    pictures = set(re.findall(r'"(/instances/\d+/(?:image|thumbnail)[^"]*)"', page))
    drawn = [browser.get(address.replace("&amp;", "&")) for address in pictures]
    assert any(picture.startswith(b"\xff\xd8") for picture in drawn), "no picture was drawn"
    for address in ("/deliveries", "/destinations", "/devices"):
        browser.get(address)


def test_no_word_of_a_patient_is_in_clear_anywhere(tmp_path: Path, free_port: Callable[[], int]) -> None:
    films = synthetic.write(synthetic.clinic_set(1, scale=0.1), tmp_path / "films")
    (large,) = synthetic.write(iter([synthetic.panoramic(9)]), tmp_path / "large")
    assert large.stat().st_size > 5 * MIB
    with (
        storescp("--refuse", verified=False, ae_title="REFUSES") as refusing,
        appliance(tmp_path / "box", free_port, start=["run"], named='log_format = "json"') as box,
    ):
        box.say("rule", "add", "--to", _destination(box, "closed", "CLOSED", free_port()))
        box.say("rule", "add", "--to", _destination(box, "refusing", refusing.ae_title, refusing.port))

        sent = storescu(box.dicom_port, calling=CALLER, files=films)
        assert sent.returncode == 0, sent.stderr
        storescu(box.dicom_port, calling="STRANGER", files=films[:1])

        with box.peer() as peer:  # the device goes away in mid-transfer
            begin(peer, large, sent_bytes=4 * MIB)
            wait_for(lambda: len(box.files("objects")) > len(films), "the transfer reaches the disk")
            assert betrayals([box.folder]) == {}
        with box.peer() as peer:  # we do
            begin(peer, large, sent_bytes=4 * MIB)
            wait_for(lambda: len(box.files("objects")) > len(films), "the transfer reaches the disk")
            kill_the_worker_of(box, peer)
        assert betrayals([box.folder]) == {}
        wait_for(lambda: _answers(box), "a worker has taken its place")

        with box.peer() as peer:  # what is refused has a name too
            ds = synthetic.panoramic(9)
            peer.associate([(1, str(ds.SOPClassUID), ["1.2.840.10008.1.2.1"])])
            assert peer.store(large.read_bytes()[400:90_000], str(ds.SOPInstanceUID), ds.SOPClassUID).status
        assert box.command("import", large.with_name("nowhere.dcm")).code != 0
        box.wait_for_instances(len(films))
        wait_for(lambda: _tried(box) == {"closed", "refusing"}, "both destinations have been tried")
        use_the_console(box)

        bodies = {path: box.get(path) for path in ("/metrics", "/health/ready", "/health/live", "/nowhere")}
        assert bodies["/metrics"][0] == 200
        for path, (_, body) in bodies.items():
            assert words_in(body.encode()) == set(), path
        log = box.log()
        box.stop()
        assert "closed: " in log, "the log says nothing of the delivery that failed"
        events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        # Which of its workers a caller comes to is the kernel's choice, and one that nobody came to has nothing to say.
        assert {"courier", "dicom", "jobs", "web"} <= {
            re.sub(r"-\d+$", "", event["process"]) for event in events
        }
        assert all({"at_utc", "level", "logger", "event"} <= set(event) for event in events)
        assert betrayals([box.folder]) == {}

        # A scan that finds nothing must be able to find something: what is on the disk is there, in clear once opened.
        assert betrayals([tmp_path / "films"]).keys() == {str(film) for film in films}
        box.say("export", "cote helene", "--to", box.folder / "exported")
        assert set(betrayals([box.folder]).popitem()[1]) & set(MARKERS)


def _destination(box: Appliance, name: str, ae_title: str, port: int) -> str:
    options = ("--ae-title", ae_title, "--address", "127.0.0.1", "--port", port)
    box.say("destination", "add", "dicom", name, *options)
    return name


def _tried(box: Appliance) -> set[str]:
    return {row["destination"] for row in box.ask("deliveries") if row["attempts"]}


def _answers(box: Appliance) -> bool:
    try:
        return len(box.workers()) == 2 and box.answers_echo()
    except (OSError, Closed, Rejected):
        return False


@pytest.mark.parametrize("form", planted())
def test_the_scan_finds_a_word_in_every_form(tmp_path: Path, form: str) -> None:
    (tmp_path / "catalog.db-wal").write_bytes(b"\0\1\2" * 1000 + planted()[form] + b"\xff" * 100)
    (tmp_path / "other").write_bytes(b"\0" * 5000)
    assert list(betrayals([tmp_path])) == [str(tmp_path / "catalog.db-wal")]


def test_the_scan_finds_a_word_in_a_name_and_none_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 4000)
    assert betrayals([tmp_path]) == {}
    (tmp_path / f"{HELENE.id}.part").touch()
    assert list(betrayals([tmp_path])) == [str(tmp_path / f"{HELENE.id}.part")]
