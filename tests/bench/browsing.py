"""Pages while images come: fifty signed-in people browse a filled box while four modalities send as fast as they can.

`make bench ARGS=browse` (`python -m tests.bench browse`) starts a real `appliance run`, fills it by DICOM with 2,000 studies of
five films, and interleaves three situations, each round beginning with another of them: reception alone, people alone, both.
It prints how long pages took, how much reception lost, and who used the processor. What keeps it honest:

* senders and visitors run on the same cores as the box; their share of the processor is in the table, and is theirs to answer
  for: on a clinic's LAN it would be elsewhere;
* the modalities send films as an intra-oral sensor makes them (0.6 MB), each new, one after the other without a pause, which no
  modality does, and as fast as the box's port of one gigabit a second carries what four of them send at once: loopback carries
  twice that, and a clinic has no such cable. ``--wire 0`` takes the cable away, and ``--films tiny`` sends films of 20 KB, which
  of all sizes ask the catalog for the most rows a second: tables for whoever looks for where it ends;
* every visitor is an owner, whose pages hold the most, follows the stream of events as a browser does and asks for its list
  again when the stream says so (`visitors.py`);
* everybody opens the first page within three seconds, as no clinic does: what is fetched in the first six is not counted;
* a page is its whole HTML, from the request until the last byte; pictures have a line of their own;
* an instance that is not answered 0000, one that the catalog doesn't show afterwards, or a page that isn't what was asked for
  fails the run.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import psutil

from appliance import identity, settings
from appliance.box import open_box
from appliance.catalog import people
from appliance.config import load_config
from appliance.identity import Role
from tests import synthetic
from tests.synthetic.patients import PATIENTS

from . import material
from .browsing_goals import PAGES, PAGES_GOAL_SECONDS, RECEPTION_GOAL, Round, missed, percentile, situations
from .material import Template, fresh_uid
from .receivers import (
    APPLIANCE,
    CALLING_AE,
    Receiver,
    catalogued,
    free_port,
)
from .visitors import Account, Log, browse
from .wire import Encoded, PeerFailed, Sender, answers_echo

MODALITIES = 4
FILMS: Mapping[str, float] = {"sensor": 1.0, "tiny": 0.182}
"""What modalities send, as a part of a sensor's rows and columns: 600 KB, and 20 KB."""

WIRE_MEGABITS = 1000.0
CARRIED = 0.94
"""Of a wire's bits, what is left for what TCP carries, in Ethernet frames of 1,500 bytes (1,448 of 1,538 on the wire)."""

FILMS_A_STUDY = 5
START_WITHIN_SECONDS = 120
SETTLED_WITHIN_SECONDS = 300
POLL_SECONDS = 0.1
ARRIVAL_SECONDS = 6.0
"""At the beginning of a round, in which everybody opens the first page and all its pictures; not counted if the round is long."""

NAME, PATIENT_ID, DATE = "Placeholder^Of Thirty Two Bytes_", "PLACEHOLDER00000", "19000101"
ROWS = (*PAGES, "refresh", "thumbnail", "image", "pulse")
SITUATIONS: tuple[tuple[bool, bool], ...] = ((True, False), (False, True), (True, True))
"""Whether images come, and whether people browse."""


