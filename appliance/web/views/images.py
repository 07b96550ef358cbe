"""Pictures of instances: whole, by frame and window, or small for lists. What cannot be drawn says so in a picture.

No browser keeps one: the disk of a clinic's computer is not sealed, and who leaves without signing out leaves what lies
there (ASVS 14.3.2). Rejected: to keep them and ask each time whether they may still be shown, which saves their few
kilobytes and nothing else, since the box keeps what it drew lately.
"""

from __future__ import annotations

from flask import Blueprint, Response, current_app, g, render_template
from werkzeug.exceptions import BadRequest

from appliance.catalog import evictions, sight
from appliance.catalog.sight import InstanceRow
from appliance.errors import Corrupt, NotAskedFor, OperatorNeeded, Resting, Transient, Unknown
from appliance.identity.permissions import Permission
from appliance.imaging import NotShown, View, Window
from appliance.model import InstanceId
from appliance.replication import recall
from appliance.web import access, forms, sightings
from appliance.web.access import needs
from appliance.web.console import Pictures, console

blueprint = Blueprint("images", __name__, url_prefix="/instances")

THUMBNAIL_PIXELS = 180
LARGEST_PIXELS = 3000
"""Longest side of a whole picture: a panoramic in full, and no more than a browser holds easily."""


@blueprint.get("/<int:instance_id>/thumbnail")
@needs(Permission.VIEW_STUDIES)
def thumbnail(instance_id: int) -> Response:
    """The instance, small; of several frames the middle one.

    One that has left this disk is fetched for whoever has opened its study, and not for a list of many: that would bring back from the
    cloud, and have asked for in deep archive, what nobody has opened.
    """
    row = known(instance_id)
    sightings.glimpsed(row.study_id, row.study_instance_uid, instance=instance_id)
    frame = row.number_of_frames // 2 if row.number_of_frames > 1 else 0
    return _picture(row, View(frame=frame, longest=THUMBNAIL_PIXELS), fetch=forms.asked("opened") == "1")


@blueprint.get("/<int:instance_id>/image")
@needs(Permission.VIEW_STUDIES)
def image(instance_id: int) -> Response:
    """The instance with what the person has set: frame, tone, brightness and contrast (percent), inverted."""
    row = known(instance_id)
    tone = forms.asked("tone", "recorded")
    window = None
    if tone == "window":
        center = forms.decimal(forms.asked("center"), low=-1e7, high=1e7)
        width = forms.decimal(forms.asked("width"), low=1e-6, high=1e7)
        if center is None or width is None:
            raise BadRequest
        window = Window(center, width)
    elif tone not in ("recorded", "full"):
        raise BadRequest
    brightness = forms.decimal(forms.asked("brightness", "0"), low=-100, high=100)
    contrast = forms.decimal(forms.asked("contrast", "0"), low=-100, high=100)
    if brightness is None or contrast is None:
        raise BadRequest
    view = View(
        frame=_frame(forms.asked("frame", "0")),
        tone=tone,  # type: ignore[arg-type]
        window=window,
        shift=-brightness / 100,
        stretch=2 ** (-contrast / 50),
        inverted=forms.asked("inverted") == "1",
        longest=LARGEST_PIXELS,
    )
    sightings.opened(row.study_id, row.study_instance_uid, instance=instance_id)
    return _picture(row, view)


def _frame(text: str) -> int:
    """The frame asked for, and no other: a picture of the wrong one is worse than none."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise BadRequest
    return int(text)


def known(instance_id: int) -> InstanceRow:
    """The instance of that number, if whoever asks may see it. Raises `Unknown`."""
    with console().box.catalog.reading() as conn:
        row = sight.instance(conn, access.sight(), InstanceId(instance_id))
    if row is None:
        raise access.not_there("image", instance_id)
    return row


def _picture(row: InstanceRow, view: View, *, fetch: bool = True) -> Response:
    pictures = console().pictures
    with pictures.turn(
        row.id, view
    ):  # who wants the same meanwhile waits for it, instead of drawing it again
        return _developed(row, view, pictures, fetch)


def _has_left(row: InstanceRow) -> bool:
    box = console().box
    if recall.is_here(box, row.object_id):
        return False
    with box.catalog.reading() as conn:
        return evictions.is_away(conn, row.object_id)


def _developed(row: InstanceRow, view: View, pictures: Pictures, fetch: bool) -> Response:
    picture = pictures.get(row.id, view)
    if picture is None and not fetch and _has_left(row):
        return _words_instead("in-archive")
    if picture is None:
        try:
            with (
                console().timings.measured("render"),
                recall.open_object(console().box, row.object_id, row.key_id, row.sealed_bytes) as reader,
            ):
                picture = console().darkroom.render(reader, row.size_bytes, view)
        except NotShown as refusal:
            return _words_instead(refusal.reason)
        except Corrupt:
            current_app.logger.error("instance %d is damaged at rest", row.id)
            return _words_instead("damaged")
        except Unknown:
            current_app.logger.error("the object of instance %d is missing", row.id)
            return _words_instead("missing")
        except NotAskedFor:
            return _words_instead("not-asked-for")
        except Resting as error:
            return _words_instead("resting", error.wait_hours)
        except (Transient, OperatorNeeded):
            return _words_instead("away")
        pictures.keep(row.id, view, picture)
    return current_app.response_class(picture, content_type="image/jpeg")


def _words_instead(reason: str, hours: int = 0) -> Response:
    """A picture that says why there is none, and in how many `hours` there will be. Status 200: a browser shows it, and its console
    stays clean.
    """
    text = render_template(
        "no-picture.svg",
        title=g.words("image.not_shown"),
        reason=g.words(f"image.{reason}", n=hours) if hours else g.words(f"image.{reason}"),
    )
    answer = current_app.response_class(text, content_type="image/svg+xml; charset=utf-8")
    answer.headers["X-Not-Shown"] = reason
    return answer
