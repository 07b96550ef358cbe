"""The command line in this process, on a data folder of its own: as typed, with what it prints and its exit code."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import main
from tests import synthetic


@dataclass(frozen=True)
class Outcome:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> Any:
        return json.loads(self.out)


Say = Callable[..., Outcome]


@pytest.fixture
def say(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """A function that runs one command line; `typed` is what comes on standard input."""
    monkeypatch.setenv("APPLIANCE_DATA", str(data_dir))

    def run(*words: object, typed: str = "") -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """The files of a small dental morning: 22 instances of two patients, three studies."""
    return synthetic.write(synthetic.dental_set(1, scale=0.1), tmp_path / "films")
