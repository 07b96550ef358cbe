"""What the harness counts of power cuts, without a machine: each start is timed, and a run that breaks off leaves what it saw."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.image import load
from tests.image.machine import PATIENCE_SECONDS, Hardware, Machine
from tests.image.promises import kept


class Clinic:
    """A box that is ready after so many seconds at each start, and answers to ten more images before each cut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, starts: list[float]) -> None:
        self.now, self.starts, self.loses = 0.0, iter(starts), False
        self.figures = folder / "power.json"
        monkeypatch.setattr(load, "FIGURES", self.figures)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(load, "image", lambda kind: folder / f"disk{kind}")
        for name in ("switched_on", "running", "cut_under_load", "nothing_is_lost"):
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

    def running(self, machine: Machine) -> None:
        self.now += next(self.starts)

    def cut_under_load(self, machine: Machine, ledger: set[str]) -> None:
        ledger |= {str(len(ledger) + number) for number in range(10)}

    def nothing_is_lost(self, machine: Machine, ledger: set[str]) -> None:
        kept("all are there", not self.loses)


def test_cuts_are_counted_and_starts_after_them_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic = Clinic(monkeypatch, tmp_path, [300, 100, 130, 190])
    load.power(clinic.hardware, 3)
    *_, counted, timed = capsys.readouterr().out.splitlines()
    assert counted == "3 cuts, 30 acknowledged, 0 lost"
    assert timed == "ready after a cut, emulated: min 100 s, median 130 s, max 190 s", (
        "the first followed none"
    )
    assert json.loads(clinic.figures.read_text()) == {
        "cuts": 3,
        "acknowledged": 30,
        "lost": 0,
        "ready_seconds": [100, 130, 190],
    }


def test_a_start_that_takes_longer_than_anybody_waits_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = Clinic(monkeypatch, tmp_path, [300, 100, PATIENCE_SECONDS])
    with pytest.raises(SystemExit):
        load.power(clinic.hardware, 3)
    assert json.loads(clinic.figures.read_text())["ready_seconds"] == [100]


def test_a_loss_ends_the_run_and_is_no_cut_that_was_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic = Clinic(monkeypatch, tmp_path, [300, 100, 130])
    clinic.loses = True
    with pytest.raises(SystemExit):
        load.power(clinic.hardware, 2)
    assert not clinic.figures.exists()
    assert "0 lost" not in capsys.readouterr().out
