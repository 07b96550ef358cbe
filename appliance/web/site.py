"""Under which name and by which way this browser reaches the console: what passkeys are bound to."""

from __future__ import annotations

from flask import request

from appliance.identity import passkeys


def passkey_site() -> passkeys.Site | None:
    """The site of this request; None where browsers allow no passkeys. The name was checked to be ours before."""
    return passkeys.site_of(request.host, secure=request.is_secure)
