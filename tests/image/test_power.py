"""What the harness counts of power cuts, without a machine: each start is timed until the box serves again, and a run that breaks off leaves
what it saw."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.bench.wire import Encoded, PeerFailed
from tests.image import load
from tests.image.machine import PATIENCE_SECONDS, Hardware, Machine
from tests.image.promises import kept


class Clinic:
    """A box that acknowledges an image after so many seconds of each start, has started whole a minute later, and answers to ten more images
    before each cut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, starts: list[float]) -> None:
        self.now, self.starts, self.loses = 0.0, iter(starts), False
        self.figures = folder / "power.json"
        monkeypatch.setattr(load, "FIGURES", self.figures)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(load, "image", lambda kind: folder / f"disk{kind}")
        for name in ("switched_on", "running", "serves", "cut_under_load", "nothing_is_lost"):
            monkeypatch.setattr(load, name, getattr(self, name))
        monkeypatch.setattr(load, "admit", lambda machine: None)
        monkeypatch.setattr(Hardware, "assemble", lambda hardware, image: None)
        self.hardware = Hardware(folder)

    @contextmanager
    def switched_on(self, hardware: Hardware, ports: tuple[int, ...]) -> Iterator[Machine]:
        class Off(Machine):
            def __init__(self) -> None:
                """Nothing is on."""

            def power_off(self) -> None:
                """Nor does anything go off."""

        yield Off()

    def serves(self, machine: Machine, ledger: set[str]) -> None:
        self.now += next(self.starts)
        ledger.add(str(len(ledger)))

    def running(self, machine: Machine, promise: str = "") -> None:
        self.now += 60

    def cut_under_load(self, machine: Machine, ledger: set[str]) -> None:
        ledger |= {str(len(ledger) + number) for number in range(10)}

    def nothing_is_lost(self, machine: Machine, ledger: set[str]) -> None:
        kept("all are there", not self.loses)


def test_cuts_are_counted_and_starts_after_them_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic = Clinic(monkeypatch, tmp_path, [100, 130, 190])
    load.power(clinic.hardware, 3)
    *_, counted, timed, promised = capsys.readouterr().out.splitlines()
    assert counted == "3 cuts, 33 acknowledged, 0 lost", "what shows that it serves is counted too"
    assert timed.endswith("min 100 s, median 130 s, 95 % within 190 s, max 190 s"), "the first followed none"
    assert promised.endswith("median × 1.08, max × 1.58; 1 of 3 within them"), "of the 120 s of R2"
    assert json.loads(clinic.figures.read_text()) == {
        "cuts": 3,
        "acknowledged": 33,
        "lost": 0,
        "promised_seconds": 120,
        "ready_seconds": [100, 130, 190],
    }


def test_a_start_that_takes_longer_than_anybody_waits_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = Clinic(monkeypatch, tmp_path, [100, PATIENCE_SECONDS])
    with pytest.raises(SystemExit):
        load.power(clinic.hardware, 3)
    assert json.loads(clinic.figures.read_text())["ready_seconds"] == [100]


def test_a_loss_ends_the_run_and_is_no_cut_that_was_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic = Clinic(monkeypatch, tmp_path, [100, 130])
    clinic.loses = True
    with pytest.raises(SystemExit):
        load.power(clinic.hardware, 2)
    assert not clinic.figures.exists()
    assert "0 lost" not in capsys.readouterr().out


def test_a_box_serves_once_it_acknowledges_an_image_and_not_once_it_takes_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[int | Exception] = [OSError("reset"), PeerFailed("it has closed"), 0xA700, 0]
    asked = []

    class Line:
        def __init__(self, *arguments: object, **options: object) -> None:
            """Somebody takes the call."""

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

        def store(self, encoded: Encoded) -> int:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    class Up(Machine):
        def __init__(self) -> None:
            self.ports = {11112: 1}

        def wait_until(self, command: str, *_: float) -> None:
            asked.append(command)

    monkeypatch.setattr(load, "Sender", Line)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    ledger: set[str] = {"1"}
    load.serves(Up(), ledger)
    assert (asked, answers) == ([load.UP], [])
    assert len(ledger) == 2, "it is missed as any other is, if it goes"
