"""The key of a file server: shown as the server shows it now, compared by a person, and pinned.

The page asks the server for its key and says nothing of us in return. A first key is trusted by a click, since it stands on the page
to be compared. One that has changed has to be typed from the server itself: somebody who is used to clicking would click here.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import destinations
from appliance.errors import ApplianceError, Unknown
from appliance.identity.permissions import Permission
from appliance.model import DestinationSettings
from appliance.replication.destinations import sftp
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import console
from appliance.web.pages import Page, page_of, show
from appliance.web.views.destinations import known, try_out

blueprint = Blueprint("server_key", __name__, url_prefix="/destinations")


@dataclass(frozen=True, slots=True)
class ServerKeyPage(Page):
    """The key that the server shows now, empty while it does not answer; the one that is pinned; our own public key.

    `stage` is ``silent``, ``new``, ``same`` or ``changed``.
    """

    id: int
    name: str
    address: str
    stage: str
    shown: str
    pinned: str
    public_key: str
    error: str


@blueprint.get("/<int:destination_id>/key")
@needs(Permission.MANAGE_DESTINATIONS)
def server_key(destination_id: int) -> Response:
    """The key, to be compared."""
    return _page(_server(destination_id))


@blueprint.post("/<int:destination_id>/key")
@needs(Permission.MANAGE_DESTINATIONS)
@reauthenticated
def trust(destination_id: int) -> AnyResponse:
    """Pin the key that was compared; the connection is tested right after."""
    settings = _server(destination_id)
    try:
        trusted = sftp.trust(settings, forms.text("fingerprint"))
    except ApplianceError as error:
        return _page(settings, forms.explain(error), 422)
    with console().box.catalog.transaction() as tx:
        host_key = str(trusted.options["host_key"])
        now = destinations.pin(tx, known(destination_id, tx).name, host_key)
        console().record(tx, "destination:trust", now.name, forms.actor(), {"host_key": host_key})
    try_out(now)
    return forms.back_to(f"/destinations/{destination_id}")


def _server(destination_id: int) -> DestinationSettings:
    settings = known(destination_id)
    if settings.kind != "sftp":
        raise Unknown("this destination has no key to compare", hint="go back to the destinations")
    return settings


def _page(settings: DestinationSettings, error: str = "", status: int = 200) -> Response:
    pinned, shown = str(settings.options.get("host_key", "")), ""
    try:
        shown = sftp.SftpServer.from_settings(settings).shown_key()
    except ApplianceError as silent:
        error = error or forms.explain(silent)
    stage = "silent" if not shown else "new" if not pinned else "same" if shown == pinned else "changed"
    page = page_of(
        ServerKeyPage,
        title=g.words("destinations.key_title"),
        section="destinations",
        id=int(settings.id),
        name=settings.name,
        address=str(settings.options.get("address", "")),
        stage=stage,
        shown=shown,
        pinned=pinned,
        public_key=str(settings.options.get("public_key", "")),
        error=error,
    )
    return show("server-key.html", page, status)
