"""Users in the console: invited, changed, kept out; links that are shown once and work once."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, identity, settings
from appliance.box import Box, open_box
from appliance.catalog import people
from appliance.catalog.people import Person
from appliance.config import Config
from appliance.identity import Role
from appliance.identity.permissions import TABLE, Permission
from tests.web.conftest import LOGIN, add_owner, browser_of, csrf_of, sign_in

CHOSEN = "cinq renards sous la lampe"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder: Path = tmp_path_factory.mktemp("box")
    opened = open_box(Config(data=folder))
    add_owner(opened)
    yield opened
    opened.close()


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    return browser_of(app, Role.OWNER, LOGIN)


def post(browser: FlaskClient, path: str, **data: str):
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    return browser.post(path, data={"csrf": token, **data})


def person(box: Box, login: str) -> Person:
    with box.catalog.reading() as conn:
        found = people.person(conn, login)
    assert found is not None
    return found


def rows(box: Box, limit: int = 15) -> list[dict[str, object]]:
    with box.catalog.reading() as conn:
        return [dict(row) for row in audit.recent(conn, limit=limit)]


def invite(browser: FlaskClient, login: str, role: Role = Role.ASSISTANT, **more: str) -> str:
    """Invite somebody; the secret of the link that the next page shows."""
    fields = {"login": login, "name": f"Colleague {login}", "role": role.value, "language": "en", **more}
    answer = post(browser, "/users/invite", **fields)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return shown_link(browser, answer.headers["Location"])


def shown_link(browser: FlaskClient, address: str) -> str:
    page = browser.get(address).get_data(as_text=True)
    found = re.search(r'value="http://localhost/welcome#([\w-]{43})"', page)
    assert found is not None, page
    assert found[1] not in browser.get(address).get_data(as_text=True), "a link is shown once"
    return found[1]


def open_link(browser: FlaskClient, code: str):
    token = csrf_of(browser.get("/welcome").get_data(as_text=True))
    return browser.post("/welcome", data={"csrf": token, "code": code})


def choose(browser: FlaskClient, code: str, password: str = CHOSEN, again: str | None = None):
    token = csrf_of(browser.get("/welcome").get_data(as_text=True))
    return browser.post(
        "/welcome/password",
        data={
            "csrf": token,
            "code": code,
            "password": password,
            "again": password if again is None else again,
        },
    )


# --- invitations -----------------------------------------------------------------------------------------------------


def test_a_colleague_is_invited_chooses_a_password_and_signs_in(
    app: Flask, box: Box, owner: FlaskClient
) -> None:
    code = invite(owner, "luc")
    assert person(box, "luc").state == "invited"
    guest = app.test_client()
    assert "Colleague luc" in open_link(guest, code).get_data(as_text=True)
    assert "luc" in choose(guest, code).get_data(as_text=True)
    assert sign_in(guest, CHOSEN, "luc").status_code == 303
    assert person(box, "luc").state == "active"
    words = [row["action"] for row in rows(box)]
    assert {"user:invite", "user:password", "user:login"} <= set(words)
    assert code not in str(rows(box)), "the audit must not hold what opens the account"
    assert CHOSEN not in str(rows(box))


def test_opening_a_link_uses_nothing_up_and_a_used_one_is_refused(app: Flask, owner: FlaskClient) -> None:
    code = invite(owner, "twice")
    for _ in range(3):
        assert open_link(app.test_client(), code).status_code == 200
    assert choose(app.test_client(), code).status_code == 200
    late = choose(app.test_client(), code, "six renards sous la lampe")
    assert late.status_code == 422
    assert "no longer good" in late.get_data(as_text=True)
    assert open_link(app.test_client(), code).status_code == 422


def test_a_password_that_will_not_do_leaves_the_link_good(app: Flask, owner: FlaskClient) -> None:
    code = invite(owner, "careful")
    for password, again in (("short", None), ("passwordpassword", None), (CHOSEN, "something else")):
        answer = choose(app.test_client(), code, password, again)
        assert answer.status_code == 422
        assert f'value="{password}"' not in answer.get_data(as_text=True)
    assert choose(app.test_client(), code).status_code == 200


def test_the_secret_is_in_no_address_that_the_box_is_asked_for(app: Flask, owner: FlaskClient) -> None:
    code = invite(owner, "quiet")
    for answer in (open_link(app.test_client(), code), choose(app.test_client(), code)):
        html = answer.get_data(as_text=True)
        for address in re.findall(r'(?:href|src|action)="([^"]*)"', html):
            assert code not in address
        assert code not in str(answer.headers)


def test_of_two_who_choose_at_once_one_password_holds(app: Flask, box: Box, owner: FlaskClient) -> None:
    code = invite(owner, "raced")
    ready, done = threading.Barrier(2), []

    def run(password: str) -> None:
        browser = app.test_client()
        token = csrf_of(browser.get("/welcome").get_data(as_text=True))
        ready.wait()
        answer = browser.post(
            "/welcome/password", data={"csrf": token, "code": code, "password": password, "again": password}
        )
        done.append((answer.status_code, password))

    threads = [threading.Thread(target=run, args=(f"{CHOSEN} {number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in done) == [200, 422]
    (winner,) = (password for status, password in done if status == 200)
    assert sign_in(app.test_client(), winner, "raced").status_code == 303


def test_guessing_links_is_slowed_like_guessing_passwords(app: Flask, box: Box, owner: FlaskClient) -> None:
    code = invite(owner, "guessed")
    guesser = app.test_client()

    def ask(tried: str, address: str) -> str:
        token = csrf_of(guesser.get("/welcome").get_data(as_text=True))
        return guesser.post(
            "/welcome", data={"csrf": token, "code": tried}, environ_base={"REMOTE_ADDR": address}
        ).get_data(as_text=True)

    for number in range(5):
        assert "no longer good" in ask(f"{number}" * 43, "192.168.1.66")
    assert "too many tries" in ask(code, "192.168.1.66").lower()
    assert "Colleague guessed" in ask(code, "192.168.1.67"), "others are not kept out by it"
    failed = [row for row in rows(box) if row["action"] == "user:link-fail"]
    assert len(failed) >= 5
    assert failed[0]["actor"] == "visitor"


def test_an_invitation_goes_by_mail_if_the_box_can_write(app: Flask, box: Box, owner: FlaskClient) -> None:
    assert 'name="mail"' not in owner.get("/users/invite").get_data(as_text=True)
    with box.catalog.transaction() as tx:
        values = {"mail.host": "127.0.0.1", "mail.from": "box@clinique.ca"}
        settings.change(tx, box.audit_key, values, actor="tests", now=datetime.now(UTC))
    assert 'name="mail"' in owner.get("/users/invite").get_data(as_text=True)
    code = invite(owner, "anne@clinique.ca", mail="1", language="fr")
    with box.catalog.reading() as conn:
        waiting = conn.exec_driver_sql("SELECT address, subject, content FROM outbox").all()
    ((address, subject, content),) = waiting
    assert address == "anne@clinique.ca"
    assert "invité" in subject
    assert code in str(content)
    invite(owner, "noaddress", mail="1")
    with box.catalog.reading() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM outbox").scalar() == 1
    with box.catalog.transaction() as tx:
        settings.change(
            tx, box.audit_key, {"mail.host": "", "mail.from": ""}, actor="tests", now=datetime.now(UTC)
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [("login", ""), ("login", "a b"), ("name", ""), ("role", "king"), ("role", ""), ("language", "xx")],
)
def test_an_invitation_that_will_not_do_is_said_beside_what_was_typed(
    box: Box, owner: FlaskClient, field: str, value: str
) -> None:
    fields = {"login": "wrong", "name": "Wrong", "role": "assistant", "language": "en", field: value}
    answer = post(owner, "/users/invite", **fields)
    assert answer.status_code == 422
    html = answer.get_data(as_text=True)
    assert 'id="form-error"' in html
    assert field == "name" or 'value="Wrong"' in html
    with box.catalog.reading() as conn:
        assert people.person(conn, "wrong") is None


# --- changing --------------------------------------------------------------------------------------------------------


def test_an_owner_changes_a_name_a_login_and_a_role(app: Flask, box: Box, owner: FlaskClient) -> None:
    browser = browser_of(app, Role.PRACTITIONER, "changed")
    assert browser.get("/devices").status_code == 200
    number = person(box, "changed").id
    fields = {"login": "changed.too", "name": "Changed Too", "role": "referrer", "language": "fr"}
    assert post(owner, f"/users/{number}", **fields).status_code == 303
    assert browser.get("/devices").status_code == 403, "the session that is open has the new role"
    now_called = person(box, "changed.too")
    assert (now_called.name, now_called.role, now_called.language) == ("Changed Too", "referrer", "fr")
    (row,) = [row for row in rows(box, 3) if row["action"] == "user:change"]
    assert row["subject"] == "user:changed"
    assert json.loads(str(row["details"]))["role"] == ["practitioner", "referrer"]


def test_who_is_deactivated_is_out_at_the_next_click(app: Flask, box: Box, owner: FlaskClient) -> None:
    browser = browser_of(app, Role.ASSISTANT, "leaving")
    number = person(box, "leaving").id
    assert browser.get("/studies").status_code == 200
    assert post(owner, f"/users/{number}/deactivate").status_code == 303
    assert browser.get("/studies").headers["Location"] == "/sign-in"
    page = owner.get(f"/users/{number}").get_data(as_text=True)
    assert "/reactivate" in page
    assert "/link" not in page
    assert post(owner, f"/users/{number}/reactivate").status_code == 303
    assert person(box, "leaving").active


def test_the_last_owner_cannot_be_taken_away_in_the_console(box: Box, owner: FlaskClient) -> None:
    number = person(box, LOGIN).id
    post(owner, f"/users/{number}/deactivate")
    assert "last owner" in owner.get(f"/users/{number}?lang=en").get_data(as_text=True)
    fields = {"login": LOGIN, "name": "Marie", "role": "student", "language": "fr"}
    answer = post(owner, f"/users/{number}", **fields)
    assert answer.status_code == 422
    assert "dernier propriétaire" in post(owner, f"/users/{number}?lang=fr", **fields).get_data(as_text=True)
    assert person(box, LOGIN).role == "owner"
    assert person(box, LOGIN).active


def test_a_reset_by_link_ends_the_sessions_of_the_old_password(
    app: Flask, box: Box, owner: FlaskClient
) -> None:
    browser = browser_of(app, Role.ASSISTANT, "forgetful")
    number = person(box, "forgetful").id
    answer = post(owner, f"/users/{number}/link")
    code = shown_link(owner, answer.headers["Location"])
    assert browser.get("/studies").status_code == 200
    assert choose(app.test_client(), code).status_code == 200
    assert browser.get("/studies").status_code == 303
    assert sign_in(app.test_client(), CHOSEN, "forgetful").status_code == 303


def test_a_person_is_signed_out_everywhere(app: Flask, box: Box, owner: FlaskClient) -> None:
    browsers = [browser_of(app, Role.ASSISTANT, "everywhere") for _ in range(3)]
    number = person(box, "everywhere").id
    assert "3 browsers" in owner.get(f"/users/{number}?lang=en").get_data(as_text=True)
    assert post(owner, f"/users/{number}/end-sessions").status_code == 303
    assert {browser.get("/studies").status_code for browser in browsers} == {303}


def test_a_privacy_officer_resets_colleagues_and_never_an_owner(
    app: Flask, box: Box, owner: FlaskClient
) -> None:
    officer = browser_of(app, Role.PRIVACY_OFFICER)
    browser_of(app, Role.ASSISTANT, "helped")
    helped, marie = person(box, "helped").id, person(box, LOGIN).id
    assert shown_link(officer, post(officer, f"/users/{helped}/link").headers["Location"])
    assert post(officer, f"/users/{marie}/link").status_code == 403
    assert f"/users/{marie}/link" not in officer.get(f"/users/{marie}").get_data(as_text=True)
    for path in (f"/users/{helped}", f"/users/{helped}/deactivate", "/users/invite"):
        assert post(officer, path, role="owner").status_code == 403
    assert person(box, "helped").role == "assistant"


def test_a_link_dies_with_its_hour(
    app: Flask, box: Box, owner: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.web.views import welcome

    code = invite(owner, "late")
    monkeypatch.setattr(welcome, "now", lambda: datetime.now(UTC) + identity.links.INVITATION)
    assert choose(app.test_client(), code).status_code == 422
    monkeypatch.setattr(
        welcome, "now", lambda: datetime.now(UTC) + identity.links.INVITATION - timedelta(hours=1)
    )
    assert choose(app.test_client(), code).status_code == 200


def test_who_is_not_there_has_no_page(owner: FlaskClient) -> None:
    assert owner.get("/users/987654").status_code == 404
    assert post(owner, "/users/987654", login="x", name="x", role="owner", language="en").status_code in (
        404,
        422,
    )
    for act in ("deactivate", "reactivate", "end-sessions", "link"):
        assert post(owner, f"/users/987654/{act}").status_code == 404


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.OWNER, Role.STUDENT, Role.VENDOR_SUPPORT])
def test_everybody_can_read_the_table_and_it_is_the_one_that_is_enforced(app: Flask, role: Role) -> None:
    html = browser_of(app, role).get("/roles?lang=en").get_data(as_text=True)
    table = html[html.index("<tbody>") : html.index("</tbody>")]
    shown = [
        [">yes<" in cell for cell in re.findall(r"<td>(.*?)</td>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", table)
    ]
    assert shown == [[each in TABLE[column] for column in Role] for each in Permission]
