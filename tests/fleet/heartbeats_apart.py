"""Heartbeats, by HTTPS and to a bucket, and a ticket with its support file, with the clinic and the vendor in two networks, joined by a cable.

`python -m tests.fleet.heartbeats_apart FOLDER`, begun in a network of its own (`tests.networks.apart`): says each promise once it is seen
to be kept, and fails at the first that is not. That nothing leaves is counted in packets, at the vendor's end of the cable: a question
for its address would be one. The box's side is the product's own: the verbs, the duty that sends heartbeats, the messenger.
The vendor's side is another process, in the other network: `python -m tests.fleet.heartbeats_apart FOLDER vendor`.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from appliance import logs
from appliance.box import Box
from appliance.catalog import identifying
from appliance.cli import main
from appliance.errors import NotAuthorised, OperatorNeeded
from appliance.fleet import bundle, heartbeat, pulse, ticket
from appliance.fleet.pulse import Trouble
from appliance.notify import hooks
from appliance.notify.kinds import Channel
from appliance.notify.sending import Messenger, Surroundings
from tests.boxes import box_in
from tests.fleet.outposts import choose, said_in, unpacked, vendor
from tests.networks import Network, another, run
from tests.notify.receiver import receiver
from tests.replication.cloud import cloud
from tests.synthetic.patients import HELENE, named_in
from tests.web.conftest import fill

VENDOR = "10.78.0.2"
CABLE, THEIRS = "clinic0", "vendor0"
LOOKS = timedelta(minutes=5)
"""How often the duty looks here: three times as often as a heartbeat is due."""
PREFIX = "clinics"
"""What the names of objects in the vendor's bucket begin with."""
REASON = "Depuis lundi, les sauvegardes échouent."


def be_the_vendor(folder: Path) -> None:
    """Take what comes; for each line that is typed, say on one line what has come so far."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would tell of each request to the bucket
    with (
        vendor(folder, VENDOR) as outpost,
        receiver(outpost.authority.context(), VENDOR) as desk,
        cloud(host=VENDOR) as storage,
    ):
        bucket = storage.new_bucket()
        stored = {
            "heartbeat.address": f"s3://{bucket}/{PREFIX}",
            "heartbeat.endpoint_url": storage.url,
            "heartbeat.access_key_id": "tests",
            "heartbeat.secret": "tests",
            "heartbeat.on_lan": True,
        }
        said: dict[str, Any] = {
            "outpost": outpost.settings(),
            "bucket": stored,
            "desk": desk.url("https", host=VENDOR),
        }
        while True:
            print(json.dumps(said), flush=True)
            if not sys.stdin.readline():
                return
            names = storage.keys(bucket)
            came = {
                "heartbeats": outpost.came,
                "tickets": desk.bodies,
                "names": [each.encode() for each in names],
                "objects": [storage.get(bucket, each) for each in names],
            }
            said = {kind: [base64.b64encode(each).decode() for each in found] for kind, found in came.items()}


@dataclass
class Vendor:
    """The vendor as the clinic knows it, and what arrives there."""

    process: subprocess.Popen[str]
    network: Network
    outpost: dict[str, object]
    bucket: dict[str, object]
    desk: str

    def came(self, kind: str) -> list[bytes]:
        """The heartbeats or the tickets that have come so far; or the objects in the bucket, or their names."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return [base64.b64decode(each) for each in _line(self.process)[kind]]

    def packets(self) -> int:
        """How many have come through the cable, of any kind."""
        rows = Path(f"/proc/{self.network.holder}/net/dev").read_text().splitlines()
        (row,) = [row.split(":")[1].split() for row in rows if row.strip().startswith(f"{THEIRS}:")]
        return int(row[1])


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


