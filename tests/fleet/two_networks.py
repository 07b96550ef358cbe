"""A session of remote support from its opening to its end, with the clinic and the vendor in two networks, joined by a cable.

`python -m tests.fleet.two_networks FOLDER`, begun in a network of its own (`tests.networks.apart`): says each promise once it is seen
to be kept, and fails at the first that is not. The box's side is the product's own: the verbs that open and end a session, the desk
of the jobs process, the line, the counter. The desk has a clock that this story sets, so a session of an hour ends when the story
says so, and what is held is what had happened before what, on a machine of any speed.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from appliance import audit, logs
from appliance.box import Box, open_box
from appliance.catalog import destinations, devices, support_sessions
from appliance.cli import main
from appliance.config import Config
from appliance.fleet.desk import Desk, place
from appliance.fleet.session import Ending, Session
from appliance.model import AETitle, DestinationSettings, Device
from tests.fleet.endpoint import WRONG, Vendor, lines_running, listening, vendor_of
from tests.networks import another
from tests.synthetic.patients import HELENE, named_in
from tests.system.running import wait_for
from tests.web.conftest import fill

VENDOR = "10.77.0.2"
CABLE = "clinic0"
"""The clinic's end of it."""
PLACE = "cloud"
"""An archive of the box, which a session to operate may hold."""


@contextmanager
def vendor_apart(box: Box, folder: Path) -> Iterator[Vendor]:
    """The vendor of `box`, in a network of its own; this process must be in one that was made for it."""
    folder.mkdir()
    with another() as there:
        there.cable(ours=(CABLE, "10.77.0.1/30"), theirs=("vendor0", f"{VENDOR}/30"))
        with vendor_of(box, folder, (2222, 2223), address=VENDOR, inside=there.inside) as vendor:
            yield vendor


@dataclass
class Clock:
    """The one on the wall and the one that nobody sets; both stand still until the story moves them."""

    at: datetime
    seconds: float = 0.0


