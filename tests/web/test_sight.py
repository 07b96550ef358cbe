"""Who may not see a study sees nothing of it, wherever they look: every route is tried, over every row there is."""

import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import IntegerConverter

from appliance import audit, identity
from appliance.box import Box, open_box
from appliance.catalog import deliveries, destinations, devices, grants, instances, people, rules, studies
from appliance.config import Config
from appliance.identity import Role
from appliance.ingest import import_file
from appliance.model import DestinationSettings, InstanceId, Intake, Origin, Rule, ae_title
from appliance.web import create_app
from appliance.web.security import OPEN
from tests import synthetic
from tests.synthetic.dental import colour_photo, panoramic
from tests.synthetic.medical import ct_series, pdf
from tests.synthetic.patients import ANDRE, FRANCOIS, HELENE, MAELLE, PATIENTS, ZOE, Patient
from tests.web.conftest import add_owner, browser_of, csrf_of

TYPED = {
    "ReferringPhysicianName": "Zzreferrer^Quebec",
    "StudyDescription": "ZZDESCRIPTION",
    "SeriesDescription": "ZZSERIES",
    "StationName": "ZZSTATION",
    "BodyPartExamined": "ZZREGION",
    "WindowCenterWidthExplanation": "ZZWINDOW",
}
"""Text that people and machines type, each with a word to look for."""
DEVICE, ADDRESS = "ZZDEVICE", "10.66.77.88"
MARKS = ("Zzreferrer", *list(TYPED.values())[1:], DEVICE, ADDRESS)
ELSEWHERE = ("live.stream", "help.contents", "help.topic", "trying.hide", "setup.keep_trial")
"""The stream has a test of its own; the help is the same for everybody, and speaks of an Hélène. What hides a study hides it
from everybody, so that later tests would look for what is not there."""
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary Capture, and its multi-frame kinds below."""
FLAGGED = "2.25.999001"


def forms_of(*words: str) -> set[bytes]:
    """Each word as a page or JSON would have it."""
    found = set()
    for word in words:
        found |= {word.encode(), word.encode("latin-1"), word.encode("unicode_escape")}
        found |= {form.lower() for form in found}
    return found


def assert_silent(path: str, body: bytes, forbidden: set[bytes]) -> None:
    """None of these is said; a short one may occur in a picture by chance."""
    is_picture = body.startswith(b"\xff\xd8")
    for form in forbidden:
        assert form not in body or (is_picture and len(form) < 6), (path, form)


def words_of(patient: Patient) -> tuple[str, ...]:
    birth = patient.birth_date
    return patient.family_name, patient.given_name, patient.id, birth, f"{birth[:4]}-{birth[4:6]}-{birth[6:]}"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    opened = open_box(Config(data=tmp_path_factory.mktemp("box")))
    add_owner(opened)
    with opened.catalog.transaction() as tx:
        settings = DestinationSettings("elsewhere", "folder", "dicom", {"path": str(Path("/nowhere"))})
        place = destinations.add(tx, settings)
        rules.add_rule(tx, Rule(place, "elsewhere", "dicom"))
        devices.seen_at_door(tx, ae_title("KNOCK"), "10.9.8.7", datetime.now(UTC))
    flagged = panoramic(9, patient=HELENE, scale=0.1)
    flagged.StudyInstanceUID = FLAGGED
    flagged.BurnedInAnnotation = "YES"
    morning = [
        *synthetic.dental_set(1, scale=0.1),
        colour_photo(1, patient=ZOE, scale=0.1),
        pdf(1, patient=ANDRE),
    ]
    for ds in (*morning, *ct_series(1, patient=MAELLE, slices=2, size=64), flagged):
        for keyword, text in TYPED.items():
            setattr(ds, keyword, text)
        out = BytesIO()
        ds.save_as(out, enforce_file_format=True)
        import_file(opened, BytesIO(out.getvalue()), Origin(Intake.DICOM, DEVICE, ADDRESS))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def app(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


def study_of(box: Box, patient: Patient) -> studies.StudyRow:
    with box.catalog.reading() as conn:
        return next(row for row in studies.find(conn, patient.id) if row.study_instance_uid != FLAGGED)


def images_of(box: Box, row: studies.StudyRow) -> list[instances.InstanceRow]:
    with box.catalog.reading() as conn:
        return instances.instances_of_study(conn, row.study_instance_uid)


def grant(box: Box, study: int, login: str, *, last: timedelta = timedelta(days=1)) -> grants.Grant:
    with box.catalog.transaction() as tx:
        person = people.person(tx, login)
        assert person is not None
        moment = datetime.now(UTC)
        return identity.grant_study(
            tx,
            study,
            person.id,
            by="mtremblay",
            reason="second opinion",
            expires_utc=moment + last,
            now=moment,
        )


def every_address(app: Flask, box: Box, method: str) -> Iterator[tuple[str, str]]:
    """Every route that takes `method`, with every number of a row that there is in each of its places."""
    with box.catalog.reading() as conn:
        rows = studies.find(conn, limit=1000)
        numbers: dict[str, list[int]] = {
            "study_id": [row.id for row in rows],
            "instance_id": [
                each.id for row in rows for each in instances.instances_of_study(conn, row.study_instance_uid)
            ],
            "delivery_id": [row.id for row in deliveries.list_deliveries(conn)],
        }
    for rule in app.url_map.iter_rules():
        if method not in (rule.methods or set()) or rule.endpoint in (*OPEN, *ELSEWHERE):
            continue
        places: list[tuple[str, list[str]]] = []
        for name in sorted(rule.arguments - set(rule.defaults or ())):
            is_number = isinstance(rule._converters[name], IntegerConverter)
            places.append((name, [str(each) for each in numbers.get(name, [1, 2])] if is_number else ["s3"]))
        for values in itertools.product(*(found for _, found in places)):
            path = rule.rule
            for (name, _), value in zip(places, values, strict=True):
                path = re.sub(rf"<(\w+:)?{name}>", value, path)
            yield rule.endpoint, path


def everything_said_to(app: Flask, box: Box, browser: FlaskClient) -> Iterator[tuple[str, int, bytes]]:
    """Address, status and body, with the headers, of every question that a browser can ask."""
    for endpoint, path in every_address(app, box, "GET"):
        answer = browser.get(path)
        yield path, answer.status_code, answer.data + str(answer.headers).encode()
        if endpoint == "studies.study":
            part = browser.get(path, headers={"HX-Request": "true"})
            yield f"{path} (part)", part.status_code, part.data
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    for endpoint, path in every_address(app, box, "POST"):
        if endpoint != "door.sign_out":
            answer = browser.post(path, data={"csrf": token, "limit": "500"})
            yield f"POST {path}", answer.status_code, answer.data + str(answer.headers).encode()
    for word in ("Hélène", "cote", HELENE.id, "zoe", ANDRE.family_name, "ZZ", "zzreferrer"):
        answer = browser.post("/studies", data={"csrf": token, "text": word})
        # What was typed stands in the search box.
        yield f"search {word}", answer.status_code, re.sub(rb'<input type="search"[^>]*>', b"", answer.data)
        part = browser.post("/studies", data={"csrf": token, "text": word}, headers={"HX-Request": "true"})
        yield f"search {word} (part)", part.status_code, part.data


def test_the_owner_sees_the_marks_that_the_others_must_not(app: Flask, box: Box) -> None:
    """Or else the tests below would prove nothing."""
    seen = b"".join(
        body for _, _, body in everything_said_to(app, box, browser_of(app, Role.OWNER, "mtremblay"))
    )
    for patient in PATIENTS:
        assert patient.family_name.encode() in seen
        assert patient.id.encode() in seen
    for word in ("Zzreferrer", "ZZDESCRIPTION", "ZZSERIES", "ZZWINDOW", DEVICE):
        assert word.encode() in seen, word


def test_a_referrer_learns_nothing_of_a_study_that_was_not_granted(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.REFERRER, "referrer")
    granted = study_of(box, FRANCOIS)
    grant(box, granted.id, "referrer")
    forbidden = forms_of(*(word for each in PATIENTS if each is not FRANCOIS for word in words_of(each)))
    with box.catalog.reading() as conn:
        others = [row for row in studies.find(conn, limit=1000) if row.id != granted.id]
    uids = {row.study_instance_uid.encode() for row in others}
    asked = seen = 0
    for path, status, body in everything_said_to(app, box, browser):
        asked += 1
        seen += FRANCOIS.family_name.encode() in body
        assert status < 500, path
        assert_silent(path, body, forbidden | uids)
    assert asked > 150
    assert seen >= 4, "what was granted is shown"
    for row in others:
        assert browser.get(f"/studies/{row.id}").status_code == 404
        for image in images_of(box, row):
            for what in ("thumbnail", "image", "image?frame=0&inverted=1"):
                assert browser.get(f"/instances/{image.id}/{what}").status_code == 404
            assert browser.get(f"/studies/{granted.id}?instance={image.id}").status_code == 303
    for image in images_of(box, granted):
        assert browser.get(f"/instances/{image.id}/thumbnail").status_code == 200
    assert [row["id"] for row in browser.get("/api/v1/studies").get_json()["items"]] == [granted.id]


def test_what_is_not_granted_cannot_be_told_from_what_is_not_there(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.REFERRER, "curious")
    other = study_of(box, HELENE)

    def said(path: str) -> tuple[int, str]:
        answer = browser.get(path)
        return answer.status_code, re.sub(
            r"[0-9A-F]{8}|/(studies|instances)/\d+", "", answer.get_data(as_text=True)
        )

    assert said(f"/studies/{other.id}") == said("/studies/987654")
    image = images_of(box, other)[0]
    assert said(f"/instances/{image.id}/image") == said("/instances/987654/image")


def test_a_try_at_a_study_that_was_not_granted_is_in_the_audit(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.REFERRER, "trying")
    other = study_of(box, HELENE)
    for _ in range(3):
        browser.get(f"/studies/{other.id}")
    with box.catalog.reading() as conn:
        rows = [row for row in audit.recent(conn, limit=20) if row["actor"] == "trying"]
    assert [(row["action"], row["subject"]) for row in rows] == [("access:refuse", f"study:{other.id}")]


def test_a_student_never_learns_whose_study_it_is(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.STUDENT, "student")
    with box.catalog.reading() as conn:
        rows = studies.find(conn, limit=1000)
    for row in rows:
        grant(box, row.id, "student")
    uids = {row.study_instance_uid for row in rows} | {
        uid
        for row in rows
        for image in images_of(box, row)
        for uid in (image.sop_instance_uid, image.series_instance_uid)
    }
    accessions = {row.accession_number for row in rows} - {""}
    dates = {row.study_date for row in rows} | {
        f"{row.study_date[:4]}-{row.study_date[4:6]}-{row.study_date[6:]}" for row in rows
    }
    forbidden = forms_of(
        *MARKS, *uids, *accessions, *dates, *(w for each in PATIENTS for w in words_of(each))
    )
    asked = cases = 0
    for path, status, body in everything_said_to(app, box, browser):
        asked += 1
        cases += len(re.findall(rb"Case [0-9A-Z]{4}-[0-9A-Z]{4}", body))
        assert status < 500, path
        assert_silent(path, body, forbidden)
    assert asked > 150
    assert cases > len(rows)


def test_a_student_sees_no_image_that_may_say_a_name(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.STUDENT, "looking")
    with box.catalog.reading() as conn:
        rows = studies.find(conn, limit=1000)
    shown: dict[str, int] = {}
    for row in rows:
        grant(box, row.id, "looking")
        for image in images_of(box, row):
            status = browser.get(f"/instances/{image.id}/thumbnail").status_code
            clear = (
                image.modality in ("PX", "IO", "DX", "CR", "CT")
                and not image.sop_class_uid.startswith(CAPTURES)
                and row.study_instance_uid != FLAGGED
                and image.burned_in_annotation
                != "YES"  # the sample says so of itself, once it has been loaded
            )
            assert status == (200 if clear else 404), (image.modality, image.sop_class_uid)
            shown[image.modality] = shown.get(image.modality, 0) + (status == 200)
    assert shown["XC"] == 0
    assert shown["PX"] > 0
    assert shown["CT"] > 0
    flagged = next(row for row in rows if row.study_instance_uid == FLAGGED)
    page = browser.get(f"/studies/{flagged.id}?lang=en").get_data(as_text=True)
    assert "1 image is not shown" in page
    assert "ne sont" not in page
    assert "image n’est pas affichée" in browser.get(f"/studies/{flagged.id}?lang=fr").get_data(as_text=True)


def test_a_pseudonym_is_the_same_each_time_and_differs_between_studies_of_one_patient(
    app: Flask, box: Box
) -> None:
    names = []
    for login in ("first", "second"):
        browser = browser_of(app, Role.STUDENT, login)
        with box.catalog.reading() as conn:
            for row in studies.find(conn, limit=1000):
                grant(box, row.id, login)
        listed = browser.get("/api/v1/studies").get_json()["items"]
        names.append({row["id"]: row["patient_name"] for row in listed})
        assert all(
            re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", row["patient_name"])
            for row in listed
        )
    assert names[0] == names[1]
    assert len(set(names[0].values())) == len(names[0])


def test_a_student_finds_a_case_by_its_pseudonym_only(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.STUDENT, "seeking")
    with box.catalog.reading() as conn:
        for row in studies.find(conn, limit=1000):
            grant(box, row.id, "seeking")
    token = csrf_of(browser.get("/help").get_data(as_text=True))

    def found(**asked: str) -> int:
        part = browser.post("/studies", data={"csrf": token, **asked}, headers={"HX-Request": "true"})
        return part.get_data(as_text=True).count('class="study-name"')

    everything = found()
    name = browser.get("/api/v1/studies").get_json()["items"][0]["patient_name"]
    assert found(text=name) == found(text=name.replace("-", " ").lower()) == 1
    assert everything > 3
    for words in (*(words_of(each) for each in PATIENTS), tuple(TYPED.values())):
        for word in words:
            assert found(text=word) == 0, word


def test_a_grant_ends_at_its_hour_and_when_it_is_taken_back(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.REFERRER, "shortly")
    row = study_of(box, ANDRE)
    address = f"/studies/{row.id}"
    image = f"/instances/{images_of(box, row)[0].id}/image"
    assert browser.get(address).status_code == 404
    made = grant(box, row.id, "shortly")
    assert browser.get(address).status_code == 200
    assert browser.get(image).status_code == 200
    with box.catalog.transaction() as tx:
        grants.revoke(tx, made.id, by="mtremblay", now=datetime.now(UTC))
    assert browser.get(address).status_code == 404
    assert browser.get(image, headers={"If-None-Match": "*"}).status_code == 404
    moment = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        person = people.person(tx, "shortly")
        assert person is not None
        grants.add(tx, study=row.id, user=person.id, by="x", reason="over", now=moment, expires_utc=moment)
    assert browser.get(address).status_code == 404


def test_a_change_of_role_holds_from_the_next_click(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.PRACTITIONER, "changing")
    row = study_of(box, HELENE)
    image = images_of(box, row)[0]
    assert browser.get(f"/studies/{row.id}").status_code == 200
    for role, status in ((Role.REFERRER, 404), (Role.VENDOR_SUPPORT, 403), (Role.ASSISTANT, 200)):
        with box.catalog.transaction() as tx:
            person = people.person(tx, "changing")
            assert person is not None
            identity.change_account(
                tx, person.id, login="changing", name="C", role=role, language="en", now=datetime.now(UTC)
            )
        assert browser.get(f"/studies/{row.id}").status_code == status
        assert browser.get(f"/instances/{image.id}/image").status_code == status


def test_a_grant_from_another_role_shows_nothing_to_support(app: Flask, box: Box) -> None:
    browser_of(app, Role.REFERRER, "turned")
    row = study_of(box, HELENE)
    grant(box, row.id, "turned")
    with box.catalog.transaction() as tx:
        person = people.person(tx, "turned")
        assert person is not None
        people.change(
            tx,
            person.id,
            login="turned",
            name="T",
            role=Role.VENDOR_SUPPORT,
            language="en",
            now=datetime.now(UTC),
        )
    browser = browser_of(app, Role.VENDOR_SUPPORT, "turned")
    forbidden = forms_of(*(word for each in PATIENTS for word in words_of(each)), row.study_instance_uid)
    for path, _, body in everything_said_to(app, box, browser):
        assert_silent(path, body, forbidden)


def test_the_stream_tells_only_of_what_was_granted(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.REFERRER, "following")

    def pulse() -> dict[str, int]:
        return dict(browser.get("/events/pulse").get_json())

    before = pulse()
    stream = browser.get("/events").iter_encoded()
    assert next(stream).startswith(b"retry:")
    with box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title("KNOCKS"), "10.9.8.8", datetime.now(UTC))
        studies.touch(tx, [study_of(box, HELENE).id])
    assert pulse() == before
    grant(box, study_of(box, ZOE).id, "following")
    after = pulse()
    assert after["studies"] != before["studies"]
    assert json.loads(next(stream).removeprefix(b"data: ")) == after
    stream.close()  # type: ignore[attr-defined]


def test_an_image_that_a_student_may_not_see_is_not_described_either(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.STUDENT, "asking")
    row = study_of(box, ZOE)
    grant(box, row.id, "asking")
    photo = next(each for each in images_of(box, row) if each.modality == "XC")
    assert browser.get(f"/studies/{row.id}?instance={photo.id}").status_code == 303
    assert browser.get(f"/instances/{InstanceId(photo.id)}/image").status_code == 404


# --- granting --------------------------------------------------------------------------------------------------------


def post(browser: FlaskClient, path: str, **data: str):
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    return browser.post(path, data={"csrf": token, **data})


def test_a_practitioner_grants_and_takes_back_on_the_page_of_the_study(app: Flask, box: Box) -> None:
    browser_of(app, Role.REFERRER, "colleague")
    browser = browser_of(app, Role.PRACTITIONER, "granting")
    row = study_of(box, HELENE)
    with box.catalog.reading() as conn:
        person = people.person(conn, "colleague")
    assert person is not None
    assert "A referrer · Referrer" in browser.get(f"/studies/{row.id}").get_data(as_text=True)
    done = post(
        browser, f"/studies/{row.id}/grants", person=str(person.id), term="week", reason="avis pour la 36"
    )
    assert done.headers["Location"] == f"/studies/{row.id}"
    page = browser.get(f"/studies/{row.id}").get_data(as_text=True)
    assert "avis pour la 36" in page
    with box.catalog.reading() as conn:
        (made,) = grants.of_user(conn, person.id)
    assert f"/grants/{made.id}/revoke" in page
    assert post(browser, f"/grants/{made.id}/revoke").status_code == 303
    with box.catalog.reading() as conn:
        (kept,) = grants.of_user(conn, person.id)
        rows = [each for each in audit.recent(conn, limit=30) if each["actor"] == "granting"]
    assert not kept.holds(datetime.now(UTC))
    assert {"study:revoke", "study:grant"} <= {each["action"] for each in rows}
    assert "avis" not in str([each["details"] for each in rows]), (
        "a reason may hold a name: not for the audit"
    )


@pytest.mark.parametrize(
    ("role", "term", "reason"),
    [(Role.ASSISTANT, "week", "a reason"), (Role.VENDOR_SUPPORT, "week", "a reason"), (Role.REFERRER, "ever", "a reason"),
     (Role.REFERRER, "week", ""), (Role.REFERRER, "week", "x" * 300)],
)  # fmt: skip
def test_a_grant_that_will_not_do_is_not_made(
    app: Flask, box: Box, role: Role, term: str, reason: str
) -> None:
    login = f"target-{role}-{term}-{len(reason)}".replace("_", "-")
    browser_of(app, role, login)
    browser = browser_of(app, Role.PRACTITIONER, "granting")
    with box.catalog.reading() as conn:
        person = people.person(conn, login)
    assert person is not None
    post(
        browser,
        f"/studies/{study_of(box, HELENE).id}/grants",
        person=str(person.id),
        term=term,
        reason=reason,
    )
    with box.catalog.reading() as conn:
        assert grants.of_user(conn, person.id) == []


def test_a_grant_of_what_is_not_there_is_not_made(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.PRACTITIONER, "granting")
    assert (
        post(browser, "/studies/987654/grants", person="1", term="week", reason="a reason").status_code == 404
    )
    assert post(browser, "/grants/987654/revoke").status_code == 404
