"""The blueprints, one file a section of the console."""

from flask import Flask

from appliance.web.views import (
    about,
    api,
    claim,
    deliveries,
    destinations,
    devices,
    door,
    guide,
    images,
    language,
    live,
    machine,
    settings,
    start,
    studies,
)


def mount(app: Flask) -> None:
    """Register every blueprint with `app`."""
    for module in (
        about,
        api,
        claim,
        deliveries,
        destinations,
        devices,
        door,
        guide,
        images,
        language,
        live,
        machine,
        settings,
        start,
        studies,
    ):
        app.register_blueprint(module.blueprint)
