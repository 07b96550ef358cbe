"""The blueprints, one file a section of the console."""

from flask import Flask

from appliance.web.views import (
    alerts,
    audit,
    claim,
    dashboard,
    deliveries,
    destinations,
    devices,
    door,
    emergency,
    enrolment,
    grants,
    guide,
    images,
    language,
    live,
    machine,
    me,
    notices,
    performance,
    roles,
    second_factor,
    settings,
    shell,
    start,
    studies,
    tokens,
    users,
    welcome,
)


def mount(app: Flask) -> None:
    """Register every blueprint with `app`."""
    for module in (
        alerts,
        audit,
        claim,
        dashboard,
        deliveries,
        destinations,
        devices,
        door,
        emergency,
        enrolment,
        grants,
        guide,
        images,
        language,
        live,
        machine,
        performance,
        me,
        notices,
        roles,
        second_factor,
        settings,
        shell,
        start,
        studies,
        tokens,
        users,
        welcome,
    ):
        app.register_blueprint(module.blueprint)
