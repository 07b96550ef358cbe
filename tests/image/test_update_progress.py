"""How far a version is that comes: what `update_progress.py` makes of what sysupdate and the server say, without either of the box."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from http.client import BadStatusLine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from unittest.mock import patch

import pytest

from appliance.health import gathering
from appliance.updates import noting
from appliance.updates.noting import Fetch
from tests.image.loading import loaded
from tests.image.serving import Shop, shop
from tests.image.test_configuration import EXTRA
from tests.image.test_updates import TRANSFERS

PROGRAM = EXTRA / "usr/lib/appliance/update_progress.py"
BEGAN = 1764000000
NOW = datetime.fromtimestamp(BEGAN, UTC)
SIZES = [1_000, 12_000, 3_000]
"""Of the hashes, the root and the kernel image."""

SYSUPDATE = """
import json, os, socket, sys, time
folder = sys.argv[1]
said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
said.connect(os.environ["NOTIFY_SOCKET"])
for message, waits_for in json.load(open(f"{folder}/says")):
    said.send(message.encode())
    for _ in range(600):
        told = open(f"{folder}/fetching").read()
        if waits_for is None or told.endswith(waits_for):
            break
        time.sleep(0.05)
    else:
        sys.exit(f"{message!r}: {told!r}")
    print(told, end="")
sys.exit(int(sys.argv[2]))
"""
"""Says so, and waits until it is told so."""

STOPPED = """
aside = os.path.dirname(os.environ["NOTIFY_SOCKET"]) + "/told"
os.mkdir(aside)
said.settimeout(30)
for _ in range(300):
    for percent in range(17, 33):
        said.send(f"X_SYSUPDATE_PROGRESS={percent}\\nX_SYSUPDATE_TRANSFERS_LEFT=3\\nX_SYSUPDATE_TRANSFERS_DONE=0".encode())
os.rmdir(aside)
"""
"""Says much more than a socket holds, and nothing of it can be written down until it has."""


def version(folder: Path, *, named: str = "0.2.0") -> Path:
    """As a server of updates has it, beside one that is older and one whose number begins alike."""
    folder.mkdir()
    kinds = ("_00aa.verity.raw.gz", "_00bb.root.raw.gz", ".efi")
    for each in ("0.1.0", named, f"{named}0"):
        for kind, size in zip(kinds, SIZES, strict=True):
            (folder / f"appliance_{each}{kind}").write_bytes(bytes(size if each == named else 7))
    names = sorted(each.name for each in folder.iterdir())
    (folder / "SHA256SUMS").write_text("".join(f"{'0' * 64}  {name}\n" for name in names))
    return folder


def far(overall: int, done: int, left: int) -> str:
    """As sysupdate 257 says it."""
    return f"X_SYSUPDATE_PROGRESS={overall}\nX_SYSUPDATE_TRANSFERS_LEFT={left}\nX_SYSUPDATE_TRANSFERS_DONE={done}\nSTATUS=x"


COMES = "READY=1\nX_SYSUPDATE_VERSION=0.2.0\nSTATUS=Making room for '0.2.0'."


@pytest.fixture
def told() -> Iterator[Path]:
    """The file that the console reads, in a folder whose name is short: a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="told") as folder:
        (Path(folder) / "fetching").write_text(f"{BEGAN}\n")
        yield Path(folder) / "fetching"


@pytest.fixture
def offers(tmp_path: Path) -> Iterator[Shop]:
    with shop() as offering:
        offering.folder = version(tmp_path / "offered")
        yield offering


def run(
    told: Path, port: int, says: Sequence[tuple[str, str | None]], code: int = 0, sysupdate: str = SYSUPDATE
) -> subprocess.CompletedProcess[str]:
    """What it tells while sysupdate says so; each is said once what was expected of the one before is told."""
    (told.parent / "says").write_text(json.dumps(says))
    (told.parent / "sysupdate").write_text(sysupdate)
    text = PROGRAM.read_text().replace("/run/sysupdate.d", str(TRANSFERS[0].parent))
    assert "/run/sysupdate.d" not in text
    text = text.replace("LOOK_SECONDS = 5\n", "LOOK_SECONDS = 0.2\n")
    command = [sys.executable, str(told.parent / "sysupdate"), str(told.parent), str(code)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", text, f"http://127.0.0.1:{port}/", str(told), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        umask=0o077,  # as its unit has it
    )
    left = {"fetching", "says", "sysupdate"}
    assert {each.name for each in told.parent.iterdir()} - {"more"} == left, "nothing of its own stays"
    return done


def as_read(told: Path) -> Fetch | None:
    with patch.object(gathering, "UPDATES", told.parent):
        return noting.fetching(NOW)


