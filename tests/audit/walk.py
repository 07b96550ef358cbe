"""What walks the appliance: a real box with a morning in it, a browser, a command line, and the judgement of each step.

An `Act` must leave rows with its words; `Nothing` says why a step needs none, and what it shows is searched for the
patients of the box all the same.
"""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box
from appliance.catalog import destinations, devices
from appliance.cli import main
from tests import synthetic
from tests.people import choose_password
from tests.replication.file_servers import FileServer, openssh
from tests.replication.shares import ShareServer, samba
from tests.synthetic.patients import PATIENTS
from tests.web.conftest import LOGIN, PASSWORD, csrf_of, fill, sign_in


@dataclass
class World:
    """A box with images, its owner's browser, a stranger's, and a command line."""

    box: Box
    app: Flask
    folder: Path
    owner: FlaskClient = field(init=False)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    def __post_init__(self) -> None:
        fill(self.box)
        self.say("setting", "set", "sessions.concurrent", "50")
        self.films = synthetic.write(synthetic.dental_set(2, scale=0.1), self.folder / "films")
        self.owner = self.browser()

    def browser(self) -> FlaskClient:
        """A browser in which the owner has signed in."""
        client = self.app.test_client()
        assert sign_in(client, PASSWORD, LOGIN).status_code == 303
        return client

    def get(self, path: str, **headers: str) -> Any:
        return self.owner.get(path, headers={"Accept-Language": "en", **headers})

    def post(self, path: str, client: FlaskClient | None = None, /, **data: object) -> Any:
        client = client or self.owner
        token = csrf_of(client.get("/help").get_data(as_text=True))
        return client.post(path, data={"csrf": token, **data}, headers={"Accept-Language": "en"})

    def say(self, *words: object, typed: str = "", exit_code: int = 0) -> str:
        """One command line, which ends with that code; what it printed."""
        out, err = io.StringIO(), io.StringIO()
        environment = {"APPLIANCE_DATA": str(self.box.config.data)}
        with (
            patch.dict("os.environ", environment),
            patch("sys.stdin", io.StringIO(typed)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = main([str(word) for word in words])
        assert code == exit_code, (words, err.getvalue())
        return out.getvalue()

    def next(self) -> int:
        return next(self.numbers)

    @property
    def patients(self) -> set[str]:
        """What nothing outside may say: family names and numbers of the patients here."""
        return {mark for each in PATIENTS for mark in (each.family_name, each.id)}

    def rows(self, after: int = 0) -> list[dict[str, Any]]:
        with self.box.catalog.reading() as conn:
            return [row for row in audit.export(conn) if row["id"] > after]

    def last(self) -> int:
        with self.box.catalog.reading() as conn:
            return audit.witness(conn).count

    def destination(self) -> tuple[int, str]:
        """A new folder to deliver to: its number and name."""
        name = f"shelf{self.next()}"
        target = self.folder / name
        target.mkdir()
        self.say("destination", "add", "folder", name, "--path", target)
        with self.box.catalog.reading() as conn:
            found = destinations.destination(conn, name)
        assert found is not None
        return found.id, name

    @contextmanager
    def file_server(self) -> Iterator[FileServer]:
        """A NAS that answers; what was added of it is taken away again, since backups would go there."""
        with openssh(self.folder / f"nas{self.next()}") as server:
            yield server
        self._take_away("sftp")

    @contextmanager
    def share_server(self) -> Iterator[ShareServer]:
        """The same with a share."""
        with samba(self.folder / f"share{self.next()}") as server:
            yield server
        self._take_away("smb")

    def _take_away(self, kind: str) -> None:
        with self.box.catalog.reading() as conn:
            gone = [each.name for each in destinations.destinations(conn) if each.kind == kind]
        for name in gone:
            self.say("destination", "remove", name)

    def delivery(self) -> int:
        """A delivery that waits: its number."""
        _, name = self.destination()
        self.say("rule", "add", "--to", name)
        self.say(
            "import",
            synthetic.write(synthetic.dental_set(100 + self.next(), scale=0.1), self.folder / name)[0],
        )
        return int(json.loads(self.say("deliveries", "--json", "--destination", name))[0]["id"])

    def device(self) -> tuple[int, str]:
        """A machine that answers C-ECHO's TCP port with nothing: its number and AE title."""
        title, port = f"PANO{self.next()}", closed_port()
        self.say("device", "add", "--ae-title", title, "--address", "127.0.0.1", "--port", port)
        with self.box.catalog.reading() as conn:
            return next(each.id for each in devices.devices(conn) if each.ae_title == title), title

    def person(self) -> str:
        """A new account: its login."""
        login = f"person{self.next()}"
        self.say("user", "invite", login, "--name", "P", "--role", "assistant")
        with self.box.catalog.transaction() as tx:
            choose_password(tx, login, PASSWORD, datetime.now(UTC))
        return login


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def echoing() -> Iterator[int]:
    """A real DICOM node that answers C-ECHO; its port."""
    from pynetdicom import AE

    node = AE("PANO")
    node.add_supported_context("1.2.840.10008.1.1")
    server = node.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    assert server.socket is not None
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


Call = Callable[[World], Any]


@dataclass(frozen=True)
class Act:
    """`call` must leave rows with these words, in this order of first appearance or not; more are allowed."""

    words: Sequence[str]
    call: Call


@dataclass(frozen=True)
class Nothing:
    """No row is needed, because of `reason`; `call`, if it can be called here, must show no patient."""

    reason: str
    call: Call | None = None


Step = Act | Nothing


def said(answer: Any) -> str:
    """What a step showed, as text."""
    if answer is None:
        return ""
    return answer if isinstance(answer, str) else answer.get_data(as_text=True)


def judge(world: World, step: Step) -> list[str]:
    """Take the step; what is wrong with it."""
    before = world.last()
    wrong: list[str] = []
    answer = step.call(world) if step.call is not None else None
    status = getattr(answer, "status_code", 200)
    if status >= 500 and status != 503:
        wrong.append(f"it answers {status}")
    rows = world.rows(before)
    if isinstance(step, Act):
        missing = set(step.words) - {row["action"] for row in rows}
        if missing:
            wrong.append(
                f"no row {sorted(missing)} among {[row['action'] for row in rows]} (status {status})"
            )
    elif shown := {each for each in world.patients if each in said(answer)}:
        wrong.append(f"it shows patients without a row: {len(shown)} marks")
    for row in rows:
        if audit.VOCABULARY[row["action"]].concerns is audit.Concerns.STUDY and not row["study"]:
            wrong.append(f"{row['action']} does not say which study")
        if not (row["actor"] and row["actor_kind"] and row["outcome"] and row["subject"]):
            wrong.append(f"{row['action']} does not say who, what or how it ended")
        wrong += [f"{row['action']} names a patient" for each in world.patients if each in json.dumps(row)]
    return wrong
