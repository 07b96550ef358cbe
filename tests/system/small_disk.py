"""R3 on a file system of 160 MiB: filled up to the reserve, then to its last byte, then freed.

Run by `test_small_disk` in a mount namespace of its own, so that the mount goes when the process does:
``python -m tests.system.small_disk DISK ELSEWHERE``, with an empty file system mounted at the folder DISK.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path

from appliance.errors import Transient
from tests.bench.wire import Encoded, PeerFailed, Sender
from tests.boxes import data_set_of, recorded
from tests.instances import CT_IMAGE, Instance
from tests.system.browser import Browser
from tests.system.running import CALLER, MIB, Appliance, Said, appliance, wait_for
from tests.web.conftest import LOGIN, PASSWORD, add_owner

SIZE_BYTES = 160 * MIB
RESERVE_BYTES = 32 * MIB
LOG_BYTES = 4 * MIB
BALLAST_BYTES = 48 * MIB
HEAL_SECONDS = 60.0
SENDERS = 3
SIZES = (40_000, 300_000, 900_000, 2_500_000)
OUT_OF_RESOURCES = 0xA700
TRANSIENT_LOCAL_LIMIT_EXCEEDED = "020302"
ONE_LINE = re.compile(r"appliance: [^\n]+\n")


class Clinic:
    """Devices that send until they are told there is no room, and what they were told was kept."""

    def __init__(self, box: Appliance) -> None:
        self.box = box
        self.acknowledged: dict[str, str] = {}
        self.refused: list[int] = []
        self.wrong: list[str] = []
        self._numbers = itertools.count(1)

    def send_until_full(self) -> None:
        threads = [threading.Thread(target=self._send_until_full) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send_until_full(self) -> None:
        with self.associated() as sender:
            while self.store(sender) == 0:
                pass
            # The association stays, and the next one is told the same.
            if (status := self.store(sender)) not in (0, OUT_OF_RESOURCES):
                self.wrong.append(f"{status:04X}")

    def associated(self) -> Sender:
        return Sender(self.box.dicom_port, [CT_IMAGE], called="CLINICBOX", calling=CALLER)

    def store(self, sender: Sender) -> int:
        number = next(self._numbers)
        instance = Instance(number, study=number // 10, pixel_bytes=SIZES[number % len(SIZES)])
        data = instance.data_set
        status = sender.store(Encoded(CT_IMAGE, instance.sop_instance_uid, (data,)))
        if status == 0:
            self.acknowledged[instance.sop_instance_uid] = hashlib.sha256(data).hexdigest()
        else:
            self.refused.append(status)
        return status

    def is_received(self) -> bool:
        """Whether a device that comes now is let in, and its instance is kept."""
        try:
            with self.associated() as sender:
                return self.store(sender) == 0
        except (PeerFailed, OSError):
            return False

    def rejection(self) -> str:
        """Result, source and reason with which an association is refused now, in hexadecimal; or nothing."""
        try:
            with self.associated():
                return ""
        except PeerFailed as error:
            found = re.search(r"PDU type 3, 00(\w{6})", str(error))
            return found[1] if found else str(error)


def free_bytes(disk: Path) -> int:
    told = os.statvfs(disk)
    return told.f_bavail * told.f_frsize


def fill(path: Path, size_bytes: int) -> None:
    """A file of so many bytes, or of as many as there is room for."""
    with path.open("wb", buffering=0) as file:
        try:
            for _ in range(0, size_bytes, 1 << 16):
                file.write(bytes(1 << 16))
        except OSError as error:
            assert error.errno == errno.ENOSPC
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def run(disk: Path, elsewhere: Path) -> str:
    """The whole story; raises AssertionError where it goes otherwise. What happened, in a line."""
    assert 0 < free_bytes(disk) <= SIZE_BYTES, "that is not the small file system"
    there = elsewhere / "there"
    there.mkdir(parents=True)
    ballast, rest = disk / "ballast", disk / "rest"
    with appliance(
        elsewhere / "box",
        free_port,
        data=disk / "data",
        reserve_bytes=RESERVE_BYTES,
        log_bytes=LOG_BYTES,
        start=[],
    ) as box:
        with box.opened() as opened:
            add_owner(opened)
        box.start("dicom", "courier", "web", "jobs")
        box.say("destination", "add", "folder", "there", "--path", there)
        box.say("rule", "add", "--to", "there")
        fill(ballast, BALLAST_BYTES)
        clinic = Clinic(box)
        with clinic.associated() as early:
            clinic.send_until_full()
            left_bytes = free_bytes(disk)
            assert clinic.wrong == []
            assert set(clinic.refused) == {OUT_OF_RESOURCES}, clinic.refused
            assert len(clinic.acknowledged) > 20
            # What is under way when room is asked for the last time still lands: of each device one instance, and
            # what the logs of the two workers have yet to settle.
            landing_bytes = (SENDERS + 1) * max(SIZES) + 2 * LOG_BYTES
            assert left_bytes > RESERVE_BYTES - landing_bytes, left_bytes / MIB
            assert clinic.rejection() == TRANSIENT_LOCAL_LIMIT_EXCEEDED
            assert clinic.store(early) == OUT_OF_RESOURCES
            work_goes_on(box, len(clinic.acknowledged), elsewhere)
            person = people_go_on(box)

            fill(rest, SIZE_BYTES)
            assert free_bytes(disk) < MIB
            assert clinic.store(early) == OUT_OF_RESOURCES
            came_to = [say_when_full(box, *words) for words in WHEN_FULL]
            assert DISK_FULL in person.get("/").decode()
            assert "/studies/" in person.get("/studies").decode()
            rest.unlink()

            ballast.unlink()
            freed = time.monotonic()
            wait_for(clinic.is_received, "it receives again", seconds=HEAL_SECONDS)
            healed_seconds = time.monotonic() - freed
            assert clinic.store(early) == 0
        kept = len(clinic.acknowledged)
        box.wait_for_instances(kept)
        box.wait_until_confirmed(kept)
        assert [each["code"] for each in box.ask("status")["problems"] if each["blocks"]] == []
        assert box.ask("verify", "--all") == []
        box.say("audit", "verify")
        with box.opened() as opened:
            found = {
                row.sop_instance_uid: hashlib.sha256(data_set_of(opened, row)).hexdigest()
                for row in recorded(opened)
            }
        assert found == clinic.acknowledged
        assert [path for path in box.files("objects") if ".part" in path.parts] == []
    return (
        f"refused with A700 at {left_bytes / MIB:.0f} MiB of {RESERVE_BYTES / MIB:.0f} MiB reserve, full to the last byte "
        f"the command line came to {came_to}, received again {healed_seconds:.1f} s after space returned, "
        f"{kept} instances kept"
    )


def work_goes_on(box: Appliance, instances: int, elsewhere: Path) -> None:
    """With the disk full up to its reserve all else works: catalog, deliveries, audit, command line, export."""
    box.wait_for_instances(instances)
    box.wait_until_confirmed(instances)
    status = box.ask("status")
    assert not status["ready"]
    assert "disk-full" in {each["code"] for each in status["problems"] if each["blocks"]}
    box.say("device", "add", "--ae-title", "NEW-PANO", "--address", "10.0.0.7")
    box.say("device", "remove", "NEW-PANO")
    box.say("audit", "verify")
    study = box.studies()[0]["study_instance_uid"]
    box.say("export", study, "--to", elsewhere / "exported")
    assert box.ask("verify", "--all") == []


DISK_FULL = 'data-problem="disk-full"'


def people_go_on(box: Appliance) -> Browser:
    """Who signs in now is told what is the matter, sees images, who did what, and what an update would need."""
    person = Browser(box.web_port)
    start = person.post("/sign-in", login=LOGIN, password=PASSWORD)
    assert "/sign-out" in start and DISK_FULL in start
    for each in ("/studies", "/audit", "/updates"):
        assert "/sign-out" in person.get(each).decode()
    (study,) = re.findall(r'href="(/studies/1)"', person.get("/studies").decode())
    image = re.search(r"/instances/\d+", person.get(study).decode())
    assert image is not None
    assert person.get(f"{image[0]}/thumbnail")
    person.get("/health/deep")  # as boot-check asks: a version that starts on a full disk is called good
    return person


WHEN_FULL = (("status",), ("studies",), ("device", "add", "--ae-title", "LATE", "--address", "10.0.0.8"))


def say_when_full(box: Appliance, *words: str) -> int:
    """One command line on a disk without a byte: it works, or says in one line that there is no room."""
    said: Said = box.command(*words)
    if said.code:
        assert said.code == Transient.exit_code, said
        assert ONE_LINE.fullmatch(said.err), said
    return said.code


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), Path(sys.argv[2])))
