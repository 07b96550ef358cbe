"""What machines ask: is it alive, is it ready, how much of everything. No patient data, no session."""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import Forbidden

from appliance import health
from appliance.identity.permissions import Permission
from appliance.web.access import may
from appliance.web.console import console, now

blueprint = Blueprint("machine", __name__)

TOKEN_FILE = "metrics.token"  # noqa: S105 -- its name, not its content
"""In the data folder: who reads it may read the metrics from another machine."""


@blueprint.get("/health/live")
def live() -> Response:
    """200 while this process answers."""
    return jsonify({"live": True})


@blueprint.get("/health/ready")
def ready() -> Response:
    """200 when images can be received and kept, 503 with the codes of what hinders it."""
    status = health.status(console().box, now())
    answer = jsonify(
        {
            "ready": status.ready,
            "problems": [
                {"code": each.code, "severity": each.severity, "blocks": each.blocks}
                for each in status.problems
            ],
        }
    )
    answer.status_code = 200 if status.ready else 503
    return answer


@blueprint.get("/health/deep")
def deep() -> Response:
    """200 when an object could be written, read back and decrypted, and the catalog written and asked; else 503.

    For the same as `metrics`. Asked again within ten seconds, it gives the same answer.
    """
    if not (_is_this_machine() or _bears_token() or may(Permission.VIEW_HEALTH)):
        raise Forbidden
    found = console().examiner.examine(now())
    answer = jsonify(
        {
            "sound": found.is_sound,
            "at_utc": found.at_utc.isoformat(),
            "steps": [
                {"name": each.name, "milliseconds": round(each.seconds * 1000, 1), "cause": each.cause}
                for each in found.steps
            ],
        }
    )
    answer.status_code = 200 if found.is_sound else 503
    return answer


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text, for this machine itself, or the bearer of the file's token or of a person's."""
    if not (_is_this_machine() or _bears_token() or may(Permission.VIEW_HEALTH)):
        raise Forbidden
    text = health.metrics_text(console().box, now())
    return current_app.response_class(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _is_this_machine() -> bool:
    """Straight from loopback: what a proxy in front passes on is not."""
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


def _bears_token() -> bool:
    path = Path(console().box.config.data) / TOKEN_FILE
    if not path.is_file():
        return False
    wanted = path.read_text("ascii").strip()
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    return (
        bool(wanted)
        and scheme.lower() == "bearer"
        and hmac.compare_digest(sent.strip().encode(), wanted.encode())
    )
