"""The box's name on the LAN, and the certificates by which browsers know it. How to trust them: `views.trust`."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from flask import Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import certificates, settings
from appliance.certificates import Installed
from appliance.errors import Refused
from appliance.identity.permissions import Permission
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
    said,
    setup_page,
    typed_before,
)
from appliance.wizard.steps import Step


@dataclass(frozen=True, slots=True)
class CertificatePart:
    """The certificates as a person compares them."""

    host_name: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    words: str
    hexadecimal: str
    ends: str
    folder: str


@dataclass(frozen=True, slots=True)
class NetworkPage(SetupPage):
    """The form, and the certificates once there are any."""

    host_name: str
    machine_name: str
    addresses: tuple[str, ...]
    certificate: CertificatePart | None


@blueprint.get("/network")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.NETWORK)
def network() -> Response:
    """The form, and what was made."""
    return _form(typed_before(Step.NETWORK).get("host_name", ""))


@blueprint.post("/network")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.NETWORK)
def name_box() -> AnyResponse:
    """Make the certificates for a name, and lay them out for whoever terminates TLS."""
    typed = keep_typed(Step.NETWORK, "host_name")
    box, addresses = console().box, certificates.own_addresses()
    try:
        with box.catalog.transaction() as tx:
            found = certificates.install(
                tx,
                box,
                host_name=typed["host_name"],
                clinic=settings.get(tx, "clinic.name"),
                addresses=addresses,
                now=now(),
            )
            details = {
                "addresses": list(addresses),
                "fingerprint": certificates.hexadecimal(found.fingerprint),
            }
            console().record(tx, "certificate:issue", found.host_name, forms.actor(), details)
    except Refused as refusal:
        return _form(typed["host_name"], said(refusal))
    certificates.write_files(box)
    accepted(Step.NETWORK, {"host_name": found.host_name})
    return forms.back_to("/setup/network")


def certificate_part(found: Installed) -> CertificatePart:
    """The certificates in words."""
    return CertificatePart(
        host_name=found.host_name,
        names=found.names,
        addresses=found.addresses,
        words=certificates.in_words(found.fingerprint),
        hexadecimal=certificates.hexadecimal(found.fingerprint),
        ends=g.words.moment(found.server_ends_utc),
        folder=str(certificates.folder_of(console().box)),
    )


def _form(typed: str, error: str = "") -> Response:
    with console().box.catalog.reading() as conn:
        found = certificates.installed(conn)
    page = setup_page(
        NetworkPage,
        Step.NETWORK,
        error=error,
        host_name=typed or (found.host_name if found else "clinicbox"),
        machine_name=socket.gethostname().split(".")[0].lower(),
        addresses=certificates.console_addresses(),
        certificate=certificate_part(found) if found else None,
    )
    return show("setup/network.html", page, 422 if error else 200)
