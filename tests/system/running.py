"""The whole appliance as its own processes, as a clinic has it: started, spoken to by its command line, stopped.

All that it may write to is inside one folder: its data, its temporary files, what it prints. So a test can look at
every byte that it has left anywhere.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from appliance.box import Box, open_box
from appliance.catalog import devices, totals
from appliance.config import load_config
from appliance.model import Device, ae_title
from tests.bench.wire import answers_echo
from tests.boxes import delivery_states
from tests.dicom.peers import Peer

MIB = 1 << 20
CALLER = "MODALITY"
PATIENCE_SECONDS = 60.0
VERBS = ("dicom", "courier", "jobs", "web")


def wait_for(
    condition: Callable[[], object], what: str | Callable[[], str], *, seconds: float = PATIENCE_SECONDS
) -> None:
    """Return once `condition()` is true; fail with `what` at the deadline."""
    deadline = time.monotonic() + seconds
    pause_seconds = 0.01
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, 0.25)


@dataclass(frozen=True)
class Said:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> Any:
        return json.loads(self.out)


@dataclass
class Appliance:
    """`appliance VERB` for each of `verbs`, or `appliance run`, on a data folder of their own."""

    folder: Path
    dicom_port: int
    web_port: int
    data: Path
    program: str = "appliance"  # the module that a process runs
    added: Mapping[str, str] = field(default_factory=dict)  # to the environment of each
    patience_seconds: float = PATIENCE_SECONDS
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("APPLIANCE_", "AWS_"))}
        return kept | {
            "APPLIANCE_CONFIG": str(self.folder / "appliance.toml"),
            "TMPDIR": str(self.temporary),
            "AWS_EC2_METADATA_DISABLED": "true",
            **self.added,
        }

    @contextmanager
    def opened(self) -> Iterator[Box]:
        """The box itself, for what the command line does not say."""
        box = open_box(load_config({"APPLIANCE_CONFIG": str(self.folder / "appliance.toml")}))
        try:
            yield box
        finally:
            box.close()

    def log_path(self, verb: str) -> Path:
        return self.folder / f"{verb}.log"

    def log(self) -> str:
        """Everything that its processes have printed."""
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("*.log")))

    # --- its processes -----------------------------------------------------------------------------------------------

    def start(self, *verbs: str) -> None:
        """Start processes and wait until they are ready for work."""
        for verb in verbs:
            with self.log_path(verb).open("ab") as log:
                self.processes[verb] = subprocess.Popen(
                    [sys.executable, "-m", self.program, verb],
                    env=self.environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        wait_for(
            lambda: all(self._is_ready(verb) for verb in verbs),
            lambda: f"it is not ready:\n{self.log()}",
            seconds=self.patience_seconds,
        )

    def _is_ready(self, verb: str) -> bool:
        code = self.processes[verb].poll()
        assert code is None, f"appliance {verb} ended with {code}:\n{self.log()}"
        if verb == "dicom":
            return "listening: " in self.log() and self.answers_echo()
        if verb == "web":
            return self.get("/health/live")[0] == 200
        if verb == "run":
            return "Ready.\n" in self.log()
        return self._is_listening_to_signals(verb)

    def _is_listening_to_signals(self, verb: str) -> bool:
        """Whether it would end cleanly when it is told to: one that still loads its modules just dies."""
        status = Path(f"/proc/{self.processes[verb].pid}/status").read_text()
        (caught,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def answers_echo(self) -> bool:
        return answers_echo(self.dicom_port, "CLINICBOX", CALLER)

    def workers(self) -> list[psutil.Process]:
        """The receiving processes, apart from their parent."""
        parent = psutil.Process(self.processes["run" if "run" in self.processes else "dicom"].pid)
        if "run" in self.processes:
            (parent,) = [child for child in parent.children() if "dicom" in child.cmdline()]
        living = [each for each in parent.children() if each.status() != psutil.STATUS_ZOMBIE]
        return sorted(living, key=lambda each: each.pid)

    def family(self) -> list[psutil.Process]:
        """All its processes."""
        found = []
        for process in self.processes.values():
            if process.poll() is None:
                parent = psutil.Process(process.pid)
                found += [parent, *parent.children(recursive=True)]
        return found

    def stop(self, *verbs: str) -> None:
        """Ask processes, by default all, to stop; each must end cleanly."""
        stopping = {verb: self.processes.pop(verb) for verb in verbs or tuple(self.processes)}
        for process in stopping.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for verb, process in stopping.items():
            try:
                code = process.wait(self.patience_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            assert code == 0, f"appliance {verb} ended with {code}:\n{self.log()}"

    # --- speaking to it ----------------------------------------------------------------------------------------------

    def command(self, *words: object, typed: str = "", **variables: str) -> Said:
        """One command line in a process of its own; `typed` is its standard input, `variables` are added to its own."""
        done = subprocess.run(
            [sys.executable, "-m", self.program, *map(str, words)],
            env=self.environment | variables,
            cwd=self.folder,
            input=typed.encode(),
            capture_output=True,
            timeout=self.patience_seconds,
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def say(self, *words: object, typed: str = "") -> str:
        """As `command`, but it must succeed; what it printed."""
        said = self.command(*words, typed=typed)
        assert said.code == 0, f"appliance {' '.join(map(str, words))}: {said.err}"
        return said.out

    def ask(self, *words: object) -> Any:
        """The rows of a listing."""
        return json.loads(self.say(*words, "--json"))

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page, without a session; (0, "") if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def peer(self) -> Peer:
        return Peer(self.dicom_port)

    def studies(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask("studies")
        return rows

    def wait_for_instances(self, count: int, *, seconds: float = PATIENCE_SECONDS) -> None:
        """What is acknowledged is in the catalog a moment later: wait for `count` instances, and no more than that."""
        with self.opened() as box:

            def recorded() -> int:
                with box.catalog.reading() as reading:
                    return totals.totals(reading).instances

            wait_for(
                lambda: recorded() >= count,
                lambda: f"{count} instances, found {recorded()}:\n{self.log()}",
                seconds=seconds,
            )
            assert recorded() == count

    def wait_until_confirmed(self, count: int, *, seconds: float = PATIENCE_SECONDS) -> list[dict[str, Any]]:
        """All deliveries, once there are `count` and each has its receipt."""
        with self.opened() as box:

            def states() -> Counter[str]:
                with box.catalog.reading() as reading:
                    return delivery_states(reading)

            wait_for(
                lambda: states().total() >= count and set(states()) <= {"CONFIRMED"},
                lambda: f"{count} deliveries confirmed, found {states()}:\n{self.log()}",
                seconds=seconds,
            )
        rows: list[dict[str, Any]] = self.ask("deliveries")
        assert len(rows) == count
        return rows

    def files(self, *folders: str) -> list[Path]:
        """Every file below the given folders of its data (by default all)."""
        roots = [self.data / each for each in folders] if folders else [self.data]
        return sorted(path for root in roots for path in root.rglob("*") if path.is_file())


@contextmanager
def appliance(
    folder: Path,
    ports: Callable[[], int],
    *,
    start: Sequence[str] = (),
    data: Path | None = None,
    workers: int = 2,
    reserve_bytes: int = 0,
    log_bytes: int = 16 * MIB,
    named: str = "",
    more: str = "",
    program: str = "appliance",
    added: Mapping[str, str] | None = None,
) -> Iterator[Appliance]:
    """An appliance in `folder` that knows `CALLER` at this machine; `start` names the processes to start.

    `named` are lines of its configuration before the first section, `more` those after the last. Each process runs the
    module `program`, and has the variables `added`.
    """
    running = Appliance(folder, ports(), ports(), data or folder / "data", program, added or {})
    running.temporary.mkdir(parents=True)
    (folder / "appliance.toml").write_text(
        f'data = "{running.data}"\n{named}\n'
        f'[dicom]\nbind = "127.0.0.1"\nport = {running.dicom_port}\nworkers = {workers}\n'
        f"[web]\nport = {running.web_port}\n"
        f"[store]\nreserve_bytes = {reserve_bytes}\nlog_bytes = {log_bytes}\n{more}"
    )
    try:
        with running.opened() as box, box.catalog.transaction() as tx:
            devices.add_device(tx, Device(ae_title(CALLER), "127.0.0.1"), datetime.now(UTC))
        running.start(*start)
        yield running
        running.stop()
    finally:
        for process in running.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
