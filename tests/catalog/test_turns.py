"""Writers come in turn: nobody is passed twice, whoever dies gives the turn back, and whoever waits too long is told."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from appliance.catalog import Catalog, settings
from appliance.catalog.turns import Turns
from appliance.errors import Transient
from tests.catalog.arrivals import KEY, NOW

_ROOT = Path(__file__).parents[2]
LONG = 120.0


def _holder(path: Path) -> "subprocess.Popen[str]":
    """A process that has the turn, says so, and keeps it until it is told a line."""
    script = """
        import sys
        from pathlib import Path
        from appliance.catalog.turns import Turns
        with Turns(Path(sys.argv[1])).turn(120):
            print("mine", flush=True)
            sys.stdin.readline()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def test_one_that_writes_without_pause_lets_whoever_waits_come_next(tmp_path: Path) -> None:
    """However often the first writes, the second waits for one turn of it, and for no other."""
    greedy, patient = Turns(tmp_path / "catalog.db"), Turns(tmp_path / "catalog.db")
    order: list[str] = []
    first_is_in, second_waits = threading.Event(), threading.Event()

    def wait() -> None:
        first_is_in.wait(LONG)
        looks = threading.Thread(target=watch)
        looks.start()
        with patient.turn(LONG):
            order.append("patient")
        looks.join()

    def watch() -> None:
        """Until the second has *next*, which is when nobody else can have it."""
        probe = os.open(tmp_path / "catalog.db.next", os.O_RDWR | os.O_CREAT)
        while not second_waits.is_set():
            try:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(probe, fcntl.LOCK_UN)
            except BlockingIOError:
                second_waits.set()
        os.close(probe)

    waiting = threading.Thread(target=wait)
    waiting.start()
    with greedy.turn(LONG):
        order.append("greedy")
        first_is_in.set()
        assert second_waits.wait(LONG)
    for _ in range(20):
        with greedy.turn(LONG):
            order.append("greedy")
    waiting.join(LONG)
    assert order[1] == "patient", order
    greedy.close()
    patient.close()


def test_a_process_that_dies_in_its_turn_gives_it_back(tmp_path: Path) -> None:
    holder = _holder(tmp_path / "catalog.db")
    mine = Turns(tmp_path / "catalog.db")
    with pytest.raises(Transient), mine.turn(0.05):
        raise AssertionError("two have the turn")
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with mine.turn(LONG):
        pass
    mine.close()


def test_who_waits_too_long_leaves_the_line_to_the_others(tmp_path: Path) -> None:
    holder = _holder(tmp_path / "catalog.db")
    hasty, patient = Turns(tmp_path / "catalog.db"), Turns(tmp_path / "catalog.db")
    for _ in range(3):
        with pytest.raises(Transient, match="busy"), hasty.turn(0.02):
            raise AssertionError("two have the turn")
    holder.communicate("go on\n")
    with patient.turn(LONG):
        pass
    with hasty.turn(LONG):
        pass
    hasty.close()
    patient.close()


def test_a_transaction_that_fails_gives_its_turn_back(catalog: Catalog, tmp_path: Path) -> None:
    other = Catalog.open(tmp_path / "catalog.db", KEY)
    with pytest.raises(RuntimeError), catalog.transaction():
        raise RuntimeError("of the caller")
    with other.transaction() as tx:
        settings.put(tx, "a", 1, NOW)
    other.close()


def test_the_line_is_closed_only_when_nobody_writes(catalog: Catalog) -> None:
    """A box that closes while one of its threads still writes leaves that thread its turn."""
    with catalog.transaction() as tx:
        settings.put(tx, "a", 1, NOW)
        catalog._turns.close()
        other = Turns(catalog._path)
        with pytest.raises(Transient), other.turn(0.02):
            raise AssertionError("two have the turn")
    with other.turn(LONG):
        pass
    other.close()


def test_whoever_somebody_waits_for_goes_before_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three in the background want the turn; the one who comes for a person is passed by none of them."""
    monkeypatch.setattr("appliance.catalog.turns.GIVE_WAY_SECONDS", LONG)
    path = tmp_path / "catalog.db"
    holder = Turns(path)
    background = [Turns(path) for _ in range(3)]
    for each in background:
        each.give_way()
    person = Turns(path)
    order: list[str] = []

    def write(turns: Turns, name: str) -> None:
        with turns.turn(LONG):
            order.append(name)

    with holder.turn(LONG):
        threads = [threading.Thread(target=write, args=(background[0], "background"))]
        threads[0].start()
        _until_taken(path.with_name("catalog.db.next"))
        threads.append(threading.Thread(target=write, args=(person, "person")))
        threads[1].start()
        _until_announced(path.with_name("catalog.db.first"))
        for each in background[1:]:
            threads.append(threading.Thread(target=write, args=(each, "background")))
            threads[-1].start()
    for thread in threads:
        thread.join(LONG)
    assert order == ["person", *["background"] * 3]
    for turns in (holder, person, *background):
        turns.close()


def test_the_background_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who stands before the line and never comes, such as a stopped process, holds nobody up for good."""
    monkeypatch.setattr("appliance.catalog.turns.GIVE_WAY_SECONDS", 0.05)
    turns = Turns(tmp_path / "catalog.db")
    turns.give_way()
    stopped = os.open(tmp_path / "catalog.db.first", os.O_RDWR | os.O_CREAT)
    fcntl.flock(stopped, fcntl.LOCK_SH)
    with turns.turn(LONG):
        pass
    os.close(stopped)
    turns.close()


def _until_taken(lock: Path) -> None:
    """Return once somebody has `lock`."""
    probe = os.open(lock, os.O_RDWR | os.O_CREAT)
    while True:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            break
        fcntl.flock(probe, fcntl.LOCK_UN)
        time.sleep(0.001)
    os.close(probe)


def _until_announced(lock: Path) -> None:
    """Return once a person waits: *first* is shared then, while the background only tries it for moments, for itself alone."""
    number = f":{lock.stat().st_ino} "
    while not any(
        number in each and " READ " in each for each in Path("/proc/locks").read_text("ascii").splitlines()
    ):
        time.sleep(0.001)