@dataclass
class Story:
    """A box, its vendor and its desk."""

    box: Box
    vendor: Vendor
    clock: Clock
    desk: Desk

    def tell(self) -> None:
        """All of it."""
        self.desk.look()
        assert not lines_running() and not self.vendor.knows_line() and not place(self.box).exists()
        print("without a session nothing dials, and nothing listens")
        assert 2222 in listening(self.vendor.process.pid) - listening("self"), "two networks"

        session = self.opened()
        said = self.vendor.visit("status", "end")
        assert "The session is ended." in said.stdout, said
        self.desk.look()
        self.is_gone(session, Ending.VENDOR)
        print("the vendor ends it")

        session = self.opened()
        caller = self.came_in()
        self.verb("support", "close")
        self.desk.look()
        caller.wait()
        caller.communicate()
        self.is_gone(session, Ending.CLINIC)
        print("the clinic ends it, while somebody is in")

        session = self.opened()
        self.turns_away(session)
        self.looks_only(session)
        self.operates()
        self.runs_out()

    def turns_away(self, session: Session) -> None:
        """A session for looking, to which people come with certificates that are no good."""
        for wrong, said in WRONG:
            came = self.vendor.visit("status", **wrong)
            assert "Kept:" not in came.stdout, f"{wrong} came in: {came.stdout}"
            assert said in came.stdout + came.stderr, f"{wrong}: {came.stdout} {came.stderr}"
            assert self.vendor.knows_line(), wrong
        with self.box.catalog.reading() as conn:
            assert not support_sessions.visits(conn, session.id)
        refused = [
            each["outcome"] for each in self.rows("support:refuse") if each["subject"] == str(session.id)
        ]
        assert refused == ["refused"], "the others came no further than to sshd"
        print(
            "with another authority's certificate, one that has ended or lives too long, or one of another role nobody comes in"
        )

    def looks_only(self, session: Session) -> None:
        """Somebody whose certificate is good, who tries for more, and looks where a patient is named."""
        caller = self.came_in()
        seen = ""
        for line, said in (
            (f"pause {PLACE}", "this session is for looking only"),
            ("studies", "there is no such word"),
            ("sh -c id", "there is no such word"),
            ("devices PANO1", "that is not how this word is used"),
        ):
            seen += (answer := self.typed(caller, line))
            assert said in answer, answer
        assert not self.is_paused()
        assert not self.acts(session)
        print("a word that is not of the role is refused, and does nothing")

        for line, verb, said in (
            ("logs web", (), "an event"),
            ("devices", ("device", "list"), "PANO1"),
        ):
            clear = self.verb(*verb) if verb else logs.kept_lines(self.box.config.data)["web"]
            assert named_in(clear), f"{line}: the clinic reads the name there"
            seen += (answer := self.typed(caller, line))
            assert said in answer and "[cut: " in answer, answer
        assert not named_in(seen), named_in(seen)
        assert self.acts(session) == 2
        self.verb("support", "close")
        self.desk.look()
        caller.communicate()
        self.is_gone(session, Ending.CLINIC)
        replayed = self.verb("support", "recording", self.visit_of(session))
        assert "[cut: " in replayed and not named_in(replayed), named_in(replayed)
        print("of what is shown and recorded, whatever names a patient is cut")

    def operates(self) -> None:
        """A session to operate, with two in it, one of whom may only look."""
        session = self.opened("operate")
        looking = self.came_in()
        assert "this session is for looking only" in self.typed(looking, f"pause {PLACE}")
        assert not self.is_paused()
        acting = self.came_in("appliance-operate")
        assert "there is no such word" in self.typed(acting, "studies")
        self.typed(acting, f"pause {PLACE}")
        assert self.is_paused()
        acting.communicate("end\n")
        self.desk.look()
        looking.communicate()
        self.is_gone(session, Ending.VENDOR)
        print(
            "in a session to operate one word more does what it says, for whoever has a certificate for that"
        )

    def is_paused(self) -> bool:
        """Whether nothing leaves for the archive."""
        with self.box.catalog.reading() as conn:
            (place,) = destinations.destinations(conn)
        return place.paused

    def rows(self, action: str) -> list[dict[str, Any]]:
        """The rows of the audit that say so."""
        with self.box.catalog.reading() as conn:
            return [row for row in audit.export(conn) if row["action"] == action]

    def acts(self, session: Session) -> int:
        """How often the audit says that the only visitor of a session did something."""
        return [each["subject"] for each in self.rows("support:act")].count(self.visit_of(session))

    def visit_of(self, session: Session) -> str:
        """The number of the only visit of a session."""
        with self.box.catalog.reading() as conn:
            (visit,) = support_sessions.visits(conn, session.id)
        return str(visit.id)

    def runs_out(self) -> None:
        """A session that nobody ends, with somebody in it."""
        session = self.opened()
        caller = self.came_in()
        (line,) = [each for each in lines_running() if "support line" in " ".join(each.cmdline())]
        inside = [line, *line.children(recursive=True)]
        words = [" ".join(each.cmdline()) for each in inside]
        for each in ("ssh -N", "sshd:", "support counter"):
            assert any(each in word for word in words), (each, words)
        assert not listening("self"), "and nothing listens on the clinic's network meanwhile"
        seen = self.typed(caller, "status")
        assert "Kept: 3 studies" in seen

        self.clock.seconds += 3599.0
        self.desk.look()
        seen += self.typed(caller, "rules")
        assert all(each.is_running() for each in inside), "not before its end"
        self.clock.seconds += 1.0
        self.desk.look()  # and the clock on the wall, which somebody may have set back, has not moved
        assert not line.is_running(), "the first look after the end has waited for it"
        caller.wait()
        seen += caller.communicate()[0]
        _, alive = psutil.wait_procs(inside, timeout=60)
        assert not alive, f"still there: {alive}"
        self.is_gone(session, Ending.EXPIRED)
        print("at its end whoever is in is put out, and what ran for them is killed")

        for moved in (timedelta(), timedelta(hours=-1), timedelta(days=1)):
            self.clock.at = session.opened_utc + moved
            self.desk.look()
            assert not lines_running() and not place(self.box).exists(), "nor if somebody turns the clock"
        late = self.vendor.visit("status", valid="-1m:+4h")
        assert late.returncode and not late.stdout
        again = subprocess.run(
            [sys.executable, "-m", "appliance", "support", "line", "--desk", str(place(self.box))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 75 and "no session of support is open" in again.stderr
        print("nobody comes in again, and nothing dials")

        self.is_recorded(session, seen)
        print("what was typed and shown is recorded to the last line, and the chain of the audit holds it")

    def opened(self, scope: str = "diagnose") -> Session:
        """The clinic opens a session for an hour, and the line stands."""
        self.verb("support", "open", "--hours", "1", "--scope", scope, "--reason", "deliveries wait")
        with self.box.catalog.reading() as conn:
            session = support_sessions.standing(conn)
        assert session is not None and session.expires_utc - session.opened_utc == timedelta(hours=1)
        self.clock.at = session.opened_utc
        self.desk.look()
        wait_for(self.vendor.knows_line, "the line stands")
        return session

    def came_in(self, principal: str = "appliance-diagnose") -> subprocess.Popen[str]:
        """Somebody who has come in, and stays."""
        caller = self.vendor.caller(principal=principal)
        assert "Everything is recorded" in self._read(caller)
        return caller

    def typed(self, caller: subprocess.Popen[str], line: str) -> str:
        """What is shown for a line, with the prompt after it."""
        assert caller.stdin is not None
        caller.stdin.write(f"{line}\n")
        caller.stdin.flush()
        return self._read(caller)

    def _read(self, caller: subprocess.Popen[str]) -> str:
        assert caller.stdout is not None
        shown = ""
        while not shown.endswith("\n> "):
            one = caller.stdout.read(1)
            assert one, f"put out after {shown!r}"
            shown += one
        return shown

    def is_gone(self, session: Session, ending: Ending) -> None:
        """Hold that nothing of it is left on either side, and how it ended."""
        wait_for(lambda: not lines_running() and not self.vendor.knows_line(), "nothing of it is left")
        assert not place(self.box).exists()
        wait_for(lambda: self._is_written_down(session), "its end and each recording's are written down")
        with self.box.catalog.reading() as conn:
            assert support_sessions.session(conn, session.id).ending is ending

    def _is_written_down(self, session: Session) -> bool:
        with self.box.catalog.reading() as conn:
            visits = support_sessions.visits(conn, session.id)
            return support_sessions.session(conn, session.id).ending is not None and all(
                each.sha256 for each in visits
            )

    def is_recorded(self, session: Session, seen: str) -> None:
        """Hold that all of it is there, in its order, and that nobody can have changed it."""
        with self.box.catalog.reading() as conn:
            (visit,) = support_sessions.visits(conn, session.id)
            events = support_sessions.events(conn, visit.id)
            rows: list[dict[str, Any]] = list(audit.export(conn))
        shown = "".join(each.text for each in events if each.kind == "o")
        assert shown.endswith(seen) and shown.count("Everything is recorded") == 1
        assert [each.text for each in events if each.kind == "i"] == ["status\n", "rules\n"]
        told = [
            (row["action"], row["subject"])
            for row in rows
            if str(row["action"]).startswith("support:")
            and (row["action"], row["subject"]) not in {("support:replay", str(visit.id))}
        ]
        opened = told.index(("support:open", str(session.id)))
        acted = ("support:act", str(visit.id))
        assert told[opened:-2] == [told[opened], ("support:enter", str(visit.id)), acted, acted]
        assert {*told[-2:]} == {("support:expire", str(session.id)), ("support:leave", str(visit.id))}
        assert "Unchanged since it ended" in self.verb("support", "recording", str(visit.id))
        self.verb("audit", "verify")

    def verb(self, *words: str) -> str:
        """A verb as the clinic types it; what it prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main(list(words))
        assert code == 0, printed.getvalue()
        return printed.getvalue()


def furnish(box: Box) -> None:
    """Give `box` images of people, of whom one is named in a log and by a machine, and an archive."""
    fill(box)
    folder = box.config.data / logs.FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "web.log").write_text(f"found {HELENE.given_name} {HELENE.family_name}\nan event\n")
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        for title in ("PANO1", HELENE.id):
            devices.add_device(tx, Device(AETitle(title), "192.168.1.40"), now)
        destinations.add(tx, DestinationSettings(PLACE, "folder", "ciphertext", {"path": "/nowhere"}))


def tell(folder: Path) -> None:
    """Make a box and a vendor below `folder`, and tell the story."""
    os.environ["APPLIANCE_DATA"] = str(folder / "box")
    clock = Clock(datetime.now(UTC))
    with (
        closing(open_box(Config(data=folder / "box"))) as box,
        vendor_apart(box, folder / "vendor") as vendor,
    ):
        furnish(box)
        desk = Desk(box, wall=lambda: clock.at, monotonic=lambda: clock.seconds)
        try:
            Story(box, vendor, clock, desk).tell()
        finally:
            if desk._open is not None:
                desk._open.close()


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
