"""How long the disk lasts, and where the copy goes that survives a fire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Response, g, request
from werkzeug.wrappers import Response as AnyResponse

from appliance.errors import ApplianceError
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.background import in_background
from appliance.web.console import console, now
from appliance.web.pages import is_partial, show
from appliance.web.views.setup.frame import (
    PartLine,
    SetupPage,
    accepted,
    blueprint,
    in_turn,
    keep_typed,
    part_lines,
    said,
    setup_page,
    typed_before,
)
from appliance.web.views.setup.place_form import FIELDS, PRESET, DiskLine, disk_lines, place_of, typed_of
from appliance.wizard import copies, expectation, places
from appliance.wizard.forecast import BYTES, MOST_A_DAY, forecast
from appliance.wizard.steps import Step


@dataclass(frozen=True, slots=True)
class DiskPart:
    """The disk in words; `used_percent` is for the gauge."""

    used_percent: int
    free: str
    days: str
    a_day: str
    basis: str


@dataclass(frozen=True, slots=True)
class StoragePage(SetupPage):
    """The forecast, the form of the copy with its `fields` that are no secrets, and its test."""

    disk: DiskPart
    expected: tuple[tuple[str, str, str], ...]
    typed: Mapping[str, str]
    fields: tuple[str, ...]
    has_secret: str
    disks: tuple[DiskLine, ...]
    parts: tuple[PartLine, ...]
    running: str
    tested: str


@blueprint.get("/storage")
@needs(Permission.MANAGE_DESTINATIONS)
@in_turn(Step.STORAGE)
def storage() -> Response:
    """The page, or the test alone while it runs."""
    return _form()


@blueprint.post("/storage/expected")
@needs(Permission.MANAGE_DESTINATIONS)
@in_turn(Step.STORAGE)
def expect() -> AnyResponse:
    """How many images the clinic expects on a working day."""
    counts = {kind: forms.whole(forms.text(kind), low=0, high=MOST_A_DAY, default=0) for kind in BYTES}
    with console().box.catalog.transaction() as tx:
        expectation.keep(tx, counts, now())
        console().record(tx, "setup:step", "expected images", forms.actor(), dict(counts))
    return forms.back_to("/setup/storage")


@blueprint.post("/storage/cloud")
@needs(Permission.MANAGE_DESTINATIONS)
@in_turn(Step.STORAGE)
@reauthenticated
def try_copy() -> AnyResponse:
    """Keep where the copy goes, and try it; *Try again* sends the same form with the secret left empty."""
    typed = keep_typed(Step.STORAGE, *FIELDS)
    box, actor = console().box, forms.actor()
    fingerprint = typed["fingerprint"] if typed["kind"] == "server" else ""
    try:
        wanted = place_of(typed)
        with box.catalog.transaction() as tx:
            place = copies.keep(tx, box, wanted, fingerprint, actor, now())
        begun = copies.begin(box, place, actor, fingerprint)
    except ApplianceError as error:
        return _form(said(error))
    where = {
        name: place.options[name] for name in ("bucket", "region", "address", "path") if name in place.options
    }
    # The place holds no fingerprint before the server has shown its key, and *Try again* needs the one that was compared.
    unsettled = {"fingerprint": typed["fingerprint"]} if typed["fingerprint"] else None
    accepted(Step.STORAGE, {"kind": place.kind, **where}, unsettled)
    in_background("setup-copy", begun)
    return forms.back_to(f"/setup/storage?kind={typed['kind']}#test")


def _form(error: str = "") -> Response:
    box = console().box
    before = typed_before(Step.STORAGE)
    asked = places.KINDS.get(before.get("kind") or request.args.get("kind", ""))
    with box.catalog.reading() as conn:
        place = copies.found(conn, asked) if asked else copies.found(conn)
        run = copies.latest(box, conn, place) if place is not None else None
        expected = expectation.expected(conn)
        kept_bytes, first = expectation.arrived(conn)
    space = box.guard.space()
    usable = max(0, space.free_bytes - box.guard.reserve_bytes)
    if place is not None and "host_key" in place.options and "kind" not in before:
        before = {}  # the fingerprint is settled: the key is pinned
    ahead = forecast(
        usable_bytes=usable, kept_bytes=kept_bytes, first_received_utc=first, expected=expected, now=now()
    )
    words = g.words
    page = setup_page(
        StoragePage,
        Step.STORAGE,
        error=error,
        disk=DiskPart(
            used_percent=100 - round(100 * space.free_bytes / max(1, space.total_bytes)),
            free=words.size(usable),
            days=words("storage.days", n=ahead.days),
            a_day=words.size(ahead.bytes_a_day),
            basis=words(f"storage.basis.{ahead.basis}"),
        ),
        expected=tuple((kind, words(f"storage.{kind}"), str(expected[kind])) for kind in BYTES),
        typed={**PRESET, **(typed_of(place) if place is not None else {}), **before},
        fields=FIELDS,
        has_secret="yes" if place is not None and place.secret else "no",
        disks=() if is_partial() else disk_lines(),
        parts=part_lines(run, copies.PARTS[place.kind]) if place is not None else (),
        running="yes" if run is not None and run.is_running else "no",
        tested="no" if run is None else "passed" if run.passed else "failed" if run.failed else "no",
    )
    return show(
        "setup/parts/cloud-test.html" if is_partial() else "setup/storage.html", page, 422 if error else 200
    )