def test_it_is_told_how_far_each_file_is_by_how_long_it_is(told: Path, offers: Shop) -> None:
    says = [
        (COMES, "\n0.2.0 0 16000\n"),
        (far(16, 0, 3), "\n0.2.0 3 16000\n"),
        (far(33, 1, 2), "\n0.2.0 6 16000\n"),
        (far(50, 1, 2), "\n0.2.0 43 16000\n"),
        (far(93, 2, 1), "\n0.2.0 96 16000\n"),
        (far(99, 2, 1), "\n0.2.0 99 16000\n"),
        ("STATUS=Installing '0.2.0'.", "\n0.2.0 99 16000\n"),
    ]
    done = run(told, offers.port, says)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{BEGAN}\n0.2.0 ") == len(says), "since when stands there all along"
    assert told.stat().st_mode & 0o777 == 0o644, "whatever else of an update is root's alone"
    assert as_read(told) == Fetch(NOW, "0.2.0", 99, 16_000), "as the appliance reads it"


def test_a_figure_is_never_ahead_of_what_has_come() -> None:
    """As sysupdate 257 makes its own of the percent of one file among others: `context_on_acquire_progress`."""
    percent_of = loaded(PROGRAM).percent_of
    for done in range(3):
        for percent in range(101):
            overall = (100 * 100 * done // 3 + 100 * percent // 3) // 100
            came = sum(SIZES[:done]) + SIZES[done] * percent / 100
            found = percent_of(SIZES, overall, done)
            assert 100 * (came - 0.03 * SIZES[done]) / sum(SIZES) - 1 < found <= 100 * came / sum(SIZES)


@pytest.mark.parametrize("lacks", ["SHA256SUMS", "appliance_0.2.0_00bb.root.raw.gz", "its line", "all of it"])
def test_where_the_server_does_not_say_no_figure_is_made_up_and_the_update_goes_on(
    lacks: str, told: Path, offers: Shop
) -> None:
    if lacks == "its line":
        sums = offers.folder / "SHA256SUMS"
        sums.write_text(sums.read_text().replace("appliance_0.2.0.efi", "another"))
    elif lacks == "all of it":
        shutil.rmtree(offers.folder)
    else:
        (offers.folder / lacks).unlink()
    done = run(told, offers.port, [(COMES, None), (far(50, 1, 2), None), ("EXIT_STATUS=0", None)])
    assert done.returncode == 0, done.stderr
    assert as_read(told) == Fetch(NOW)


@pytest.mark.parametrize(
    "words", ["X_SYSUPDATE_VERSION=../../x", "X_SYSUPDATE_PROGRESS=many", "=", "\xff", far(40, 3, 0)]
)
def test_what_sysupdate_may_come_to_say_ends_nothing(words: str, told: Path, offers: Shop) -> None:
    done = run(told, offers.port, [(words, None), (COMES, "\n0.2.0 0 16000\n"), (words, None)])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [1, 77])
def test_it_ends_as_sysupdate_ends(code: int, told: Path, offers: Shop) -> None:
    assert run(told, offers.port, [("STATUS=No update needed.", None)], code).returncode == code
    assert as_read(told) == Fetch(NOW), "a look that found nothing tells of no version"


def test_who_ends_it_ends_sysupdate_and_nothing_of_its_own_stays(told: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-I", str(PROGRAM), "http://127.0.0.1:1", str(told), "sh", "-c", "echo on; exec sleep 600"],
        stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == b"on\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == b"", "whatever had it open is gone"
        assert running.wait(30) == 143
    assert [each.name for each in told.parent.iterdir()] == ["fetching"]


# --- nothing that fails here fails the update, or holds it up -----------------------------------------------------------


def test_the_updates_lock_is_held_until_sysupdate_has_ended_whoever_else_was_killed(told: Path) -> None:
    """By kill -9 of the shell and of what tells how far it is: the next update must not begin beside it."""
    lock = told.parent / "lock"
    holding = f"exec 9>{lock}; flock 9; {sys.executable} -I {PROGRAM} http://127.0.0.1:1 {told} sleep 1000 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", holding], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        program = int(shell.stdout.readline())
        children = Path(f"/proc/{program}/task/{program}/children")
        sysupdate = int(until(lambda: children.read_text().split(), "sysupdate runs")[0])
        try:
            for each in (shell.pid, program):
                os.kill(each, signal.SIGKILL)
            shell.wait()
            until(lambda: not children.exists(), "what tells it has ended")
            assert is_held(lock)
        finally:
            os.kill(sysupdate, signal.SIGKILL)
    until(lambda: not is_held(lock), "then it is free")


def is_held(lock: Path) -> bool:
    return subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False).returncode != 0


