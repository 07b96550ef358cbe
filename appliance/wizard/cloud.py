"""The copy in the cloud: kept with its secret, tried as a delivery would use it, and only then fed by a rule.

A destination that does not work yet is kept all the same, so that a wrong letter in the bucket's name doesn't cost
typing the secret again; without a rule nothing is owed to it.

======  =======================================================================
part    is done when
======  =======================================================================
region  the region guard has let it pass: nothing leaves Canada
bucket  the bucket was found there, a text was written to it and read back
rule    everything that arrives goes there from now on
======  =======================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import Reading, Transaction, destinations, rules
from appliance.errors import Refused, Unknown
from appliance.model import DestinationSettings, Rule
from appliance.replication import recall
from appliance.replication.destinations import build
from appliance.wizard import runs
from appliance.wizard.runs import Act, Detail, Run, Tell

RUN: Final = "cloud"
PARTS: Final = ("region", "bucket", "rule")
NAME: Final = "cloud"


def found(reading: Reading) -> DestinationSettings | None:
    """The cloud copy: the first destination that takes ciphertext."""
    return next((each for each in destinations.destinations(reading) if each.takes == "ciphertext"), None)


def options_of(
    *, bucket: str, region: str, access_key_id: str, endpoint_url: str, canadian: bool
) -> dict[str, str | int | bool]:
    """The options of an S3 destination; what is empty is left out. Raises `Refused`."""
    if not bucket or not region:
        raise Refused("a field is empty that must not be", hint="fill in all the fields")
    options: dict[str, str | int | bool] = {"bucket": bucket, "region": region}
    if access_key_id:
        options["access_key_id"] = access_key_id
    if endpoint_url:
        options["endpoint_url"] = endpoint_url
    if canadian:
        options["canadian"] = True
    return options


def keep(
    tx: Transaction, box: Box, options: Mapping[str, str | int | bool], secret: str, actor: str, now: datetime
) -> DestinationSettings:
    """Add the cloud copy, or change it; an empty `secret` keeps the one there is.

    Raises `Refused` for a place outside Canada, `OperatorNeeded` for an access key without its secret: then nothing is
    kept.
    """
    before = found(tx)
    wanted = DestinationSettings(
        name=before.name if before else NAME,
        kind="s3",
        takes="ciphertext",
        options=options,
        secret=secret or (before.secret if before else ""),
        id=before.id if before else DestinationSettings("", "s3", "ciphertext", {}).id,
    )
    build(wanted, box)
    if before is None:
        destinations.add(tx, wanted)
    elif (dict(before.options), before.secret) != (dict(options), wanted.secret):
        recall.let_move(tx, before, options)
        destinations.change(tx, before.name, options, secret or None)
    else:
        return before
    action = "destination:add" if before is None else "destination:change"
    audit.append(tx, box.audit_key, [audit.Entry(action, wanted.name, actor, {"kind": "s3", **options})], now)
    return wanted


def run(box: Box, actor: str) -> Run:
    """Try the cloud copy, and let everything go there if it works. Raises `Unknown` if there is none, `Transient`."""
    return begin(box, actor)()


def begin(box: Box, actor: str) -> Callable[[], Run]:
    """Put the test of the cloud copy on record as running; what is returned does it.

    Raises `Unknown` if there is no copy to try, `Transient` when the test runs already.
    """
    with box.catalog.reading() as conn:
        place = found(conn)
    if place is None:
        raise Unknown("there is no cloud copy to try", hint="say first where it is")
    settings = place

    def region(tell: Tell) -> Detail:
        tell({"region": str(settings.options.get("region", ""))})
        build(settings, box)
        return {}

    def bucket(tell: Tell) -> Detail:
        tell({"bucket": str(settings.options.get("bucket", ""))})
        build(settings, box).check()
        return {}

    def rule(tell: Tell) -> Detail:
        tell({"to": settings.name})
        with box.catalog.transaction() as tx:
            if any(each.destination_id == settings.id and is_for_all(each) for each in rules.rules(tx)):
                return {}
            rules.add_rule(tx, Rule(settings.id, settings.name, settings.takes))
            details = {"device": None, "modality": None, "priority": 0}
            entry = audit.Entry("rule:add", settings.name, actor, details)
            audit.append(tx, box.audit_key, [entry], datetime.now(UTC))
        return {}

    acts: Mapping[str, Act] = {"region": region, "bucket": bucket, "rule": rule}
    begun = runs.begin(box, RUN, subject_of(settings), acts)

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
    text = json.dumps(
        [dict(settings.options), hashlib.sha256(settings.secret.encode()).hexdigest()], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
