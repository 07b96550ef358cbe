"""``appliance support``: what leads to whoever supports the box.

``support line`` and ``support counter`` are no verbs for people: systemd or the desk starts the one, sshd the other, under
an account that cannot open the box.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli.arguments import Arguments, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table, safe
from appliance.cli.session import actor, now, opened_box, record
from appliance.errors import Corrupt, OperatorNeeded, Refused

if TYPE_CHECKING:
    from appliance.catalog.support_sessions import Visit

COLUMNS = {
    "session": "SESSION",
    "opened_utc": "OPENED",
    "scope": "SCOPE",
    "ended": "ENDED",
    "visit": "VISIT",
    "person": "PERSON",
    "recording": "RECORDING",
    "reason": "REASON",
}


def add_to(verbs: Verbs) -> None:
    """Add the noun with its own verbs."""
    support = verbs.add(
        "support",
        "the support file, and sessions of remote support",
        about="Off until somebody of the clinic wants it. A support file says how the box does, without anything of a patient. "
        "A session lets the vendor in for a few hours, through a tunnel that this box opens; everything is recorded.",
        examples=[
            "appliance support file --to /media/usb",
            "appliance support ticket --reason 'since Monday the backups fail'",
            "appliance support open --hours 1 --reason 'deliveries wait'",
            "appliance support close",
            "appliance support recording 3",
        ],
    )
    own = Verbs(support)
    make = own.add(
        "file",
        "write a support file, without anything of a patient",
        act=make_file,
        about="Writes an archive into the folder; its READ-ME.txt says what was cut out of it. If the setting "
        "support.reader_key has the vendor's key, only the vendor can open it (with the command age).",
        examples=["appliance support file --to .", "appliance support file --to . --open"],
    )
    make.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="where it goes")
    make.add_argument(
        "--open", action="store_true", help="as an archive that you can look into, whatever the setting says"
    )
    asking = own.add(
        "ticket",
        "send the vendor a support file, with what is wrong",
        act=send_ticket,
        about="Goes by e-mail to the address in the setting support.mail, and to every webhook that was added for tickets. What is away is "
        "tried again for a month. What you say is looked through as the file is, and refused if it may name a patient. Nobody looks at "
        "the file on this way: it leaves sealed for the vendor, whose key the setting support.reader_key must have.",
        examples=["appliance support ticket --reason 'since Monday the backups fail'"],
    )
    asking.add_argument("--reason", required=True, metavar="TEXT", help="what is wrong, without a name")
    add_json(asking)
    opening = own.add(
        "open",
        "let the vendor in, for a reason and a time",
        act=open_session,
        about="The box dials out to the vendor, who comes back through that line with a certificate that names a person. "
        "Everything that is typed and shown is recorded. It ends by itself, by 'support close', or by the vendor.",
        examples=["appliance support open --hours 2 --scope operate --reason 'backups fail since Monday'"],
    )
    opening.add_argument("--reason", required=True, metavar="TEXT", help="why")
    opening.add_argument(
        "--hours", type=whole_number(1, 4), default=1, metavar="N", help="1 to 4 (default 1)"
    )
    opening.add_argument(
        "--scope",
        choices=["diagnose", "operate"],
        default="diagnose",
        help="look only, or act too (default diagnose)",
    )
    own.add("close", "put the vendor out", act=close_session)
    add_json(own.add("sessions", "list the sessions, and who came in", act=list_sessions))
    recording = own.add("recording", "show what was typed and shown", act=show_recording)
    recording.add_argument(
        "visit", type=whole_number(1, 2**53), metavar="VISIT", help="its number in 'support sessions'"
    )
    recording.add_argument("--cast", action="store_true", help="as a file for asciinema")
    own.add("keys", "print the public keys of this box, for the vendor", act=show_keys)
    for name, summary, act in (
        ("line", "the line to the vendor, while a session is open", run_line),
        ("counter", "what the vendor meets at the end of it", run_counter),
    ):
        process = own.add(name, summary, act=act)
        process.add_argument("--desk", type=Path, required=True, metavar="SOCKET", help="where the desk is")


def send_ticket(arguments: Arguments) -> int:
    """Make a support file, and send it with what is wrong."""
    from appliance.fleet import bundle, ticket

    with opened_box() as box:
        said = ticket.looked_through(box, arguments.reason)
        made = bundle.make(box, now())
        with box.catalog.transaction() as tx:
            sent, to = ticket.send_unseen(tx, made, said, now()), ticket.ways(tx)
            record(tx, box, "support:file", made.name, {"cut": sum(made.cut.values())})
            record(tx, box, "support:ticket", sent.reference, sent.details(said, to))
    if arguments.json:
        as_json({"reference": sent.reference, "to": list(to.names), "attached": sent.attached})
        return 0
    print(f"Ticket {sent.reference} is on its way to {', '.join(map(safe, to.names))}.")
    if not sent.attached:
        print(
            "The support file is too large to go with it: appliance support file --to FOLDER, and give it by hand."
        )
    return 0


def open_session(arguments: Arguments) -> int:
    """Open a session."""
    from appliance.fleet import support
    from appliance.fleet.session import Scope

    with opened_box() as box, box.catalog.transaction() as tx:
        made = support.open_session(
            tx,
            box,
            reason=arguments.reason,
            scope=Scope(arguments.scope),
            hours=arguments.hours,
            by=actor(),
            now=now(),
        )
        details = {
            "scope": str(made.scope),
            "expires_utc": made.expires_utc.isoformat(),
            "reason": made.reason,
        }
        record(tx, box, "support:open", str(made.id), details)
    print(
        f"Session {made.id}: {made.scope}, until {made.expires_utc:%H:%M} UTC. End it: appliance support close"
    )
    return 0


def close_session(arguments: Arguments) -> int:
    """End the session that is open."""
    del arguments
    from appliance.catalog import support_sessions
    from appliance.fleet import farewell
    from appliance.fleet.farewell import Farewell
    from appliance.fleet.session import Ending

    moment = now()
    with opened_box() as box:
        with box.catalog.reading() as conn:
            session = support_sessions.standing(conn)
        if session is None:
            raise Refused("no session of support is open", hint="there is nothing to end")
        farewell.leave(box, Farewell(session.id, Ending.CLINIC, actor(), moment))
        with box.catalog.transaction() as tx:
            if support_sessions.end(tx, session.id, Ending.CLINIC, actor(), moment):
                record(tx, box, "support:close", str(session.id), {"ending": str(Ending.CLINIC)})
    print(f"Session {session.id} is ended.")
    return 0


def list_sessions(arguments: Arguments) -> int:
    """Print the sessions, a line for each visit."""
    from appliance.catalog import support_sessions
    from appliance.fleet import support

    rows: list[dict[str, Any]] = []
    with opened_box() as box, box.catalog.reading() as conn:
        lost = support.lost(conn)
        for each in support_sessions.sessions(conn):
            common = {
                "session": each.id,
                "opened_utc": each.opened_utc.isoformat(timespec="seconds"),
                "scope": str(each.scope),
                "reason": each.reason,
                "opened_by": each.opened_by,
                "ended": str(each.ending or "open"),
            }
            visits = support_sessions.visits(conn, each.id)
            rows += [common | _visit(visit, "kept") for visit in visits]
            rows += [common | _visit(visit, "lost") for visit in lost if visit.session == each.id]
            if not rows or rows[-1]["session"] != each.id:
                rows.append(common | {"visit": "", "person": "", "recording": ""})
        listed = {row["session"] for row in rows}
        rows += [
            dict.fromkeys(("opened_utc", "scope", "reason", "opened_by", "ended"), "")
            | {"session": visit.session}
            | _visit(visit, "lost")
            for visit in lost
            if visit.session not in listed
        ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty="No session was ever opened.")
    return 0


def _visit(visit: Visit, kept: str) -> dict[str, Any]:
    """The columns of a visit; `kept` says whether its recording is there, or lost though the audit says that somebody came in."""
    return {"visit": visit.id, "person": visit.person, "recording": kept}


def show_recording(arguments: Arguments) -> int:
    """Print a recording, and whether it is what the audit says."""
    from appliance.fleet import recording, support

    with opened_box() as box, box.catalog.transaction() as tx:
        visit, events, proof = support.recorded(tx, arguments.visit)
        record(tx, box, "support:replay", str(visit.id), {"session": visit.session})
    if proof is support.Proof.LOST:
        raise Corrupt(
            f"{visit.person} came in, and the recording of it was taken away",
            hint="keep the box as it is; the row support:enter of the audit says when that was",
        )
    if arguments.cast:
        print(recording.cast(visit, events), end="")
        return 0
    for each in events:
        for line in each.text.rstrip("\n").split("\n"):
            print(f"{each.at_milliseconds / 1000:9.3f} {'<' if each.kind == 'i' else '>'} {line}")
    if proof is support.Proof.OPEN:
        print("\nIt goes on.")
    elif proof is support.Proof.CHANGED:
        raise Corrupt("this recording was changed", hint="compare it with the row support:leave of the audit")
    else:
        print(f"\nUnchanged since it ended: SHA-256 {visit.sha256}, as in the audit.")
    return 0


def show_keys(arguments: Arguments) -> int:
    """Print what the vendor needs to know this box by."""
    del arguments
    from appliance.fleet import support

    with opened_box() as box, box.catalog.transaction() as tx:
        keys = support.keys_of(tx, box, now())
    print(f"Dials out with:  {support.public(keys.dialling)}")
    print(f"Is known by:     {support.public(keys.own)}")
    return 0


def run_line(arguments: Arguments) -> int:
    """The line, until the session is over."""
    from appliance.fleet import line

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return line.run(arguments.desk)


def run_counter(arguments: Arguments) -> int:
    """The counter, until somebody leaves."""
    from appliance.fleet import counter

    return counter.run(arguments.desk, os.environ)


def make_file(arguments: Arguments) -> int:
    """Write a support file, and say what was cut."""
    from appliance.fleet import bundle

    with opened_box() as box:
        made = bundle.make(box, now())
        with box.catalog.transaction() as tx:
            reader = "" if arguments.open else bundle.reader_of(tx)
            data = made.sealed_for(reader) if reader else made.data
            details = {"cut": sum(made.cut.values()), "sealed": bool(reader)}
            record(tx, box, "support:file", made.name, details)
        path = arguments.to / (made.name + bundle.suffix(reader))
        _write(path, data)
        try:
            with box.catalog.transaction() as tx:
                record(tx, box, "support:take", made.name, details)
        except BaseException:
            path.unlink()
            raise
    print(
        f"{path}: {len(data)} bytes; only the vendor can open it" if reader else f"{path}: {len(data)} bytes"
    )
    cut = ", ".join(f"{kind} {count}" for kind, count in sorted(made.cut.items()))
    print(f"Cut out of it: {cut}." if cut else "Nothing had to be cut out of it.")
    if not reader:
        print("Look into it before you give it away: tar xzf FILE")
    return 0


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing: half a file, on a folder that is full, is one that somebody gives away."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            path.unlink()
            raise
    except OSError as error:
        raise OperatorNeeded(
            f"{path} cannot be written ({error.strerror})", hint="name a folder that you may write to"
        ) from error
