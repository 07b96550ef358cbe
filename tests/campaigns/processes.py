"""The appliance's processes as a campaign sees them: started, killed without a word, started again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from tests.bench.wire import answers_echo

CALLING = "CAMPAIGN"
READY_SECONDS = 300
"""Patience, and no figure: other work may have the processors."""
BACKUP_PAUSE_SECONDS = 5.0
WEIGHTS = (3, 3, 1, 1, 1)
"""How often each is killed: dicom, courier, jobs, web, the backup. What holds an image that was just acknowledged, most."""
AT_ONCE = (1, 2, 3, 5)
AT_ONCE_WEIGHTS = (10, 6, 3, 1)
"""How many are killed together: one after the other finds every moment of each, and several what they leave to each other."""


def _is_open(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Running:
    """One `appliance VERB …` and whatever it has forked. What ends by itself is begun again after `pause_seconds`."""

    words: tuple[str, ...]
    environment: dict[str, str]
    log: IO[bytes]
    pause_seconds: float = 0.0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _ended: float = field(default=0.0, init=False)

    @property
    def verb(self) -> str:
        return self.words[0]

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "appliance", *self.words],
            env={**os.environ, **self.environment},
            stdout=self.log,
            stderr=self.log,
        )

    def ensure(self) -> None:
        """Start it again if it has died or ended."""
        if self.process is not None and self.process.poll() is None:
            return
        self._ended = self._ended or time.monotonic()
        if time.monotonic() >= self._ended + self.pause_seconds:
            self._ended = 0.0
            self.start()

    def pids(self) -> list[int]:
        """Its own process and its children, as far as they live."""
        if self.process is None or self.process.poll() is not None:
            return []
        try:
            children = psutil.Process(self.process.pid).children()
            return [
                self.process.pid,
                *(each.pid for each in children if each.status() != psutil.STATUS_ZOMBIE),
            ]
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> int:
        """Ask it to stop, as systemd does; its exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@dataclass
class Appliance:
    """Every process of the appliance on one data folder, and a backup to the archive `archive` after the other."""

    data: Path
    port: int
    web_port: int
    archive: str
    log: IO[bytes]
    parts: list[Running] = field(init=False)

    def __post_init__(self) -> None:
        environment = {
            "APPLIANCE_DATA": str(self.data),
            "APPLIANCE_DICOM_PORT": str(self.port),
            "APPLIANCE_WEB_PORT": str(self.web_port),
        }
        config = self.data.parent / "campaign.toml"
        config.write_text(
            "[store]\nlog_bytes = 16777216\nreserve_bytes = 0\n[courier]\nlease_seconds = 30\n", "utf-8"
        )
        environment["APPLIANCE_CONFIG"] = str(config)
        self.parts = [Running((verb,), environment, self.log) for verb in ("dicom", "courier", "jobs", "web")]
        words = ("backup", "now", "--to", self.archive)
        self.parts.append(Running(words, environment, self.log, pause_seconds=BACKUP_PAUSE_SECONDS))

    def ensure(self) -> None:
        for part in self.parts:
            part.ensure()

    def wait_until_ready(self) -> None:
        """Return when it answers C-ECHO; starts again what has died."""
        deadline = time.monotonic() + READY_SECONDS
        while not answers_echo(self.port, "CLINICBOX", CALLING):
            self.ensure()
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready again within {READY_SECONDS} s")
            time.sleep(0.02)

    def begin(self) -> None:
        """Start all, and return when each answers; raises AssertionError where one can't be had, which nobody could kill either."""
        self.ensure()
        self.wait_until_ready()
        deadline = time.monotonic() + READY_SECONDS
        while not _is_open(self.web_port):
            alone = [
                part.verb for part in self.parts[:-1] if part.process and part.process.poll() is not None
            ]
            assert not alone, f"appliance {alone[0]} ended by itself"
            assert time.monotonic() < deadline, "the console does not answer"
            time.sleep(0.1)

    def kill_some(self, dice: random.Random, most: int) -> list[str]:
        """SIGKILL one process or several at once, whichever, and no more than `most`; the part's verb for each."""
        (many,) = dice.choices(AT_ONCE, AT_ONCE_WEIGHTS)
        killed: dict[int, str] = {}
        for _ in range(min(many, most)):
            killed |= self._kill_one(dice, killed)
        return list(killed.values())

    def _kill_one(self, dice: random.Random, before: Container[int]) -> dict[int, str]:
        """A parent is chosen now and then, a child mostly; nothing where what was chosen had gone before."""
        (part,) = dice.choices(self.parts, WEIGHTS)
        pids = part.pids()
        if not pids:
            return {}
        chosen = pids[0] if len(pids) == 1 or dice.random() < 0.1 else dice.choice(pids[1:])
        if chosen in before:
            return {}
        try:
            os.kill(chosen, signal.SIGKILL)
        except ProcessLookupError:
            return {}
        return {chosen: part.verb if chosen == pids[0] else f"{part.verb}, a worker"}

    def kill(self) -> None:
        """Leave nothing running, after a campaign that failed."""
        for part in self.parts:
            for pid in part.pids():
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop all as systemd would, and make one more backup; raises AssertionError if one does not end well."""
        *services, backup = self.parts
        for part in services:
            if part.process is not None and part.process.poll() is None:
                code = part.stop()
                # As systemd judges it: one that had only begun ends by the signal itself.
                assert code in (0, -signal.SIGTERM), f"appliance {part.verb} stopped with {code}"
        if backup.process is not None:
            backup.process.wait(READY_SECONDS)
        backup.start()
        assert backup.process is not None
        code = backup.process.wait(READY_SECONDS)
        assert code == 0, f"appliance {' '.join(backup.words)} ended with {code}"
