"""Senders that go on until the line breaks, what was answered to them, and whether a box still has all of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.bench.wire import Encoded, PeerFailed, Sender
from tests.image.machine import PATIENCE_SECONDS, Hardware, Machine, switched_on
from tests.image.promises import BUILT, PROMISED_PORTS, image, kept, running
from tests.image.timed import READY_SECONDS, distribution
from tests.instances import CT_IMAGE, Instance

CALLING, HERE = "PANO", "10.0.2.2"
LOAD_INSTANCES = 40
"""Acknowledged before the power is cut, while more are on their way."""

FIGURES = BUILT / "power.json"
"""What `power` has counted and timed."""


def admit(machine: Machine) -> None:
    """Let the box take images from this machine."""
    machine.inside(f"appliance device add --ae-title {CALLING} --address {HERE}")


def cut_under_load(machine: Machine, ledger: set[str]) -> None:
    """Pull the cord while images arrive, once `LOAD_INSTANCES` more were acknowledged; all that were stand in `ledger`."""
    wanted = len(ledger) + LOAD_INSTANCES
    with sending(machine, ledger):
        until = time.monotonic() + 1200
        while len(ledger) < wanted:
            assert time.monotonic() < until, f"{len(ledger)} acknowledged"
            time.sleep(0.2)
        machine.cut_power()
    kept(f"power was cut under load, after {len(ledger)} answers", not machine.is_on)


def nothing_is_lost(machine: Machine, ledger: set[str]) -> None:
    """All that was acknowledged is there, and each image whole."""
    machine.wait_until("appliance status --json")
    there = acknowledged_and_there(machine, ledger)
    lost = ledger - there
    kept(f"all {len(ledger)} acknowledged instances are there", not lost, str(sorted(lost)[:5]))
    kept(
        "and whole, byte for byte",
        "all are whole" in machine.inside("appliance verify --all", check=False),
    )


UP = "systemctl is-active --quiet appliance-dicom.service && systemctl is-active --quiet nginx.service"
"""Succeeds once images are received and the console is answered for: before that, QEMU itself would take a call, and hold it."""

ANSWER_SECONDS = 60.0


def serves(machine: Machine, ledger: set[str]) -> None:
    """Return once the box acknowledges an image again, which stands in `ledger` then."""
    machine.wait_until(UP)
    instance = Instance(1 + len(ledger), study=103, pixel_bytes=60_000)
    encoded = Encoded(instance.sop_class_uid, instance.sop_instance_uid, (instance.data_set,))
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with Sender(
                machine.ports[11112],
                [CT_IMAGE],
                called="CLINICBOX",
                calling=CALLING,
                timeout_seconds=ANSWER_SECONDS,
            ) as sender:
                status = sender.store(encoded)
            if status == 0:
                ledger.add(instance.sop_instance_uid)
                return
            told = f"status {status:04X}"
        except (OSError, PeerFailed) as error:
            told = str(error)
        assert time.monotonic() < until, told
        time.sleep(0.2)


def power(hardware: Hardware, cuts: int) -> None:
    """`cuts` times the cord is pulled under load, each time out of a start that followed a cut.

    A box serves again within `READY_SECONDS` of the moment at which it has power: it has acknowledged an image by then. Emulated, a start
    takes minutes, and how many depends on what else this machine does: so no more is asked of it here than `PATIENCE_SECONDS`, and what it
    took is said, with how many times the promise that is, and stands in `FIGURES`, for who compares runs on one machine.
    """
    hardware.assemble(image(".test"))
    FIGURES.unlink(missing_ok=True)
    ledger: set[str] = set()
    ready: list[float] = []
    for number in range(cuts + 1):
        began = time.monotonic()
        with switched_on(hardware, ports=PROMISED_PORTS) as machine:
            if number == 0:
                running(machine)
                admit(machine)
            else:
                serves(machine, ledger)
                seconds = time.monotonic() - began
                kept(
                    f"it acknowledges an image {seconds:.0f} s after it has power again, emulated",
                    seconds < PATIENCE_SECONDS,
                )
                running(machine, "and nothing has failed")
                nothing_is_lost(machine, ledger)
                ready.append(seconds)
                _record(ledger, ready)
            if number < cuts:
                cut_under_load(machine, ledger)
            else:
                machine.power_off()
    print(f"{len(ready)} cuts, {len(ledger)} acknowledged, 0 lost")
    for line in distribution(ready, READY_SECONDS):
        print(line)


def _record(ledger: set[str], ready: list[float]) -> None:
    """After each cut, so that a run which ends early, or breaks a promise, has left what it saw until then. Nothing is lost where this is
    written: what is ends the run."""
    told = {
        "cuts": len(ready),
        "acknowledged": len(ledger),
        "lost": 0,
        "promised_seconds": READY_SECONDS,
        "ready_seconds": [round(each, 1) for each in ready],
    }
    FIGURES.write_text(json.dumps(told) + "\n")


@contextmanager
def sending(
    machine: Machine, ledger: set[str], acknowledged: Callable[[Instance], None] = lambda _: None
) -> Iterator[None]:
    """Two senders that go on until the line breaks; what was answered with success stands in `ledger`, and is told as it comes."""
    stop = threading.Event()

    def send(number: int) -> None:
        sender: Sender | None = None
        sent = 10 * len(ledger)  # past all that were ever sent
        while not stop.is_set():
            try:
                if sender is None:
                    sender = Sender(machine.ports[11112], [CT_IMAGE], called="CLINICBOX", calling=CALLING)
                sent += 1
                instance = Instance(sent, study=100 + number, pixel_bytes=60_000)
                encoded = Encoded(instance.sop_class_uid, instance.sop_instance_uid, (instance.data_set,))
                if sender.store(encoded) == 0:
                    acknowledged(instance)
                    ledger.add(instance.sop_instance_uid)
            except (OSError, PeerFailed):
                sender = None
                stop.wait(0.2)

    senders = [threading.Thread(target=send, args=(number,)) for number in (1, 2)]
    for each in senders:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in senders:
            each.join()


def acknowledged_and_there(machine: Machine, ledger: set[str]) -> set[str]:
    """Which of `ledger` the box has recorded, asked for until it has settled what it had acknowledged."""
    program = (
        "import os, sys, json\n"
        "from appliance.box import open_box\n"
        "from appliance.config import load_config\n"
        "from appliance.catalog import instances\n"
        "from appliance.model import Uid\n"
        "box = open_box(load_config(os.environ))\n"
        "with box.catalog.reading() as conn:\n"
        "    known = instances.known_among(conn, [Uid(each) for each in json.load(sys.stdin)])\n"
        "print(json.dumps(sorted(str(each) for each in known)))\n"
    )
    machine.inside(f"cat >/run/known.py <<'END'\n{program}END\nchmod 644 /run/known.py")
    machine.inside(f"cat >/run/ledger.json <<'END'\n{json.dumps(sorted(ledger))}\nEND\n")
    ask = (
        "systemd-run --quiet --collect --wait --pipe --uid=appliance --gid=appliance "
        "--property=LoadCredentialEncrypted=machine-seal:/var/lib/machine-seal/machine-seal.cred "
        "--setenv=APPLIANCE_DATA=/var/lib/appliance /usr/lib/appliance/venv/bin/python /run/known.py </run/ledger.json"
    )
    deadline = time.monotonic() + 600
    while True:
        there = set(json.loads(machine.inside(ask)))
        if ledger <= there or time.monotonic() > deadline:
            return there
        time.sleep(3)