@dataclass(frozen=True)
class Sent:
    """What one modality saw: instances acknowledged, its seconds of processor, and what went wrong."""

    count: int
    wall_seconds: float
    cpu_seconds: float
    failure: str = ""


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code is 1 when an image or a page was not what it must be, or a goal is missed."""
    options = _options(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="browse-", dir=options.folder))
    try:
        with ExitStack() as running:
            receiver, accounts = started(folder, options.users)
            running.callback(receiver.stop)
            fill(receiver, options.studies)
            sent, rounds = film(FILMS[options.films]), []
            for number in range(options.rounds):
                turn = number % len(SITUATIONS)
                for sending, browsing in SITUATIONS[turn:] + SITUATIONS[:turn]:
                    found = measure(
                        receiver,
                        accounts if browsing else (),
                        options.seconds,
                        number,
                        sent if sending else None,
                        options.wire,
                    )
                    rounds.append(found)
                    print(_said(number, options.rounds, found), file=sys.stderr, flush=True)
    except PeerFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{psutil.cpu_count()} cores, Python {sys.version.split()[0]}, load average {options.load:.1f} at the start. "
        f"{options.studies} studies of {FILMS_A_STUDY} films to begin with, {options.users} people, {MODALITIES} modalities "
        f"that send films of {len(sent.pixel_data) / 1000:.0f} KB {_wire_said(options.wire)}, "
        f"{options.rounds} interleaved rounds of {options.seconds:g} s.\n"
    )
    print(table(rounds))
    wrong = [*missed(rounds), *(each for found in rounds for each in found.wrong)]
    for each in wrong[:10]:
        print(f"bench: {each}", file=sys.stderr)
    return 1 if wrong else 0


# --- the box -----------------------------------------------------------------------------------------------------------


def started(folder: Path, users: int) -> tuple[Receiver, list[Account]]:
    """A running box of its own with `users` owners in session.

    Raises:
        PeerFailed: It does not start.
    """
    port, web_port = free_port(), free_port()
    environment = {
        "APPLIANCE_DATA": str(folder / "data"),
        "APPLIANCE_DICOM_PORT": str(port),
        "APPLIANCE_DICOM_TLS_PORT": str(free_port()),
        "APPLIANCE_WEB_PORT": str(web_port),
    }
    (folder / "data").mkdir(mode=0o700)
    admitted = subprocess.run(
        [*APPLIANCE, "device", "add", "--ae-title", CALLING_AE, "--address", "127.0.0.1"],
        env=os.environ | environment,
        capture_output=True,
        check=False,
        text=True,
    )
    if admitted.returncode:
        raise PeerFailed(f"the appliance did not admit the sender: {admitted.stderr.strip()}")
    accounts = _sign_in(environment, users)
    log = folder / "output.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*APPLIANCE, "run"],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    receiver = Receiver(
        "appliance", "", "CLINICBOX", port, folder, process, settles=True, environment=environment
    )

    def is_ready() -> bool:
        if process.poll() is not None:
            raise PeerFailed(f"appliance run ended with {process.returncode}")
        return b"Ready.\n" in log.read_bytes() and answers_echo(port, "CLINICBOX", CALLING_AE)

    try:
        _wait(is_ready, START_WITHIN_SECONDS, "appliance run is not ready")
    except PeerFailed:
        receiver.stop()
        raise
    return receiver, accounts


def _sign_in(environment: dict[str, str], users: int) -> list[Account]:
    """So many owners, each in an open session: what signing in costs is not what is measured."""
    box = open_box(load_config(os.environ | environment))
    moment = datetime.now(UTC)
    words = tuple(patient.family_name.split("-")[0] for patient in PATIENTS)
    accounts = []
    try:
        with box.catalog.transaction() as tx:
            settings.change(tx, box.audit_key, {"access.second_factor_roles": []}, actor="bench", now=moment)
            for number in range(users):
                person = people.add(
                    tx,
                    login=f"visitor{number}",
                    name=f"Visitor {number}",
                    role=Role.OWNER.value,
                    password_hash="none",
                    language="fr" if number % 2 else "en",
                    now=moment,
                )
                cookie = identity.open_session(tx, person.id, address="127.0.0.1", agent="bench", now=moment)
                session = identity.find_session(tx, cookie, moment)
                assert session is not None
                accounts.append(Account(cookie, session.csrf, words))
    finally:
        box.close()
    return accounts


def film(scale: float) -> Template:
    """A film, `scale` of a sensor's rows and columns, with placeholders for whose it is and of when."""
    ds = synthetic.full_mouth_series(scale=scale)[0]
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID, ds.StudyDate = NAME, PATIENT_ID, DATE
    return material.template(ds)


