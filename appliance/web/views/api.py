"""The first of the machine-readable interface: lists, as the command line gives them. Versioned by its path."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, Response, jsonify

from appliance.catalog import deliveries, sight
from appliance.errors import Refused
from appliance.identity.permissions import Permission
from appliance.replication.delivery import State
from appliance.web import access, forms
from appliance.web.access import needs
from appliance.web.console import console

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


@blueprint.get("/studies")
@needs(Permission.VIEW_STUDIES)
def list_studies() -> Response:
    """Studies, the latest first: `limit` (100, at most 1000) and `offset`. Searching by name is not for addresses."""
    limit = forms.whole(forms.asked("limit", "100"), low=1, high=1000, default=100)
    offset = forms.whole(forms.asked("offset", "0"), low=0, high=10_000_000, default=0)
    with console().box.catalog.reading() as conn:
        rows = sight.find(conn, access.sight(), limit=limit, offset=offset)
    with console().box.catalog.transaction() as tx:
        shown = {"rows": len(rows), "studies": [row.id for row in rows]}
        console().record(tx, "study:list", "api", forms.actor(), shown)
    return jsonify(
        [
            {
                "id": row.id,
                "study_instance_uid": row.study_instance_uid,
                "patient_id": row.patient_id,
                "patient_name": row.patient_name,
                "birth_date": row.birth_date,
                "study_date": row.study_date,
                "modalities": list(row.modalities),
                "description": row.description,
                "accession_number": row.accession_number,
                "instances": row.instances,
                "bytes": row.bytes,
            }
            for row in rows
        ]
    )


@blueprint.get("/deliveries")
@needs(Permission.VIEW_DELIVERIES)
def list_deliveries() -> Response:
    """Deliveries, the latest first: `state`, `destination`, `limit` (100, at most 1000)."""
    limit = forms.whole(forms.asked("limit", "100"), low=1, high=1000, default=100)
    word = forms.asked("state").upper()
    if word and word not in State.__members__:
        raise Refused("that is no state of a delivery", hint=f"use one of {', '.join(State)}")
    with console().box.catalog.reading() as conn:
        rows = deliveries.list_deliveries(
            conn,
            state=State[word] if word else None,
            destination=forms.asked("destination") or None,
            limit=limit,
        )
    with console().box.catalog.transaction() as tx:
        console().record(tx, "delivery:list", "api", forms.actor(), {"rows": len(rows)})
    sees = access.sight()
    named = sees.all_studies and sees.identified
    return jsonify(
        [
            {
                "id": row.id,
                "destination": row.destination,
                "state": row.state,
                "study_instance_uid": row.study_instance_uid if named else "",
                "sop_instance_uid": row.sop_instance_uid if named else "",
                "attempts": row.attempts,
                "next_attempt_utc": _iso(row.next_attempt_utc),
                "receipt": None if row.receipt is None else dict(row.receipt),
            }
            for row in rows
        ]
    )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
