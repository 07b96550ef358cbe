"""The console: what a clinic sees of the box, over HTTP on the LAN. TLS is terminated in front."""

from appliance.web.application import create_app
from appliance.web.server import serve

__all__ = ["create_app", "serve"]
