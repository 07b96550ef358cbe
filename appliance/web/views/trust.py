"""How a workstation learns to trust this box: the authority's certificate, its fingerprint, and the clicks.

Open to everybody on the LAN, because whoever needs it cannot sign in safely yet; it holds nothing but what every TLS
handshake tells. It exists once the network is set up.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, current_app, g

from appliance import certificates
from appliance.certificates import Installed
from appliance.errors import Unknown
from appliance.web.console import console
from appliance.web.help import Section
from appliance.web.pages import Page, page_of, show
from appliance.web.views.setup.network import CertificatePart, certificate_part

blueprint = Blueprint("trust", __name__)


@dataclass(frozen=True, slots=True)
class TrustPage(Page):
    """The instructions are the help topic ``trust``; `tag` is the language of it."""

    certificate: CertificatePart
    tag: str
    sections: tuple[Section, ...]


@blueprint.get("/trust")
def page() -> Response:
    """Download, compare, install."""
    part = certificate_part(_installed())
    book = console().help_in(g.language)
    topic = book.topic("trust")
    return show(
        "trust.html",
        page_of(
            TrustPage,
            title=g.words("trust.title"),
            certificate=part,
            tag=book.tag,
            sections=topic.sections if topic is not None else (),
        ),
    )


@blueprint.get("/trust/clinic-ca.crt")
def certificate() -> Response:
    """The authority's certificate, as every system reads it."""
    answer = current_app.response_class(_installed().authority, content_type="application/x-x509-ca-cert")
    answer.headers["Content-Disposition"] = 'attachment; filename="clinic-ca.crt"'
    return answer


def _installed() -> Installed:
    with console().box.catalog.reading() as conn:
        found = certificates.installed(conn)
    if found is None:
        raise Unknown("this box has no certificate yet", hint="set up its name first")
    return found
