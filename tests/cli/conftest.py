"""The command line in this process, on a data folder of its own: as typed, with what it prints and its exit code."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.box import open_box
from appliance.cli import main
from appliance.config import load_config
from tests import synthetic
from tests.people import choose_password


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


PASSWORD = "quatre lapins sur une horloge"


def account(say: Say, login: str, *, role: str) -> None:
    """Give a person an account, and choose its password as the person would."""
    assert say("user", "invite", login, "--name", login.title(), "--role", role).code == 0
    box = open_box(load_config(os.environ))
    try:
        with box.catalog.transaction() as tx:
            choose_password(tx, login, PASSWORD, datetime.now(UTC))
    finally:
        box.close()


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """The files of a small dental morning: 22 instances of two patients, three studies."""
    return synthetic.write(synthetic.dental_set(1, scale=0.1), tmp_path / "films")
