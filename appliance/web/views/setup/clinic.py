"""The clinic, and the person in charge of the protection of personal information (P-39.1 s.3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import settings
from appliance.errors import Refused
from appliance.identity.permissions import Permission
from appliance.lifecycle import memory
from appliance.local_time import MACHINE, ZONES
from appliance.settings.registry import PROVINCES
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.pages import show
from appliance.web.views.setup.frame import (
    SetupPage,
    accepted,
    blueprint,
    in_turn,
    keep_typed,
    required,
    said,
    setup_page,
    typed_before,
)
from appliance.wizard.steps import Step

FIELDS = (
    "name",
    "address",
    "phone",
    "province",
    "time_zone",
    "privacy_officer_name",
    "privacy_officer_email",
)


@dataclass(frozen=True, slots=True)
class ClinicPage(SetupPage):
    """The form; `provinces` and `zones` are pairs of code and name."""

    typed: Mapping[str, str]
    provinces: tuple[tuple[str, str], ...]
    zones: tuple[tuple[str, str], ...]


@blueprint.get("/clinic")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.CLINIC)
def clinic() -> Response:
    """The form, with what is kept or was typed."""
    return _form({**_kept(), **typed_before(Step.CLINIC)})


@blueprint.post("/clinic")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.CLINIC)
def name_clinic() -> AnyResponse:
    """Keep the answers as settings."""
    typed = keep_typed(Step.CLINIC, *FIELDS)
    typed = {**typed, "time_zone": typed["time_zone"] or MACHINE}
    try:
        required(typed, "name", "province", "privacy_officer_name", "privacy_officer_email")
        with console().box.catalog.transaction() as tx:
            settings.change(
                tx,
                console().box.audit_key,
                {f"clinic.{name}": typed[name] for name in FIELDS},
                actor=forms.actor(),
                now=now(),
            )
            memory.chosen_province(tx, now())
    except Refused as refusal:
        return _form(typed, said(refusal))
    return accepted(Step.CLINIC)


def _kept() -> dict[str, str]:
    with console().box.catalog.reading() as conn:
        kept = {name: settings.get(conn, f"clinic.{name}") for name in FIELDS}
        # The one that every box begins with is not offered as if somebody had chosen it, after a restore that brought no settings.
        return {**kept, "province": "" if memory.lacks_a_province(conn) else kept["province"]}


def _form(typed: Mapping[str, str], error: str = "") -> Response:
    page = setup_page(
        ClinicPage,
        Step.CLINIC,
        error=error,
        typed=typed,
        provinces=tuple((code, g.words(f"province.{code}")) for code in PROVINCES),
        zones=tuple((code, g.words(f"setting.clinic.time_zone.{code}")) for code in (MACHINE, *ZONES)),
    )
    return show("setup/clinic.html", page, 422 if error else 200)