def study(of: Template, number: int, chance: random.Random) -> list[Encoded]:
    """One study of `FILMS_A_STUDY` films. Every patient, of a few names but an ID of their own, has two studies."""
    patient = PATIENTS[number // 2 % len(PATIENTS)]
    patient_id = f"BENC{number // 2:012d}"
    day = f"20{10 + number % 16:02d}{1 + number % 12:02d}{1 + number % 28:02d}"
    name = patient.name.encode()
    head = of.head.replace(NAME.encode(), name.ljust(len(NAME)))
    head = head.replace(PATIENT_ID.encode(), patient_id.encode())
    head = head.replace(DATE.encode(), day.encode())
    template = Template(of.sop_class_uid, head, of.pixel_data)
    uids = fresh_uid(chance), fresh_uid(chance)
    return [template.instance(*uids, fresh_uid(chance)) for _ in range(FILMS_A_STUDY)]


def fill(receiver: Receiver, studies: int) -> None:
    """Send so many studies, and wait until the catalog shows them.

    Raises:
        PeerFailed: One was not answered 0000.
    """
    template, chance = film(FILMS["tiny"]), random.Random(1)
    with Sender(receiver.port, [template.sop_class_uid], called="CLINICBOX", calling=CALLING_AE) as sender:
        for number in range(studies):
            for instance in study(template, number, chance):
                if status := sender.store(instance):
                    raise PeerFailed(f"a film to begin with was answered {status:04X}")
        sender.release()
    with catalogued(receiver) as shown:
        _wait(lambda: shown() >= studies * FILMS_A_STUDY, SETTLED_WITHIN_SECONDS, "the catalog lags behind")


# --- one round ---------------------------------------------------------------------------------------------------------


def measure(
    receiver: Receiver,
    accounts: Sequence[Account],
    seconds: float,
    seed: int,
    sent: Template | None,
    wire_megabits: float = 0.0,
) -> Round:
    """One situation for `seconds`: `accounts` browse, and the modalities send films like `sent`, or nothing.

    All modalities together send no faster than `wire_megabits` a second carries; 0: as fast as they and the box can.

    Raises:
        PeerFailed: An image was not answered 0000, or the catalog does not show all that were.
    """
    senders = MODALITIES if sent is not None else 0
    with catalogued(receiver) as shown:
        before = shown()
    os.sync()
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(senders + bool(accounts) + 1)
    answers: Queue[Sent] = context.Queue()
    seen: Queue[tuple[Log, float]] = context.Queue()
    clients = [
        context.Process(
            target=_send, args=(receiver.port, sent, seconds, wire_megabits / MODALITIES, gate, answers)
        )
        for _ in range(senders)
    ]
    if accounts:
        web_port = int(receiver.environment["APPLIANCE_WEB_PORT"])
        clients.append(
            context.Process(target=_browse, args=(web_port, list(accounts), seconds, seed, gate, seen))
        )
    for each in clients:
        each.start()
    usage = _usage(receiver)
    gate.wait(START_WITHIN_SECONDS)
    started_at = time.monotonic()
    answered = [answers.get(timeout=seconds + SETTLED_WITHIN_SECONDS) for _ in range(senders)]
    log, browsing_cpu = seen.get(timeout=seconds + SETTLED_WITHIN_SECONDS) if accounts else (Log(), 0.0)
    elapsed = time.monotonic() - started_at
    counted_from = started_at + (ARRIVAL_SECONDS if seconds > 2 * ARRIVAL_SECONDS else 0.0)
    now = _usage(receiver)
    for each in clients:
        each.join()
    if failures := [each.failure for each in answered if each.failure]:
        raise PeerFailed(failures[0])
    acknowledged = sum(each.count for each in answered)
    with catalogued(receiver) as shown:
        _wait(
            lambda: shown() >= before + acknowledged,
            SETTLED_WITHIN_SECONDS,
            "the catalog does not show all that was acknowledged",
        )
    cpu = {name: used - usage.get(name, 0.0) for name, used in now.items()}
    cpu |= {"senders": sum(each.cpu_seconds for each in answered), "visitors": browsing_cpu}
    return Round(
        sending=sent is not None,
        browsing=bool(accounts),
        seconds=elapsed,
        rate=sum(each.count / each.wall_seconds for each in answered),
        fetched=tuple(each for each in log.fetched if each.at >= counted_from),
        wrong=tuple(log.wrong),
        cpu_seconds=cpu,
        streams=log.streams,
        refused_streams=log.refused_streams,
        events=log.events,
    )


def _send(
    port: int,
    template: Template,
    seconds: float,
    wire_megabits: float,
    gate: Barrier,
    answers: "Queue[Sent]",
) -> None:
    """A modality's process: studies of films, one after the other, for so long, over its part of the wire."""
    count, failure, started_at = 0, "", time.monotonic()
    cpu = time.process_time()
    try:
        chance = random.SystemRandom()
        with Sender(port, [template.sop_class_uid], called="CLINICBOX", calling=CALLING_AE) as sender:
            gate.wait(START_WITHIN_SECONDS)
            started_at, cpu = time.monotonic(), time.process_time()
            carried_by = started_at
            while time.monotonic() < started_at + seconds and not failure:
                for instance in study(template, chance.randrange(100_000), chance):
                    carried_by = max(carried_by, time.monotonic()) + on_the_wire(template, wire_megabits)
                    status = sender.store(instance)
                    time.sleep(max(0.0, carried_by - time.monotonic()))  # whoever is late does not catch up
                    if status:
                        failure = f"a film was answered {status:04X}"
                        break
                    count += 1
            sender.release()
    except (OSError, PeerFailed) as error:
        failure = str(error)
        gate.abort()
    answers.put(Sent(count, time.monotonic() - started_at, time.process_time() - cpu, failure))


def on_the_wire(film: Template, megabits: float) -> float:
    """Seconds that a film is under way at `megabits` a second; none at 0."""
    return 8e-6 * (len(film.head) + len(film.pixel_data)) / (CARRIED * megabits) if megabits else 0.0


def _wire_said(megabits: float) -> str:
    return f"over {megabits:g} Mbit/s" if megabits else "as fast as loopback carries"


def _browse(
    port: int,
    accounts: list[Account],
    seconds: float,
    seed: int,
    gate: Barrier,
    seen: "Queue[tuple[Log, float]]",
) -> None:
    gate.wait(START_WITHIN_SECONDS)
    before = time.process_time()
    log = browse(port, accounts, seconds, seed)
    seen.put((log, time.process_time() - before))


def _usage(receiver: Receiver) -> dict[str, float]:
    """Seconds of processor so far of each of the box's processes with its children."""
    used: dict[str, float] = {}
    for child in psutil.Process(receiver.process.pid).children():
        try:
            name = child.cmdline()[3]
            family = [child, *child.children(recursive=True)]
            used[name] = sum(sum(each.cpu_times()[:2]) for each in family)
        except (psutil.NoSuchProcess, IndexError):
            continue
    return used


def _wait(condition: Callable[[], bool], seconds: float, failure: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise PeerFailed(failure)
        time.sleep(POLL_SECONDS)


# --- the table ---------------------------------------------------------------------------------------------------------


def table(rounds: Sequence[Round]) -> str:
    """Markdown: pages in milliseconds, reception, processor."""
    alone, both, quiet = situations(rounds)
    lines = ["| ms p50 / p95 / p99 | people alone | while images come | asked |", "|---|---|---|---|"]
    for title, whats in (("**any page**", PAGES), *((row, (row,)) for row in ROWS)):
        cells = [_cell(found, whats) for found in (quiet, both)]
        count = sum(1 for found in both for each in found.fetched if each.what in whats)
        lines.append(f"| {title} | {cells[0]} | {cells[1]} | {count} |")
    rates = [median(each.rate for each in found) if found else float("nan") for found in (alone, both)]
    lines += [
        "",
        (
            f"Reception: {rates[0]:.0f} instances/s alone, {rates[1]:.0f} while people browse: {rates[1] / rates[0]:.0%} "
            f"(goal: at least {RECEPTION_GOAL:.0%}). Goal of any page while images come: p95 below {PAGES_GOAL_SECONDS * 1000:.0f} ms."
        ),
        "",
        "| share of a core | " + " | ".join(_PROCESSES) + " |",
        "|---" * (len(_PROCESSES) + 1) + "|",
    ]
    for title, found in (("reception alone", alone), ("people alone", quiet), ("both", both)):
        shares = [
            sum(each.cpu_seconds.get(name, 0.0) for each in found)
            / max(sum(each.seconds for each in found), 1e-9)
            for name in _PROCESSES
        ]
        lines.append(f"| {title} | " + " | ".join(f"{share:.0%}" for share in shares) + " |")
    answered = sum(1 for found in quiet for each in found.fetched)
    used = sum(found.cpu_seconds.get("web", 0.0) for found in quiet)
    lines += [
        "",
        (
            f"The console used {used / max(answered, 1) * 1000:.1f} ms of processor for an answer of any kind (people alone, pictures and "
            f"streams included). Streams held: {sum(each.streams for each in both)}, sent elsewhere to ask every 4 s: "
            f"{sum(each.refused_streams for each in both)}; events: {sum(each.events for each in both)}."
        ),
    ]
    return "\n".join(lines)


_PROCESSES = ("dicom", "web", "jobs", "courier", "senders", "visitors")


def _cell(rounds: Sequence[Round], whats: Sequence[str]) -> str:
    took = [each.seconds * 1000 for found in rounds for each in found.fetched if each.what in whats]
    return " / ".join(f"{percentile(took, p):.0f}" for p in (50, 95, 99)) if took else "–"


def _said(number: int, rounds: int, found: Round) -> str:
    what = " and ".join(
        name for name, there in (("reception", found.sending), ("people", found.browsing)) if there
    )
    pages = [found]
    return f"round {number + 1}/{rounds}  {what:20}  {found.rate:6.0f} instances/s  pages {_cell(pages, PAGES)} ms"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench browse", description="Measure pages while images come."
    )
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--films", choices=FILMS, default="sensor", help="what the modalities send")
    parser.add_argument(
        "--wire", type=float, default=WIRE_MEGABITS, help="Mbit/s of the box's port; 0: what loopback carries"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each situation in a round")
    parser.add_argument(
        "--folder", type=Path, default=Path("var/bench"), help="on a real disk; default ./var/bench"
    )
    options = parser.parse_args(arguments)
    options.folder = options.folder.absolute()
    options.load = os.getloadavg()[0]
    return options
