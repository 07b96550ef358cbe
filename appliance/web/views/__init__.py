"""The blueprints, one file a section of the console."""

from flask import Flask

from appliance.web.views import (
    about,
    alerts,
    api,
    audit,
    claim,
    deliveries,
    destinations,
    devices,
    door,
    enrolment,
    grants,
    guide,
    images,
    language,
    live,
    machine,
    me,
    notices,
    second_factor,
    settings,
    shell,
    start,
    studies,
    tokens,
)


def mount(app: Flask) -> None:
    """Register every blueprint with `app`."""
    for module in (
        about,
        alerts,
        api,
        audit,
        claim,
        deliveries,
        destinations,
        devices,
        door,
        enrolment,
        guide,
        grants,
        images,
        language,
        live,
        machine,
        notices,
        settings,
        me,
        second_factor,
        shell,
        start,
        studies,
        tokens,
    ):
        app.register_blueprint(module.blueprint)
