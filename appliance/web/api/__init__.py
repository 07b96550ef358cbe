"""The interface for programs: ``/api/v1``, JSON, described by OpenAPI.

::

    shape      dataclasses ⇄ JSON ⇄ JSON Schema: one declaration checks, answers and describes
    operation  what one method on one path takes, gives and needs; turned into a view
    problem    errors as RFC 9457 problem documents
    document   the OpenAPI document, made of the operations

One file for each resource declares its operations. Chose declarations that route, validate and describe at once over a
document written beside the code; because such a document lies sooner or later. Rejected: a framework for it (a second
way to route and to check permission beside the console's own).

Rules that hold for all: names of patients are never in addresses, so searching is a POST; lists are paged by the
identifier of the last item (``after``), never by counting; a change that could undo somebody else's asks ``If-Match``.
What is asked is checked against its shape first (400), then by the same code as the console's forms (422).
"""

from flask import Flask

from appliance.web.api import (
    alerts,
    backups,
    box,
    configuration,
    deliveries,
    destinations,
    devices,
    disk_pin,
    document,
    heartbeat,
    retention,
    rules,
    settings,
    studies,
    support,
    tiers,
    tokens,
    updates,
    users,
    webhooks,
)

RESOURCES = (
    studies,
    deliveries,
    destinations,
    rules,
    devices,
    retention,
    backups,
    disk_pin,
    tiers,
    settings,
    alerts,
    webhooks,
    configuration,
    users,
    tokens,
    heartbeat,
    support,
    updates,
    box,
)
"""One module a resource, in the order of the document."""


def mount(app: Flask) -> None:
    """Register every operation with `app`, and the document that describes them."""
    operations = [each for module in RESOURCES for each in module.OPERATIONS]
    for each in operations:
        app.add_url_rule(each.rule, each.endpoint, each.view(), methods=[each.method])
    document.mount(app, operations)
