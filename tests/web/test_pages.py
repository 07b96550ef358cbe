"""The pages as a clinic meets them: what they show, what they change, and that both languages render them all."""

import io
import json
import re
from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from appliance import audit
from appliance.box import Box
from appliance.catalog import deliveries, destinations, devices, instances, studies
from appliance.model import DeliveryId, Device, InstanceId, ae_title
from appliance.replication.delivery import State
from appliance.web.console import web_ui
from tests.web.conftest import csrf_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAGES = (
    "/studies",
    "/studies/1",
    "/deliveries",
    "/devices",
    "/destinations",
    "/destinations/new/s3",
    "/destinations/new/dicom",
    "/destinations/new/folder",
    "/health",
    "/notices",
    "/notices/preferences",
    "/notices/alerts",
    "/notices/channels",
    "/help",
)


def text_of(client: FlaskClient, path: str, language: str = "en") -> str:
    answer = client.get(path, headers={"Accept-Language": language})
    assert answer.status_code == 200, path
    return answer.get_data(as_text=True)


def post(client: FlaskClient, address: str, /, **data: str):
    token = csrf_of(client.get("/help").get_data(as_text=True))
    return client.post(address, data={"csrf": token, **data}, headers={"Accept-Language": "en"})


def actions(box: Box, limit: int = 5) -> list[str]:
    with box.catalog.reading() as conn:
        return [row["action"] for row in audit.recent(conn, limit=limit)]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_there_in_both_languages(signed_in: FlaskClient, path: str) -> None:
    english, french = text_of(signed_in, path, "en"), text_of(signed_in, path, "fr")
    assert '<html lang="en">' in english
    assert '<html lang="fr">' in french
    assert english.count("<h1>") == french.count("<h1>") == 1


def test_every_template_loads(app: Flask) -> None:
    templates = [path for path in (web_ui() / "templates").rglob("*") if path.is_file()]
    assert len(templates) >= 20
    for path in templates:
        app.jinja_env.get_template(str(path.relative_to(web_ui() / "templates")))


def test_a_search_ignores_accents_and_does_not_travel_in_the_address(signed_in: FlaskClient) -> None:
    part = post(signed_in, "/studies", text="cote helene").get_data(as_text=True)
    assert "Côté-Lévesque, Hélène" in part
    assert "Bélanger" not in part
    assert signed_in.post("/studies?text=cote").status_code == 400


def test_a_search_as_you_type_gets_the_rows_alone(signed_in: FlaskClient) -> None:
    token = csrf_of(text_of(signed_in, "/studies"))
    part = signed_in.post(
        "/studies",
        data={"text": "zzz"},
        headers={"HX-Request": "true", "X-CSRF-Token": token, "Accept-Language": "en"},
    ).get_data(as_text=True)
    assert "<html" not in part
    assert "No study matches" in part


def test_a_list_made_longer_stays_so_when_it_refreshes_by_itself(signed_in: FlaskClient) -> None:
    part = post(signed_in, "/studies", limit="100").get_data(as_text=True)
    assert '<input type="hidden" form="search" name="limit" value="100">' in part


def test_opening_a_study_leaves_an_audit_row_without_a_name(box: Box, signed_in: FlaskClient) -> None:
    text_of(signed_in, "/studies/1")
    with box.catalog.reading() as conn:
        row = audit.recent(conn, limit=1)[0]
    assert (row["action"], row["subject"], row["actor"]) == ("study:view", "study:1", "mtremblay")


def test_a_picture_asked_for_by_address_alone_is_audited_once(
    app: Flask, box: Box, signed_in: FlaskClient
) -> None:
    with box.catalog.reading() as conn:
        row = studies.find(conn)[0]
        first = instances.instances_of_study(conn, row.study_instance_uid)[0]
    before = actions(box, 1000).count("study:view")
    for _ in range(3):
        assert signed_in.get(f"/instances/{first.id}/image").status_code == 200
    assert actions(box, 1000).count("study:view") == before + 1


def test_the_picture_is_a_picture_and_follows_the_wishes(signed_in: FlaskClient) -> None:
    plain = Image.open(io.BytesIO(signed_in.get("/instances/1/image").data))
    inverted = Image.open(io.BytesIO(signed_in.get("/instances/1/image?inverted=1").data))
    assert plain.size == inverted.size
    total = [
        a + b for a, b in zip(plain.convert("L").tobytes(), inverted.convert("L").tobytes(), strict=True)
    ]
    assert abs(sum(total) / len(total) - 255) < 2
    small = Image.open(io.BytesIO(signed_in.get("/instances/1/thumbnail").data))
    assert max(small.size) <= 180