def until(looked: Callable[[], Any], what: str) -> Any:
    """What is found at last."""
    for _ in range(600):
        if found := looked():
            return found
        time.sleep(0.05)
    raise AssertionError(what)


def test_what_cannot_be_written_down_does_not_keep_sysupdate_waiting_and_is_told_later(
    told: Path, offers: Shop
) -> None:
    first, rest = SYSUPDATE.split("for message, waits_for in json.load(", 1)
    says = f"for message, waits_for in json.load({rest}"
    loop, ends = says.split("sys.exit(int(", 1)
    again = loop.replace("/says", "/more")
    (told.parent / "more").write_text(json.dumps([(far(33, 1, 2), "\n0.2.0 6 16000\n")]))
    text = f"{first}{loop}{STOPPED}{again}sys.exit(int({ends}"
    done = run(told, offers.port, [(COMES, "\n0.2.0 0 16000\n")], sysupdate=text)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("IsADirectoryError") == 1, "said once, not each time"


def test_it_is_cleared_away_only_once_nothing_is_written_any_more_and_even_if_it_cannot_be(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = loaded(PROGRAM)
    comes, wrote = threading.Event(), []

    def tell(fetch: Fetch) -> None:
        comes.set()
        time.sleep(0.3)
        wrote.append(Path(fetch.aside).write_text("x"))  # type: ignore[attr-defined]

    def fail(*_: object, **__: object) -> None:
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(progress.Fetch, "tell", tell)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 3600.0)  # it is told to end, and does not wait for a word
    for is_stuck in (False, True):
        comes.clear()
        with monkeypatch.context() as stuck, progress.heard("http://127.0.0.1:1", str(told)) as environment:
            if is_stuck:
                stuck.setattr(os, "rmdir", fail)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as says:
                says.sendto(b"STATUS=x", environment["NOTIFY_SOCKET"])
            assert comes.wait(30)
        assert wrote
        assert all(each == 1 for each in wrote), "its folder was there"
        if not is_stuck:
            assert [each.name for each in told.parent.iterdir()] == ["fetching"]


def no_folder(told: Path) -> Path:
    return told.parent / "gone" / "fetching"


def no_room_for_a_name(told: Path) -> Path:
    folder = told.parent / ("x" * 100)
    folder.mkdir()
    return Path(shutil.copy(told, folder))


def not_begun(told: Path) -> Path:
    told.unlink()
    return told


@pytest.mark.parametrize("lacks", [no_folder, no_room_for_a_name, not_begun])
def test_what_cannot_be_heard_runs_unheard(lacks: Callable[[Path], Path], told: Path) -> None:
    command = ["sh", "-c", 'echo "on${NOTIFY_SOCKET+ heard}"; exit 3']
    done = subprocess.run(
        [sys.executable, "-I", str(PROGRAM), "http://127.0.0.1:1", str(lacks(told)), *command],
        env={key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (3, "on\n")
    assert "how far it is can't be told" in done.stderr
    assert not list(told.parent.rglob("said"))


def test_where_no_thread_can_be_had_it_runs_unheard(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of tasks, for one: a socket that nobody reads would hold sysupdate up."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with loaded(PROGRAM).heard("http://127.0.0.1:1", str(told)) as environment:
        assert environment == {}
    assert [each.name for each in told.parent.iterdir()] == ["fetching"]


class Answer(SimpleNamespace):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """As an answer's."""


@pytest.mark.parametrize("length", ["0", "-16000", "many", None, str(10**15), "9" * 5000])
def test_a_length_that_no_file_has_is_not_taken(
    length: str | None,
    told: Path,
    offers: Shop,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    progress = loaded(PROGRAM)
    asked = progress.ask

    def ask(method: str, address: str) -> object:
        return Answer(headers={"Content-Length": length}) if method == "HEAD" else asked(method, address)

    monkeypatch.setattr(progress, "ask", ask)
    monkeypatch.setattr(progress, "TRANSFERS", str(TRANSFERS[0].parent))
    fetch = progress.Fetch(f"http://127.0.0.1:{offers.port}", str(told), f"{told}.aside")
    fetch.version = "0.2.0"
    fetch.measure()
    fetch.tell()
    assert fetch.sizes == []
    assert "ValueError" in capfd.readouterr().err
    assert as_read(told) == Fetch(NOW), "since when stays"


@pytest.mark.parametrize("error", [BadStatusLine("x"), KeyError("Source"), RuntimeError("x")])
def test_an_answer_that_is_none_ends_nothing(
    error: Exception, told: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    progress = loaded(PROGRAM)

    def ask(*_: str) -> object:
        raise error

    monkeypatch.setattr(progress, "ask", ask)
    progress.Fetch("http://127.0.0.1:1", str(told), f"{told}.aside").measure()
    assert type(error).__name__ in capfd.readouterr().err
