"""What was destroyed, and the certificates of it: as a page, as a paper, and as a signed file."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, current_app, g

from appliance.catalog import Reading, tombstones
from appliance.catalog.tombstones import Certificate, PlaceState
from appliance.errors import Unknown
from appliance.identity.permissions import Permission
from appliance.lifecycle import certificate
from appliance.web import forms, papers
from appliance.web.access import needs
from appliance.web.certificate_words import Section, worded
from appliance.web.console import console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("certificates", __name__, url_prefix="/retention/certificates")

MOST = 200
KINDS = {"pdf": "application/pdf", "json": "application/json"}


@dataclass(frozen=True, slots=True)
class CertificateLine:
    """A certificate in the list; `waiting` names the archives that still have their part to do, `found` says of what was found in one by
    which certificate it was destroyed before."""

    label: str
    state: str
    tone: str
    begun: str
    studies: str
    images: str
    waiting: str
    found: str = ""


@dataclass(frozen=True, slots=True)
class CertificatesPage(Page):
    """The certificates, the latest first."""

    tab: str
    lines: tuple[CertificateLine, ...]


@dataclass(frozen=True, slots=True)
class CertificatePage(Page):
    """What one certificate says at this moment."""

    label: str
    made: str
    verdict: str
    tone: str
    sections: tuple[Section, ...]


@blueprint.get("")
@needs(Permission.DESTROY_STUDIES)
def listing() -> Response:
    """The certificates."""
    with console().box.catalog.reading() as conn:
        lines = tuple(_line(conn, each) for each in tombstones.certificates(conn, limit=MOST))
    page = page_of(
        CertificatesPage,
        title=g.words("retention.title"),
        section="retention",
        tab="certificates",
        lines=lines,
    )
    return show("certificates-of-destruction.html", page)


@blueprint.get("/<label>")
@needs(Permission.DESTROY_STUDIES)
def one(label: str) -> Response:
    """One certificate in words."""
    box = console().box
    with box.catalog.reading() as conn:
        told = certificate.document(conn, tombstones.certificate(conn, label), now())
    paper = worded(told, certificate.fingerprint(box.root), g.words)
    page = page_of(
        CertificatePage,
        title=paper.title,
        section="retention",
        label=label,
        made=paper.made,
        verdict=paper.verdict,
        tone=paper.verdict_tone,
        sections=paper.sections,
    )
    return show("certificate-of-destruction.html", page)


@blueprint.post("/<label>/<kind>")
@needs(Permission.DESTROY_STUDIES)
def take(label: str, kind: str) -> Response:
    """The certificate as a file: signed, or on paper in the language of the page with the signed file in it.

    The audit keeps the SHA-256 of the signed file of either.
    """
    if kind not in KINDS:
        raise Unknown("there is no such kind of certificate", hint="use one of the buttons on the page")
    box = console().box
    with box.catalog.transaction() as tx:
        found = tombstones.certificate(tx, label)
        data = certificate.issue(tx, box.root, found, now())
        issued = {"as": kind, "sha256": certificate.digest(data)}
        console().record(tx, "destruction:certify", found.label, forms.actor(), issued)
    if kind == "pdf":
        seal = certificate.fingerprint(box.root)
        data = papers.certificate(console().languages, g.language, data, seal)
    answer = current_app.response_class(data, content_type=KINDS[kind])
    answer.headers["Content-Disposition"] = f'attachment; filename="{found.label}.{kind}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _line(conn: Reading, found: Certificate) -> CertificateLine:
    words = g.words
    studies = tombstones.studies_of(conn, found.id)
    waiting = [
        each.name
        for each in tombstones.places(conn, found.id)
        if each.state in {PlaceState.OWED, PlaceState.LAID}
    ]
    done = found.completed_utc is not None
    return CertificateLine(
        label=found.label,
        state=words("destroyed.state.done" if done else "destroyed.state.waiting"),
        tone="good" if done else "wait",
        begun=words.moment(found.begun_utc),
        studies=words("destruction.studies", n=len(studies)),
        images=words("studies.images", n=sum(each.instances for each in studies)),
        waiting=", ".join(waiting),
        found=words("destroyed.found_short", label=label)
        if (label := found.authority.get("found_as"))
        else "",
    )