@pytest.mark.parametrize(
    "query",
    [
        "tone=window",
        "tone=window&center=1&width=0",
        "tone=x",
        "brightness=nan",
        "contrast=1e9",
        "center=x&tone=window",
        "frame=-1",
        "frame=first",
        "frame=" + "9" * 400,
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(signed_in: FlaskClient, query: str) -> None:
    assert signed_in.get(f"/instances/1/image?{query}").status_code == 400


def test_a_frame_that_is_not_there_says_so_in_a_picture(signed_in: FlaskClient) -> None:
    answer = signed_in.get("/instances/1/image?frame=999", headers={"Accept-Language": "fr"})
    assert answer.status_code == 200
    assert answer.content_type.startswith("image/svg")
    assert "coupe" in answer.get_data(as_text=True)


def test_an_image_whose_file_is_gone_does_not_hide_its_study(box: Box, signed_in: FlaskClient) -> None:
    with box.catalog.reading() as conn:
        row = instances.instance(conn, InstanceId(1))
    assert row is not None
    path = box.objects.path(row.object_id)
    away = path.rename(path.with_suffix(".away"))
    try:
        page = signed_in.get(f"/studies/{row.study_id}?instance=1")
        assert page.status_code == 200
        picture = signed_in.get("/instances/1/image?brightness=3", headers={"Accept-Language": "en"})
        assert (picture.status_code, picture.headers["X-Not-Shown"]) == (200, "missing")
        assert "no longer on this box" in picture.get_data(as_text=True)
    finally:
        away.rename(path)


def test_what_is_not_there_is_404_with_a_reference(signed_in: FlaskClient) -> None:
    for path in (
        "/studies/999999",
        "/instances/999999/image",
        "/deliveries/999999",
        "/nothing",
        "/destinations/new/ftp",
        f"/studies/{10**25}",
        f"/instances/{2**63}/thumbnail",
        f"/deliveries/{10**25}",
    ):
        answer = signed_in.get(path)
        assert answer.status_code == 404, path
        assert re.search(r"[0-9A-F]{8}", answer.get_data(as_text=True))


def test_a_machine_at_the_door_is_admitted_with_one_click(box: Box, signed_in: FlaskClient) -> None:
    with box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title("ROMEXIS"), "192.168.1.77", NOW)
    assert "ROMEXIS" in text_of(signed_in, "/devices")
    answer = post(signed_in, "/devices/admit", ae_title="ROMEXIS", address="192.168.1.77")
    assert answer.status_code == 303
    with box.catalog.reading() as conn:
        assert devices.is_known(conn, ae_title("ROMEXIS"), "192.168.1.77")
    assert actions(box, 1) == ["device:add"]
    assert "ROMEXIS may now send" in text_of(signed_in, "/devices")
    assert "may now send" not in text_of(signed_in, "/devices")
    assert post(signed_in, "/devices/admit", ae_title="STRANGER", address="10.0.0.1").status_code == 404


def test_a_device_is_added_and_removed_and_wrong_ones_are_explained(box: Box, signed_in: FlaskClient) -> None:
    for wrong in (
        {"ae_title": "x" * 17, "address": "192.168.1.40"},
        {"ae_title": "PANO1", "address": "pano.local"},
        {"ae_title": "PANO1", "address": "192.168.1.40", "port": "99999"},
    ):
        answer = post(signed_in, "/devices/add", **wrong)
        assert answer.status_code == 422
        assert 'role="alert"' in answer.get_data(as_text=True)
    assert (
        post(
            signed_in, "/devices/add", ae_title="PANO1", address="::ffff:192.168.1.40", name="Room 2"
        ).status_code
        == 303
    )
    with box.catalog.reading() as conn:
        device = next(each for each in devices.devices(conn) if each.ae_title == "PANO1")
    assert device.address == "192.168.1.40", "the door compares with plain addresses"
    assert post(signed_in, f"/devices/{device.id}/echo").status_code == 422
    assert post(signed_in, f"/devices/{device.id}/remove").status_code == 303
    assert actions(box, 1) == ["device:remove"]
    assert post(signed_in, f"/devices/{device.id}/remove").status_code == 404


def test_an_echo_that_fails_says_why(box: Box, signed_in: FlaskClient, free_port) -> None:
    with box.catalog.transaction() as tx:
        device = devices.add_device(tx, Device(ae_title("SILENT"), "127.0.0.1", "", free_port()), NOW)
    assert post(signed_in, f"/devices/{device.id}/echo").status_code == 303
    assert "cannot be reached" in text_of(signed_in, "/devices")


def test_a_destination_is_added_tested_paused_resumed_and_removed(
    box: Box, signed_in: FlaskClient, tmp_path
) -> None:
    answer = post(signed_in, "/destinations/new/folder", name="hand-over", path=str(tmp_path), everything="1")
    assert answer.status_code == 303
    assert actions(box, 3) == ["destination:test", "rule:add", "destination:add"]
    page = text_of(signed_in, "/destinations")
    assert "hand-over works" in page
    assert "everything that arrives" in page
    with box.catalog.reading() as conn:
        found = destinations.destination(conn, "hand-over")
    assert found is not None
    for act, word in (("pause", "Paused"), ("resume", "Pause")):
        assert post(signed_in, f"/destinations/{found.id}/{act}").status_code == 303
        assert word in text_of(signed_in, "/destinations")
    assert post(signed_in, f"/destinations/{found.id}/test").status_code == 303
    assert post(signed_in, f"/destinations/{found.id}/remove").status_code == 303
    assert "hand-over is removed" in text_of(signed_in, "/destinations")


def test_a_bucket_outside_canada_is_refused_and_its_secret_not_shown(
    box: Box, signed_in: FlaskClient
) -> None:
    answer = post(
        signed_in,
        "/destinations/new/s3",
        name="cloud",
        bucket="clinic",
        region="us-east-1",
        access_key_id="AK1",
        secret="very-secret-value",
    )
    html = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert "very-secret-value" not in html
    assert 'value="us-east-1"' in html
    with box.catalog.reading() as conn:
        assert destinations.destination(conn, "cloud") is None


def test_a_destination_with_a_field_missing_is_explained(signed_in: FlaskClient) -> None:
    assert (
        post(signed_in, "/destinations/new/dicom", name="x", ae_title="", address="a", port="104").status_code
        == 422
    )
    assert (
        post(signed_in, "/destinations/new/dicom", name="", ae_title="A", address="a", port="104").status_code
        == 422
    )


def test_a_delivery_shows_its_timeline_and_obeys(box: Box, signed_in: FlaskClient, tmp_path) -> None:
    from appliance.model import DestinationSettings, InstanceId, Owed

    with box.catalog.transaction() as tx:
        place = destinations.add(
            tx, DestinationSettings("elsewhere", "folder", "dicom", {"path": str(tmp_path)})
        )
        deliveries.owe(tx, InstanceId(1), [Owed(place, 0)], NOW)
        row = deliveries.list_deliveries(tx, destination="elsewhere")[0]
    assert "elsewhere" in text_of(signed_in, "/deliveries?destination=elsewhere")
    for act, state in (
        ("pause", State.PAUSED),
        ("resume", State.PENDING),
        ("cancel", State.CANCELLED),
        ("retry", State.PENDING),
    ):
        assert post(signed_in, f"/deliveries/{row.id}/{act}").status_code == 303
        assert actions(box, 1) == [f"delivery:{act}"]
        with box.catalog.reading() as conn:
            assert deliveries.delivery(conn, row.id).state is state
    html = text_of(signed_in, f"/deliveries/{row.id}")
    assert html.count("<time>") == 5
    assert post(signed_in, f"/deliveries/{row.id}/resume").status_code == 303
    assert "That did not work" in text_of(signed_in, "/deliveries")
    assert post(signed_in, f"/deliveries/{row.id}/destroy").status_code == 404
    with box.catalog.transaction() as tx:
        deliveries.confirm(tx, DeliveryId(row.id), {"path": "a/b.dcm", "sha256": "00"}, NOW)
    assert "a/b.dcm" in text_of(signed_in, f"/deliveries/{row.id}")
    html = text_of(signed_in, "/studies")
    assert "Delivered" in html


def test_health_is_answered_without_patient_data(client: FlaskClient) -> None:
    assert json.loads(client.get("/health/live").data) == {"live": True}
    ready = client.get("/health/ready")
    assert ready.status_code in (200, 503)
    assert {"ready", "problems"} == set(json.loads(ready.data))
    assert "Hélène" not in client.get("/metrics").get_data(as_text=True)


def test_a_view_that_fails_tells_nothing_of_the_patient(
    app: Flask, signed_in: FlaskClient, monkeypatch, caplog
) -> None:
    from appliance.web.views import studies as view

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Côté-Lévesque^Hélène")

    monkeypatch.setattr(view, "study_lines", broken)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = signed_in.get("/studies")
    assert answer.status_code == 500
    assert "Hélène" not in answer.get_data(as_text=True)
    assert "Hélène" not in caplog.text
    assert "RuntimeError" in caplog.text
    reference = re.search(r"[0-9A-F]{8}", answer.get_data(as_text=True))
    assert reference is not None
    assert reference[0] in {getattr(each, "reference", "") for each in caplog.records}
