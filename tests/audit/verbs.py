"""Every verb of the command line, every job, and what each must leave in the audit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from appliance.catalog import tombstones
from appliance.errors import Corrupt
from appliance.lifecycle import memory
from tests.audit import support_routes
from tests.audit.walk import Act, Nothing, Step, World, echoing
from tests.notify.receiver import receiver
from tests.replication.shares import PASSWORD as SHARE_PASSWORD
from tests.replication.shares import SHARE

CONFIGURED = "how the box is configured, nothing of a patient; changes have rows of their own"
PROCESS = "a process that runs until it is told to stop; tests/system starts them, and the walk reads its code's row"


def _delivery(world: World, act: str) -> Any:
    number = world.delivery()
    if act == "resume":
        world.say("deliveries", "pause", number)
    if act == "retry":
        world.say("deliveries", "cancel", number)
    return world.say("deliveries", act, number)


def _grant(world: World) -> Any:
    login = f"referrer{world.next()}"
    world.say("user", "invite", login, "--name", "R", "--role", "referrer")
    uid = json.loads(world.say("studies", "--json"))[0]["study_instance_uid"]
    return world.say("grant", "add", login, uid, typed="second opinion\n")


def _ungrant(world: World) -> Any:
    _grant(world)
    return world.say("grant", "remove", json.loads(world.say("grant", "list", "--json"))[0]["id"])


def _token(world: World, *words: str) -> Any:
    login = world.person()
    return world.say("token", "add", login, "--name", "night", "--scope", "health:view", *words)


def _destination(world: World, act: str) -> Any:
    return world.say("destination", act, world.destination()[1])


def _echo(world: World) -> Any:
    with echoing() as port:
        _, title = world.device()
        return world.say("device", "echo", title, "--port", port)


def _vault(world: World) -> Any:
    name = f"disk{world.next()}"
    (world.folder / name).mkdir()
    return world.say("destination", "add", "vault", name, "--path", world.folder / name)


def _sftp(world: World, act: str = "add") -> Any:
    with world.file_server() as server:
        name = f"nas{world.next()}"
        where = ("--address", "127.0.0.1", "--port", server.port, "--user", server.user)
        added = world.say("destination", "add", "sftp", name, *where, "--folder", server.folder, "--with-key")
        if act == "add":
            return added
        shown = server.trusted().options["host_key"]
        return world.say("destination", "trust", name, "--fingerprint", shown)


def _smb(world: World) -> Any:
    with world.share_server() as server:
        where = ("--address", "127.0.0.1", "--port", server.port, "--share", SHARE, "--user", server.user)
        return world.say(
            "destination", "add", "smb", f"share{world.next()}", *where, typed=f"{SHARE_PASSWORD}\n"
        )


def _back_up(world: World) -> str:
    """The name of a new archive with a backup in it."""
    name = f"archive{world.next()}"
    (world.folder / name).mkdir()
    world.say("destination", "add", "vault", name, "--path", world.folder / name)
    world.say("backup", "now", "--to", name)
    return name


def _rule(world: World) -> int:
    _, name = world.destination()
    world.say("rule", "add", "--to", name)
    return int(json.loads(world.say("rule", "list", "--json"))[-1]["id"])


def _secret(world: World) -> Any:
    name = f"cloud{world.next()}"
    _s3(world, name)
    said = world.say("destination", "secret", name, typed="another\n")
    world.say("destination", "remove", name)  # nobody serves it, and backups would go there
    return said


def _s3(world: World, name: str) -> Any:
    options = ("--bucket", "b", "--region", "ca-central-1", "--access-key-id", "AK")
    return world.say("destination", "add", "s3", name, *options, typed="secret\n")


def _policy(world: World) -> Any:
    name = f"cloud{world.next()}"
    _s3(world, name)
    said = world.say("destination", "policy", name)
    world.say("destination", "remove", name)  # nobody serves it, and backups would go there
    return said


def _unserved(world: World) -> Any:
    name = f"cloud{world.next()}"
    said = _s3(world, name)
    world.say("destination", "remove", name)  # nobody serves it, and backups would go there
    return said


def _person(world: World, act: str, *words: object, typed: str = "") -> Any:
    login = world.person()
    if act == "reactivate":
        world.say("user", "deactivate", login)
    return world.say("user", act, login, *words, typed=typed)


def _undo(world: World) -> Any:
    world.say("setting", "set", "clinic.phone", str(world.next()))
    return world.say("setting", "undo", json.loads(world.say("setting", "history", "--json"))[0]["id"])


def _bring(world: World) -> Any:
    world.say("setting", "set", "clinic.phone", str(world.next()))
    file = world.folder / f"configuration{world.next()}"
    file.write_text(world.say("setting", "export"), "utf-8")
    world.say("setting", "set", "clinic.phone", str(world.next()))
    return world.say("setting", "import", file, "--apply")


def _export(world: World) -> Any:
    rows = json.loads(world.say("studies", "--json"))
    return world.say("export", rows[0]["study_instance_uid"], "--to", world.folder / f"out{world.next()}")


def _webhook(world: World, act: str = "") -> Any:
    name = f"hook{world.next()}"
    with receiver() as found:
        added = world.say("webhook", "add", name, "--on-lan", typed=f"{found.url()}\n")
        return world.say("webhook", act, name) if act else added


def _hold(world: World) -> str:
    uid = json.loads(world.say("studies", "--json"))[0]["study_instance_uid"]
    said: str = world.say("hold", "add", uid, "--reason", "claim 2026-114")
    return said


def _visited(world: World, verb: str = "visit") -> Any:
    """A visit of the patient of the first study, by a day of its own."""
    patient = json.loads(world.say("studies", "--json"))[0]["patient_id"]
    if verb == "visits":
        return world.say("retention", verb, "--patient", patient)
    day = date(2003, 1, 1) + timedelta(days=world.next())
    return world.say("retention", "visit", "--patient", patient, "--date", day.isoformat())


DESTROYED = "numbers of studies and places, no patient"


def _certificate(world: World) -> str:
    authority = {"request": 1, "asked_by": "a", "asked_utc": "", "approved_by": "b", "approved_utc": ""}
    with world.box.catalog.transaction() as tx:
        return tombstones.begin(tx, None, authority, datetime.now(UTC)).label


def _certified(world: World) -> str:
    file = world.folder / f"certificate{world.next()}.json"
    said: str = world.say("destruction", "certificate", _certificate(world), "--file", file)
    return said.strip()


def _unset_period(world: World) -> Any:
    world.say("retention", "set", "medical", "majority", "44", "--reason", "a policy")
    return world.say("retention", "unset", "medical", "majority", "--reason", "no policy")


def _look_again(world: World) -> Any:
    with world.box.catalog.transaction() as tx:
        memory.note_restored(tx, None, datetime.now(UTC))
    return world.say("retention", "look-again", "--province", "QC")


def _check_key(world: World) -> Any:
    from appliance.health import keys_folder
    from appliance.store import keys

    key = keys.show_recovery(keys_folder(world.box), world.box.root)
    return world.say("key", "check-recovery", typed=f"{key}\n")


def _with_paper(world: World, act: str) -> Any:
    """Both need a paper that was checked; a new one is."""
    paper = world.say("key", "rotate")
    world.say("key", "check-recovery", typed=paper)
    return world.say("key", act, typed=paper)


def _set_up(world: World) -> Any:
    answers = world.folder / f"answers{world.next()}.toml"
    answers.write_text(
        f'[clinic]\nname = "Clinique {world.next()}"\nprivacy_officer_name = "M"\n'
        'privacy_officer_email = "m@clinique.example"\n'
    )
    return world.say("setup", answers)


def _heartbeat(world: World, act: str) -> Any:
    support_routes.enter_outpost(world)
    return world.say("heartbeat", act)


def _support_ticket(world: World) -> Any:
    support_routes.enter_ticket_way(world)
    return world.say("support", "ticket", "--reason", "backups fail")


def _support_open(world: World) -> Any:
    support_routes.enter_vendor(world)
    return world.say("support", "open", "--reason", "deliveries wait")


VERBS: Mapping[str, Step] = {
    "setup": Act(["setting:change", "setup:step"], _set_up),
    "status": Nothing("numbers, nothing of a patient", lambda w: w.say("status")),
    "studies": Act(["study:list"], lambda w: w.say("studies")),
    "export": Act(["study:export"], _export),
    "import": Act(["study:import", "instance:receive"], lambda w: w.say("import", w.films[0].parent)),
    "deliveries": Act(["delivery:list"], lambda w: w.say("deliveries")),
    "deliveries list": Act(["delivery:list"], lambda w: w.say("deliveries", "list")),
    "deliveries show": Act(["delivery:list"], lambda w: w.say("deliveries", "show", w.delivery())),
    **{
        f"deliveries {act}": Act([f"delivery:{act}"], partial(_delivery, act=act))
        for act in ("retry", "pause", "resume", "cancel")
    },
    "device list": Nothing(CONFIGURED, lambda w: w.say("device", "list")),
    "device add": Act(["device:add"], lambda w: w.device()[1]),
    "device remove": Act(["device:remove"], lambda w: w.say("device", "remove", w.device()[1])),
    "device echo": Act(["device:echo"], _echo),
    "destination list": Nothing(CONFIGURED, lambda w: w.say("destination", "list")),
    "destination add s3": Act(["destination:add"], _unserved),
    "destination add dicom": Act(
        ["destination:add"],
        lambda w: w.say(
            *("destination", "add", "dicom", f"pacs{w.next()}"),
            *("--address", "127.0.0.1", "--port", "104", "--ae-title", "PACS"),
        ),
    ),
    "destination add vault": Act(["destination:add"], _vault),
    "destination add smb": Act(["destination:add", "destination:remove"], _smb),
    "destination add sftp": Act(["destination:add", "destination:remove"], _sftp),
    "destination trust": Act(
        ["destination:add", "destination:trust", "destination:remove"], partial(_sftp, act="trust")
    ),
    "destination add folder": Act(["destination:add"], lambda w: w.destination()[1]),
    **{
        f"destination {act}": Act([f"destination:{act}"], partial(_destination, act=act))
        for act in ("test", "pause", "resume", "remove")
    },
    "destination policy": Nothing(CONFIGURED, _policy),
    "destination secret": Act(["destination:change"], _secret),
    "rule list": Nothing(CONFIGURED, lambda w: w.say("rule", "list")),
    "rule add": Act(["rule:add"], lambda w: str(_rule(w))),
    "rule remove": Act(["rule:remove"], lambda w: w.say("rule", "remove", _rule(w))),
    "user list": Nothing("who has an account; no patient", lambda w: w.say("user", "list")),
    "user show": Nothing("one account; no patient", lambda w: _person(w, "show")),
    "user invite": Act(
        ["user:invite"],
        lambda w: w.say("user", "invite", f"guest{w.next()}", "--name", "G", "--role", "assistant"),
    ),
    "user change": Act(["user:change"], lambda w: _person(w, "change", "--name", "Q")),
    "user deactivate": Act(["user:deactivate"], lambda w: _person(w, "deactivate")),
    "user reactivate": Act(["user:reactivate"], lambda w: _person(w, "reactivate")),
    "user end-sessions": Act(["user:end-sessions"], lambda w: _person(w, "end-sessions")),
    "user sessions": Nothing("devices and addresses; no patient", lambda w: _person(w, "sessions")),
    "user remove-second-factor": Act(
        ["user:second-factor-remove"], lambda w: _person(w, "remove-second-factor")
    ),
    "grant add": Act(["study:grant"], _grant),
    "grant list": Nothing("who may see which row, no patient", lambda w: w.say("grant", "list")),
    "grant remove": Act(["study:revoke"], _ungrant),
    "token list": Nothing("names and scopes of tokens, no patient", lambda w: w.say("token", "list")),
    "token add": Act(["token:add"], _token),
    "token remove": Act(
        ["token:remove"], lambda w: w.say("token", "remove", json.loads(_token(w, "--json"))["id"])
    ),
    "user reset": Act(["user:link"], lambda w: _person(w, "reset")),
    "setting list": Nothing(CONFIGURED, lambda w: w.say("setting", "list")),
    "setting get": Nothing(CONFIGURED, lambda w: w.say("setting", "get", "clinic.name")),
    "setting set": Act(["setting:change"], lambda w: w.say("setting", "set", "clinic.phone", str(w.next()))),
    "setting reset": Act(
        ["setting:change"],
        lambda w: [w.say("setting", "set", "clinic.phone", "1"), w.say("setting", "reset", "clinic.phone")][
            1
        ],
    ),
    "setting history": Nothing(CONFIGURED, lambda w: w.say("setting", "history")),
    "setting undo": Act(["setting:change"], _undo),
    "setting export": Act(["configuration:export"], lambda w: w.say("setting", "export")),
    "setting import": Act(["setting:change"], _bring),
    "key show-recovery": Act(["key:show"], lambda w: w.say("key", "show-recovery") and None),
    "key rotate": Act(["key:rotate"], lambda w: w.say("key", "rotate") and None),
    "key check-recovery": Act(["key:check"], _check_key),
    "key rotate-root": Act(["key:rotate-root"], lambda w: _with_paper(w, "rotate-root")),
    "key reseal": Act(["key:reseal"], lambda w: _with_paper(w, "reseal")),
    "notify list": Nothing(
        "what people were told, which names no patient", lambda w: w.say("notify", "list")
    ),
    "notify messages": Nothing("to whom messages went", lambda w: w.say("notify", "messages")),
    "notify test": Act(["notice:test"], lambda w: w.say("notify", "test")),
    "webhook list": Nothing(CONFIGURED, lambda w: w.say("webhook", "list")),
    "webhook add": Act(["webhook:add"], _webhook),
    "webhook remove": Act(["webhook:remove"], lambda w: _webhook(w, "remove")),
    "webhook test": Act(["webhook:test"], lambda w: _webhook(w, "test")),
    "backup now": Act(["backup:make"], _back_up),
    "backup list": Nothing("numbers of backups, nothing of a patient", lambda w: w.say("backup", "list")),
    # No image was ever sent to that archive, so its drill does not pass: that leaves its row too.
    "backup drill": Act(
        ["backup:drill"],
        lambda w: w.say("backup", "drill", "--of", _back_up(w), exit_code=Corrupt.exit_code),
    ),
    "restore s3": Nothing(
        "its row is in the box that comes of it: tests/cli/test_restore_from_a_bucket.py finds it there"
    ),
    "restore folder": Nothing(
        "its row is in the box that comes of it: tests/cli/test_backups.py finds it there"
    ),
    "restore sftp": Nothing(
        "its row is in the box that comes of it: tests/cli/test_file_server.py restores so"
    ),
    "restore smb": Nothing(
        "its row is in the box that comes of it: tests/cli/test_file_server.py restores so"
    ),
    "retention simulate": Act(["retention:list"], lambda w: w.say("retention", "simulate")),
    "retention rules": Nothing(CONFIGURED, lambda w: w.say("retention", "rules")),
    "retention set": Act(
        ["retention:change"],
        lambda w: w.say("retention", "set", "dental", "majority", 20 + w.next() % 60, "--reason", "a policy"),
    ),
    "retention unset": Act(["retention:change"], _unset_period),
    "retention history": Nothing(CONFIGURED, lambda w: w.say("retention", "history")),
    "retention requests": Nothing(
        "numbers of studies and who decided, no patient", lambda w: w.say("retention", "requests")
    ),
    "retention visit": Act(["visit:add"], _visited),
    "retention visits": Act(["visit:list"], lambda w: _visited(w, "visits")),
    "retention withdraw-visit": Act(
        ["visit:withdraw"],
        lambda w: w.say(
            "retention",
            "withdraw-visit",
            _visited(w).split()[1].strip(":"),
            "--reason",
            "another patient",
        ),
    ),
    "retention trust-clock": Act(["retention:clock"], lambda w: w.say("retention", "trust-clock")),
    "retention look-again": Act(["retention:look-again"], _look_again),
    "destruction list": Nothing(DESTROYED, lambda w: w.say("destruction", "list")),
    "destruction show": Nothing(DESTROYED, lambda w: w.say("destruction", "show", _certificate(w))),
    "destruction certificate": Act(["destruction:certify"], _certified),
    "destruction verify": Nothing(
        "reads a file that somebody has, and names no patient",
        lambda w: w.say("destruction", "verify", _certified(w).rpartition(":")[0]),
    ),
    "hold add": Act(["hold:add"], _hold),
    "hold list": Act(["hold:list"], lambda w: w.say("hold", "list")),
    "hold release": Act(
        ["hold:release"],
        lambda w: w.say("hold", "release", _hold(w).split()[1].strip(":"), "--reason", "it is over"),
    ),
    "plan": Act(["plan:print"], lambda w: w.say("plan")),
    "disk": Nothing("sizes of files, nothing of a patient", lambda w: w.say("disk")),
    "guard show": Nothing("counts of objects, nothing of a patient", lambda w: w.say("guard", "show")),
    "guard freeze": Act(["guard:freeze"], lambda w: w.say("guard", "freeze", "--reason", "strange messages")),
    "guard release": Act(["guard:release"], lambda w: w.say("guard", "release", "--reason", "it was a test")),
    "tiers list": Nothing("how much is where, without a patient", lambda w: w.say("tiers", "list")),
    "tiers costs": Nothing("bytes and prices, without a patient", lambda w: w.say("tiers", "costs")),
    "tiers plan": Act(["tiers:list"], lambda w: w.say("tiers", "plan")),
    "tiers move": Nothing(
        "nothing of the box that is walked lies in a bucket; tests/lifecycle/test_tagging.py finds the row of each study"
    ),
    "tiers evict": Nothing(
        "the box that is walked has chosen that nothing leaves; tests/lifecycle/test_eviction.py finds the row of each study"
    ),
    "tiers return": Nothing(
        "nothing of the box that is walked is away; tests/lifecycle/test_eviction.py finds the row of each study"
    ),
    "verify": Act(["store:verify"], lambda w: w.say("verify")),
    "audit verify": Act(["audit:verify"], lambda w: w.say("audit", "verify")),
    "audit report": Act(["audit:report"], lambda w: w.say("audit", "report")),
    "audit export": Act(["audit:export"], lambda w: w.say("audit", "export") and None),
    "support open": Act(["support:open"], _support_open),
    "support close": Act(["support:close"], lambda w: [_support_open(w), w.say("support", "close")][1]),
    "support sessions": Nothing(
        "who of the vendor came in and why; no patient", lambda w: w.say("support", "sessions")
    ),
    "support recording": Act(
        ["support:replay"], lambda w: w.say("support", "recording", support_routes.visit(w))
    ),
    "support keys": Nothing("public keys", lambda w: w.say("support", "keys")),
    "support line": Nothing("dials while a session is open; tests/fleet/test_remote.py reads its rows"),
    "support counter": Nothing("what sshd runs for a caller; tests/fleet/test_remote.py reads its rows"),
    "support ticket": Act(["support:file", "support:ticket"], _support_ticket),
    "support file": Act(
        ["support:file", "support:take"], lambda w: w.say("support", "file", "--to", w.folder)
    ),
    "heartbeat show": Nothing(
        "what a heartbeat would say: tests/fleet looks for patients in it",
        lambda w: w.say("heartbeat", "show"),
    ),
    "heartbeat status": Nothing("who agreed, and a public key", lambda w: w.say("heartbeat", "status")),
    "heartbeat wanted": Nothing("the name of a version", lambda w: w.say("heartbeat", "wanted")),
    "heartbeat agree": Act(["heartbeat:agree"], lambda w: _heartbeat(w, "agree")),
    "heartbeat withdraw": Act(
        ["heartbeat:withdraw"], lambda w: [_heartbeat(w, "agree"), w.say("heartbeat", "withdraw")][1]
    ),
    "update status": Nothing("versions of the image", lambda w: w.say("update", "status")),
    "update history": Nothing("versions of the image", lambda w: w.say("update", "history")),
    "update restart": Nothing("there is no version that waits; tests/updates finds its row"),
    "update may-restart": Nothing("asks what goes on, and changes nothing; tests/updates asks it"),
    "pin status": Nothing("whether the disk asks for a PIN", lambda w: w.say("pin", "status")),
    "pin choose": Nothing("there is no such disk; tests/test_disk_pin.py finds its row"),
    "pin show-key": Nothing("there is no such disk; tests/test_disk_key.py finds its row"),
    "pin hide-key": Nothing("it isn't shown; tests/test_disk_key.py finds its row"),
    "pin remove": Nothing("there is no such disk; tests/test_disk_pin.py finds its row"),
    "heartbeat send": Nothing("needs somebody there; tests/fleet/test_pulse.py finds its rows"),
    "screen": Nothing("how to reach the box, for whoever stands before it", lambda w: w.say("screen")),
    "run": Nothing("starts the four processes, each of which has a row of its own"),
    "dicom": Nothing(PROCESS),
    "courier": Nothing(PROCESS),
    "jobs": Nothing(PROCESS),
    "web": Nothing(PROCESS),
}
"""In this order, since a recovery key that was checked is not shown again."""

JOBS: Mapping[str, tuple[str, ...] | str] = {
    "alarm": "tells people what is wrong with the box: the notice itself is the record, and names no patient",
    "messages": "gives back and ends messages; what has not arrived becomes a notice",
    "digests": "writes letters of notices that were told before",
    "old-notices": "forgets notices that were over more than a year ago",
    "leases": "deliveries return to the queue from which a courier had taken them: nothing is sent or shown",
    "health": "reads figures and writes to the log, without a patient",
    "samples": "keeps numbers of the box over time, without a patient",
    "sessions": ("user:expire",),
    "orphans": ("object:remove",),
    "eviction": "off until the clinic chooses it; tests/lifecycle/test_eviction.py finds the row of each study",
    "tiers": "off until the clinic chooses it; tests/lifecycle/test_tagging.py finds the row of each study",
    "audit": ("audit:verify",),
    "audit-feed": "sends the audit itself; tests/test_audit_feed.py",
    "anchors": "there is no bucket on the box that is walked; tests/test_witnesses.py finds the row of each anchor",
    "backup": "tests/backup lets backups be made and fail, and finds their rows",
    "drill": "tests/backup/test_drill.py lets drills pass and fail, and finds their rows",
    "scrub": "tests/lifecycle lets passes come to an end, and finds their rows",
    "listing": "there is no bucket on the box that is walked; tests/lifecycle/test_listing.py finds its rows",
    "protections": "there is no bucket on the box that is walked; it asks buckets for their settings, and what is lost is a notice",
    "census": "tests/lifecycle/test_guard.py lets much be lost, and finds the row of the freeze",
    "retention-clock": "compares the clock with itself",
    "retention": "works out until when each study is kept: the lists made of it leave the rows",
    "destruction": "tests/lifecycle/test_purging.py lets a study be destroyed, and finds the rows of it",
    "destruction-requests": "tests/test_jobs.py lets a study be left out and a request expire, and finds their rows",
    "recall": "brings ciphertext back to where its rows say it is: nothing is sent or shown",
    "rotation": "tests/lifecycle/test_rotation.py cuts rotations, and finds the row of what finished them",
    "updates": "tells of the image's versions, which a Debian has none of; tests/updates finds its rows",
    "disk-pin": "tells what root did to the disk, which a Debian has none of; tests/test_disk_pin.py finds its rows",
    "heartbeat": "off until the clinic agrees; tests/fleet/test_pulse.py finds its rows",
    "certificates": "tests/test_jobs.py lets a certificate be renewed and finds its row",
}
"""For each job its words, or why it needs none."""
