"""Setting up in the browser: a page for each step, at ``/setup/<step>``; `appliance.wizard` is the engine behind."""

from appliance.web.views.setup import (
    account,
    clinic,
    devices,
    network,
    recovery,
    report,
    restore,
    start,
    storage,
    trial,
    users,
)
from appliance.web.views.setup.frame import blueprint

__all__ = [
    "account",
    "blueprint",
    "clinic",
    "devices",
    "network",
    "recovery",
    "report",
    "restore",
    "start",
    "storage",
    "trial",
    "users",
]
