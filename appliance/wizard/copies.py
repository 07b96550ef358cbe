"""The copy that outlives the box: kept with its secret, tried as a delivery would use it, and only then fed by a rule.

A destination that does not work yet is kept all the same, so that a wrong letter in its name doesn't cost typing the secret
again; without a rule nothing is owed to it. There may be one of each kind; each is tried for itself.

========  ======  =====================================================================================
of        part    is done when
========  ======  =====================================================================================
a bucket  region  the region guard has let it pass: nothing leaves Canada
a bucket  bucket  the bucket was found there, a text was written to it and read back
a disk    disk    it is there, marked, and a text was written to it and read back
a server  key     it shows the key whose fingerprint a person has typed, and lets the box in
a share   enter   it lets the box in, and what it calls itself is kept
the two   folder  a text was written to the folder and read back
all       rule    everything that arrives goes there from now on
========  ======  =====================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import Reading, Transaction, destinations, rules
from appliance.errors import Unknown
from appliance.model import DestinationKind, DestinationSettings, Rule
from appliance.replication import recall
from appliance.replication.destinations import access, build, prepare, sftp
from appliance.replication.destinations.share import ShareDestination
from appliance.wizard import runs
from appliance.wizard.runs import Act, Detail, Run, Tell

PARTS: Final[Mapping[DestinationKind, tuple[str, ...]]] = {
    "s3": ("region", "bucket", "rule"),
    "vault": ("disk", "rule"),
    "sftp": ("key", "folder", "rule"),
    "smb": ("enter", "folder", "rule"),
}
_FOUND_THERE: Final[Mapping[DestinationKind, str]] = {
    "vault": "mark",
    "sftp": "host_key",
    "smb": "server_name",
}
"""The option by which the place itself is known again; nobody types it, and the test finds it out."""


def run_of(kind: DestinationKind) -> str:
    """What the test of a copy of that kind is called."""
    return "cloud" if kind == "s3" else f"copy-{kind}"


def found(reading: Reading, kind: DestinationKind | None = None) -> DestinationSettings | None:
    """The copy: the first destination that takes ciphertext, of that kind if one is said."""
    return next(
        (
            each
            for each in destinations.destinations(reading)
            if each.takes == "ciphertext" and kind in (None, each.kind)
        ),
        None,
    )


def keep(
    tx: Transaction, box: Box, wanted: DestinationSettings, fingerprint: str, actor: str, now: datetime
) -> DestinationSettings:
    """Add the copy, or change the one of its kind that is there; without a secret it keeps that one's, for the same place.

    A `fingerprint` is of a file server's key: another one than was pinned makes it a server that nobody knows yet.

    Raises `Refused` for a place outside Canada, `OperatorNeeded` for one that needs a secret and has none: then nothing is kept.
    """
    before = found(tx, wanted.kind)
    if before is not None:
        wanted = replace(wanted, name=before.name, id=before.id, paused=before.paused)
        name = _FOUND_THERE.get(wanted.kind, "")
        if name in before.options and _is_known(before, wanted, fingerprint):
            wanted = replace(wanted, options={**wanted.options, name: before.options[name]})
        if not wanted.secret and access.is_same(before, wanted):
            wanted = replace(wanted, secret=before.secret)
    build(wanted, box)
    if before is None:
        wanted = replace(wanted, id=destinations.add(tx, wanted))
    elif (dict(before.options), before.secret) != (dict(wanted.options), wanted.secret):
        recall.let_move(tx, before, wanted.options)
        destinations.change(tx, before.name, wanted.options, wanted.secret)
    else:
        return before
    action = "destination:add" if before is None else "destination:change"
    _record(tx, box, action, wanted, actor, {"kind": wanted.kind, **wanted.options}, now)
    return wanted


def is_the_same(before: DestinationSettings, wanted: DestinationSettings, fingerprint: str) -> bool:
    """Whether `wanted`, with its secret, is what is kept already, at a place that is known. Pure."""
    there = _FOUND_THERE.get(before.kind)
    if not wanted.secret and access.is_same(before, _with_name(before, wanted)):
        wanted = replace(wanted, secret=before.secret)
    pinned = str(before.options.get("host_key", "")).rpartition(" ")[2]
    return (
        (there is None or there in before.options)
        and subject_of(before) == subject_of(wanted)
        and (before.kind != "sftp" or _told(fingerprint) == pinned)
    )


def _told(fingerprint: str) -> str:
    """A fingerprint as it is written down, whatever was typed around it. Pure."""
    return fingerprint.rsplit(maxsplit=1)[-1].rstrip("=") if fingerprint.split() else ""


def _with_name(before: DestinationSettings, wanted: DestinationSettings) -> DestinationSettings:
    """`wanted` at the server that `before` has come to know, which nobody types. Pure."""
    if "server_name" not in before.options:
        return wanted
    return replace(wanted, options={**wanted.options, "server_name": before.options["server_name"]})


def _is_known(before: DestinationSettings, wanted: DestinationSettings, fingerprint: str) -> bool:
    """Whether what was found out at the place before holds for the one that is wanted. Pure."""
    match wanted.kind:
        case "vault":
            return before.options.get("path") == wanted.options.get("path")
        case "sftp":
            pinned = str(before.options.get("host_key", "")).rpartition(" ")[2]
            return not _told(fingerprint) or _told(fingerprint) == pinned
        case "smb":
            return not wanted.secret and access.is_same(before, _with_name(before, wanted))
        case _:
            return False


def run(box: Box, place: DestinationSettings, actor: str, fingerprint: str = "") -> Run:
    """Try a copy, and let everything go there if it works. Raises as `begin`."""
    return begin(box, place, actor, fingerprint)()


def begin(box: Box, place: DestinationSettings, actor: str, fingerprint: str = "") -> Callable[[], Run]:
    """Put the test of the copy at `place` on record as running; what is returned does it. Raises `Transient` when it runs already."""
    settings = place

    def learn(action: str, after: DestinationSettings) -> None:
        """Keep what the place itself has shown."""
        nonlocal settings
        name = _FOUND_THERE[after.kind]
        with box.catalog.transaction() as tx:
            known = destinations.destination(tx, after.name)
            if known is None:
                raise Unknown("there is no such destination", hint="go back to the destinations")
            if known.options.get(name) != after.options[name]:
                destinations.change(tx, after.name, {**known.options, name: after.options[name]})
                _record(tx, box, action, after, actor, {name: after.options[name]})
        settings = after

    def region(tell: Tell) -> Detail:
        tell({"region": str(settings.options.get("region", ""))})
        build(settings, box)
        return {}

    def bucket(tell: Tell) -> Detail:
        tell({"bucket": str(settings.options.get("bucket", ""))})
        build(settings, box).check()
        return {}

    def disk(tell: Tell) -> Detail:
        tell({})
        if "mark" not in settings.options:
            learn("destination:change", prepare(settings))
        build(settings, box).check()
        return {}

    def key(tell: Tell) -> Detail:
        tell({})
        if fingerprint and "host_key" not in settings.options:
            learn("destination:trust", sftp.trust(settings, fingerprint))
        _come_in(box, settings)
        return {}

    def enter(tell: Tell) -> Detail:
        tell({})
        if "server_name" not in settings.options:
            learn("destination:change", prepare(settings))
        else:
            _come_in(box, settings)
        return {}

    def folder(tell: Tell) -> Detail:
        tell({})
        build(settings, box).check()
        return {}

    def rule(tell: Tell) -> Detail:
        tell({"to": settings.name})
        with box.catalog.transaction() as tx:
            if any(each.destination_id == settings.id and is_for_all(each) for each in rules.rules(tx)):
                return {}
            rules.add_rule(tx, Rule(settings.id, settings.name, settings.takes))
            details = {"device": None, "modality": None, "priority": 0}
            _record(tx, box, "rule:add", settings, actor, details)
        return {}

    every: Mapping[str, Act] = {
        "region": region,
        "bucket": bucket,
        "disk": disk,
        "key": key,
        "enter": enter,
        "folder": folder,
        "rule": rule,
    }
    name = run_of(place.kind)
    if place.kind in _FOUND_THERE and _FOUND_THERE[place.kind] not in place.options:
        runs.forget(box, name)  # what was done was done at a place that is not known any more
    begun = runs.begin(box, name, subject_of(place), {part: every[part] for part in PARTS[place.kind]})

    def finish() -> Run:
        done = begun.finish()
        with box.catalog.transaction() as tx:
            outcome = audit.Outcome.DONE if done.failed is None else audit.Outcome.FAILED
            entry = audit.Entry("destination:test", settings.name, actor, outcome=outcome)
            audit.append(tx, box.audit_key, [entry], datetime.now(UTC))
        return done

    return finish


def is_for_all(rule: Rule) -> bool:
    """Whether a rule sends everything."""
    return rule.device is None and rule.modality is None


def subject_of(settings: DestinationSettings) -> str:
    """What a test of these settings is about: other settings must be tried anew. Says nothing of the secret itself."""
    typed = {
        name: value for name, value in settings.options.items() if name != _FOUND_THERE.get(settings.kind)
    }
    text = json.dumps([typed, hashlib.sha256(settings.secret.encode()).hexdigest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def latest(box: Box, reading: Reading, place: DestinationSettings) -> Run | None:
    """The test of the copy at `place` as it is now; None where that was never tried."""
    last = runs.latest(box, reading, run_of(place.kind))
    return last if last is not None and last.subject == subject_of(place) else None


def _come_in(box: Box, settings: DestinationSettings) -> None:
    """Sign in at a file server, and no more. Raises `OperatorNeeded`, `Transient`."""
    built = build(settings, box)
    assert isinstance(built, ShareDestination)
    with closing(built.server.dial()):
        pass


def _record(
    tx: Transaction,
    box: Box,
    action: str,
    place: DestinationSettings,
    actor: str,
    details: Mapping[str, object],
    now: datetime | None = None,
) -> None:
    entry = audit.Entry(action, place.name, actor, dict(details))
    audit.append(tx, box.audit_key, [entry], now or datetime.now(UTC))
