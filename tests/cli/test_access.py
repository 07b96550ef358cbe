"""Sessions, second factors and tokens at the command line: the way back in, and nothing that opens in a listing."""

import os
from datetime import UTC, datetime

from appliance import audit, identity
from appliance.box import open_box
from appliance.catalog import people, studies
from appliance.config import load_config
from appliance.identity import tokens
from tests.cli.conftest import Say, account
from tests.identity.test_second_factors import enrol
from tests.web.conftest import fill


def add(say: Say, login: str = "marie", role: str = "owner") -> None:
    account(say, login, role=role)


def test_a_lost_second_factor_is_removed_and_the_sessions_end(say: Say) -> None:
    add(say)
    box, hour = open_box(load_config(os.environ)), datetime.now(UTC)
    with box.catalog.reading() as conn:
        person = people.person(conn, "marie")
    assert person is not None
    enrol(box, person.id, hour)
    with box.catalog.transaction() as tx:
        cookie = identity.open_session(
            tx, person.id, address="192.168.1.7", agent="Mozilla/5.0 (X11; Linux) Firefox/140.0", now=hour
        )
    (row,) = say("user", "sessions", "marie", "--json").rows
    assert (row["browser"], row["system"], row["address"]) == ("Firefox", "Linux", "192.168.1.7")
    assert cookie not in str(row)
    assert "192.168.1.7" in say("user", "sessions", "marie").out
    said = say("user", "remove-second-factor", "marie")
    assert "no second factor any more" in said.out
    with box.catalog.reading() as conn:
        assert identity.find_session(conn, cookie, hour) is None
        assert not identity.policy.has_second_factor(conn, person.id)
    box.close()
    assert say("user", "sessions", "marie").out.strip() == "marie is signed in nowhere."
    assert "had no second factor" in say("user", "remove-second-factor", "marie").out
    assert say("user", "remove-second-factor", "nobody").code == 66


def test_a_token_is_printed_once_listed_without_it_and_taken_back(say: Say) -> None:
    add(say, "tech", "technician")
    made = say("token", "add", "tech", "--name", "night report", "--scope", "health:view", "--days", "7")
    text = made.out.strip()
    assert text.startswith(tokens.PREFIX)
    (row,) = say("token", "list", "--json").rows
    assert (row["name"], row["login"], row["scopes"], row["state"]) == (
        "night report",
        "tech",
        ["health:view"],
        "good",
    )
    assert text not in say("token", "list").out
    assert say("token", "add", "tech", "--name", "x", "--scope", "users:manage").code == 65
    assert say("token", "add", "nobody", "--name", "x", "--scope", "health:view").code == 66
    assert say("token", "remove", row["id"]).code == 0
    assert say("token", "list", "--json").rows[0]["state"] == "removed"
    assert say("token", "remove", row["id"]).code == 66


def test_a_study_is_granted_for_a_reason_that_is_no_argument_and_taken_back(say: Say) -> None:
    add(say, "drroy", "referrer")
    add(say, "marie")
    box = open_box(load_config(os.environ))
    fill(box, scale=0.05)
    with box.catalog.reading() as conn:
        study = studies.find(conn, limit=1)[0]
    box.close()
    uid = study.study_instance_uid
    assert say("grant", "add", "drroy", uid, typed="\n").code == 65, "a grant has a reason"
    assert say("grant", "add", "drroy", "1.2.3.4", typed="second opinion\n").code == 66
    assert say("grant", "add", "marie", uid, typed="second opinion\n").code == 65, "she sees every study"
    made = say("grant", "add", "drroy", uid, "--days", "7", typed="second opinion on 36\n")
    assert made.code == 0
    (row,) = say("grant", "list", "--login", "drroy", "--json").rows
    assert (row["login"], row["study"], row["state"]) == ("drroy", study.id, "holds")
    assert "second opinion" not in say("grant", "list").out
    assert say("grant", "remove", row["id"]).code == 0
    assert say("grant", "list", "--json").rows[0]["state"] == "removed"
    box = open_box(load_config(os.environ))
    with box.catalog.reading() as conn:
        rows = [each for each in audit.recent(conn, limit=20) if each["study"] == uid]
    box.close()
    assert [each["action"] for each in rows][:2] == ["study:revoke", "study:grant"]
    assert "second opinion" not in str([dict(each) for each in rows])