@contextmanager
def vendor_apart(folder: Path) -> Iterator[Vendor]:
    """A vendor in a network of its own; this process must be in one that was made for it."""
    folder.mkdir()
    with another() as there:
        there.cable(ours=(CABLE, "10.78.0.1/30"), theirs=(THEIRS, f"{VENDOR}/30"))
        command = [*there.inside, sys.executable, "-m", "tests.fleet.heartbeats_apart", str(folder), "vendor"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                said = _line(process)
                yield Vendor(process, there, said["outpost"], said["bucket"], said["desk"])
            finally:
                process.kill()


@dataclass
class Story:
    """A box with images of people, and its vendor."""

    box: Box
    vendor: Vendor
    now: datetime

    def tell(self) -> None:
        """All of it."""
        choose(self.box, self.vendor.outpost, self.now)
        self.silent(
            "before the clinic agrees a day passes without one packet, and a heartbeat by hand is refused"
        )
        self.agreed()
        self.withdrawn()
        self.changed()
        self.cut()
        self.helped()
        self.stored()

    def agreed(self) -> None:
        """The clinic has looked at what is sent, and agrees."""
        before = self.vendor.packets()
        self.verb("heartbeat", "agree")
        shown = pulse.document(self.box, self.now)
        pulse.beat(self.box, self.now)
        (came,) = self.vendor.came("heartbeats")
        assert heartbeat.received(came).document == shown, "signed by the box, and no more than was shown"
        self.names_nobody(said_in(came))
        self.pass_hours(3)
        assert len(self.vendor.came("heartbeats")) == 12
        assert self.vendor.packets() > before, "what is counted in packets elsewhere"
        print("once it has agreed the very document arrives that was shown, four times an hour")

    def withdrawn(self) -> None:
        """The clinic has thought better of it."""
        self.verb("heartbeat", "withdraw")
        self.silent("once that is withdrawn not one packet leaves")

    def changed(self) -> None:
        """What was agreed to is changed afterwards: it goes elsewhere."""
        self.verb("heartbeat", "agree")
        elsewhere = f"{self.vendor.outpost['heartbeat.address']}/elsewhere"
        choose(self.box, {"heartbeat.address": elsewhere}, self.now)
        self.silent("if the address is changed, not one leaves before the clinic agrees to that one")
        choose(self.box, self.vendor.outpost, self.now)

    def cut(self) -> None:
        """The line is away, and comes back."""
        had = len(self.vendor.came("heartbeats"))
        run("ip", "link", "set", CABLE, "down")
        pulse.beat(self.box, self.now)
        with self.box.catalog.reading() as conn:
            assert pulse.state(conn).trouble is Trouble.AWAY
        assert len(self.vendor.came("heartbeats")) == had
        run("ip", "link", "set", CABLE, "up")
        self.now += timedelta(minutes=5)
        pulse.beat(self.box, self.now)
        assert len(self.vendor.came("heartbeats")) == had + 1, "the next, and none that is old"
        self.verb("heartbeat", "withdraw")
        print("without a line one is lost, and the next arrives with the line")

    def helped(self) -> None:
        """A ticket: with the support file, when the clinic sends it, and to where it has said."""
        before = self.vendor.packets()
        self.logged(
            f"found {HELENE.given_name} {HELENE.family_name} as {HELENE.id}", "an ordinary event: count=3"
        )
        messenger = Messenger(self.box, Surroundings(now=lambda: self.now, jitter=lambda: 0.0))
        made = bundle.make(self.box, self.now)
        said = ticket.looked_through(self.box, REASON)
        with self.box.catalog.transaction() as tx:
            try:
                ticket.send(tx, made, said, self.now)
                raise AssertionError("a ticket goes nowhere that nobody has named")
            except OperatorNeeded:
                pass
        with self.box.catalog.transaction() as tx:
            authority = str(self.vendor.outpost["heartbeat.ca"])
            hooks.add(
                tx,
                name="vendor",
                url=self.vendor.desk,
                ca=authority,
                on_lan=True,
                now=self.now,
                hears="tickets",
            )
        assert not messenger.send_next(Channel.WEBHOOK) and not messenger.send_next(Channel.MAIL)
        assert self.vendor.packets() == before, "making the file and naming the way sends nothing"
        print("a support file is made, and a way named, without one packet")

        with self.box.catalog.transaction() as tx:
            ticket.send(tx, made, said, self.now)
        assert self.vendor.packets() == before, "it waits in the box for the messenger"
        assert messenger.send_next(Channel.WEBHOOK)
        (came,) = self.vendor.came("tickets")
        told = json.loads(came)["ticket"]
        assert (told["reason"], told["reference"]) == (REASON, made.name)
        file = told.pop("file")
        data = base64.b64decode(file["base64"])
        assert data == made.data and sha256(data).hexdigest() == file["sha256"]
        self.names_nobody(json.dumps(told, ensure_ascii=False))
        print("sent by the clinic, the ticket arrives by HTTPS with the very file that was looked at")

        files = unpacked(data)
        self.names_nobody("".join(files.values()))
        its_own = logs.kept_lines(self.box.config.data)["courier"]
        assert named_in(its_own) == {HELENE.id, HELENE.family_name, HELENE.given_name}, "the log on the box"
        left = files[f"{made.name}/logs/courier.log"]
        assert "found [cut: name] as [cut: " in left and "an ordinary event: count=3" in left, left
        counted = json.loads(files[f"{made.name}/contents.json"])["cut"]
        assert counted["name"] >= 1 and counted == dict(made.cut), counted
        print(
            "unpacked there, it has the lines of the box's log, and whatever named a patient is cut and counted"
        )

    def stored(self) -> None:
        """Heartbeats are to lie in a bucket from now on."""
        self.verb("heartbeat", "agree")
        choose(self.box, self.vendor.bucket, self.now)
        self.silent("a bucket asks for an agreement of its own: for a day not one packet leaves")

        had = self.vendor.came("heartbeats")
        self.verb("heartbeat", "agree")
        shown, agreed = pulse.document(self.box, self.now), self.now
        pulse.beat(self.box, self.now)
        (name,), (came,) = self.vendor.came("names"), self.vendor.came("objects")
        assert name.decode() == f"{PREFIX}/boxes/{shown['box']}.json"
        assert heartbeat.received(came).document == shown, "signed by the box, and no more than was shown"
        self.names_nobody(said_in(came))
        sent = {self.sent()}
        while self.now < agreed + timedelta(hours=1):
            self.now += LOOKS
            pulse.beat(self.box, self.now)
            sent.add(self.sent())
        quarters = [agreed.replace(microsecond=0) + timedelta(minutes=15 * each) for each in range(5)]
        assert sorted(sent) == quarters, sent
        assert self.vendor.came("heartbeats") == had, "and nothing goes where the clinic agreed to before"
        print(
            "once it has agreed to that, the very document lies in the bucket that was shown, written over four times an hour"
        )

        self.verb("heartbeat", "withdraw")
        self.pass_hours(24)
        assert {self.sent()} == {max(sent)}
        print("and once that is withdrawn it stays as it is")

    def sent(self) -> datetime:
        """When the heartbeat was sent that lies in the bucket: there is one."""
        (came,) = self.vendor.came("objects")
        return heartbeat.received(came).sent_utc

    def logged(self, *events: str) -> None:
        """A process of the box says so in the log that is kept of it."""
        kept = logs.Kept(self.box.config.data / logs.FOLDER / "courier.log")
        kept.setFormatter(logs.JsonLines("courier"))
        for each in events:
            kept.emit(logging.LogRecord("appliance", logging.INFO, "", 0, each, (), None))

    def names_nobody(self, said: str) -> None:
        """Hold that it names no patient of the box, which has some."""
        with self.box.catalog.reading() as conn:
            known = named_in(" ".join(text for _, text in identifying.identifying(conn)))
        assert known >= {HELENE.id, HELENE.family_name, HELENE.given_name}
        assert not named_in(said), named_in(said)

    def silent(self, promise: str) -> None:
        """Hold that nothing at all arrives for a day, whoever asks."""
        before, had = self.vendor.packets(), self.arrived()
        self.pass_hours(24)
        try:
            pulse.send(self.box, self.now)
            raise AssertionError("it was sent")
        except NotAuthorised:
            pass
        assert self.arrived() == had
        assert self.vendor.packets() == before, f"{self.vendor.packets() - before} packets"
        print(promise)

    def arrived(self) -> list[bytes]:
        """The heartbeats that have come, and the one in the bucket."""
        return self.vendor.came("heartbeats") + self.vendor.came("objects")

    def pass_hours(self, hours: int) -> None:
        """The duty looks as often as ever, from this moment on."""
        ends = self.now + timedelta(hours=hours)
        while self.now < ends:
            pulse.beat(self.box, self.now)
            self.now += LOOKS

    def verb(self, *words: str) -> None:
        """A verb as the clinic types it."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main(list(words))
        assert code == 0, printed.getvalue()


def tell(folder: Path) -> None:
    """Make a box and a vendor below `folder`, and tell the story."""
    os.environ["APPLIANCE_DATA"] = str(folder / "box")
    with box_in(folder / "box") as box, vendor_apart(folder / "vendor") as there:
        fill(box)
        Story(box, there, datetime.now(UTC)).tell()


if __name__ == "__main__":
    if sys.argv[2:] == ["vendor"]:
        be_the_vendor(Path(sys.argv[1]))
    else:
        tell(Path(sys.argv[1]))
