"""Nothing that touches patient data or settings goes without a row: every route, every verb and every job is walked.

A new one fails here until it is in `tests.audit.routes` or `tests.audit.verbs`, called or with the reason why not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from appliance import duties, identity
from appliance.box import open_box
from appliance.catalog import people
from appliance.cli.arguments import Parser
from appliance.cli.command import parser
from appliance.config import Config
from appliance.store.objects import new_object_id
from appliance.web import create_app
from tests.audit.routes import ROUTES
from tests.audit.verbs import JOBS, VERBS
from tests.audit.walk import World, judge
from tests.web.conftest import LOGIN, add_owner, csrf_of


@contextmanager
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    box = open_box(Config(data=tmp_path_factory.mktemp("walked")))
    add_owner(box)
    app = create_app(box)
    yield World(box, app, tmp_path_factory.mktemp("around"))
    app.extensions["console"].watcher.close()
    app.extensions["console"].darkroom.close()
    box.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with _world(tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Another one for the command line: the pages of setting up leave a bucket behind that nobody serves."""
    with _world(tmp_path_factory) as made:
        yield made


def _routes(world: World) -> set[str]:
    return {
        f"{method} {rule.rule}"
        for rule in world.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def _verbs(found: Parser, *names: str) -> Iterator[str]:
    """Every verb that does something, by its words."""
    if found.get_default("act") is not None:
        yield " ".join(names)
    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _verbs(below, *names, name)


def test_every_route_is_walked(world: World) -> None:
    assert sorted(_routes(world) - set(ROUTES)) == []
    assert sorted(set(ROUTES) - _routes(world)) == []


def test_every_verb_is_walked() -> None:
    assert sorted(set(_verbs(parser())) - set(VERBS)) == []
    assert sorted(set(VERBS) - set(_verbs(parser()))) == []


def test_every_job_is_walked(world: World) -> None:
    assert {job.name for job in duties.duties(world.box)} == set(JOBS)


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_a_route_leaves_its_row(world: World, route: str) -> None:
    assert judge(world, ROUTES[route]) == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_leaves_its_row(shell: World, verb: str) -> None:
    assert judge(shell, VERBS[verb]) == []


def test_a_job_leaves_its_row(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shell.box.objects.path(new_object_id())
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"nobody's")
    now = datetime.now(UTC)
    with shell.box.catalog.transaction() as tx:
        person = people.person(tx, LOGIN)
        assert person is not None
        identity.open_session(tx, person.id, address="", agent="", now=now - timedelta(days=30))
    for job in duties.duties(shell.box):
        words = JOBS[job.name]
        before = shell.last()
        job.act(shell.box, now)
        if job.name == "orphans":  # removed only if it is still there an hour later
            later = time.monotonic() + 4000
            with monkeypatch.context() as patched:
                patched.setattr(time, "monotonic", partial(float, later))
                job.act(shell.box, now)
        rows = {row["action"] for row in shell.rows(before)}
        if not isinstance(words, str):
            assert set(words) <= rows, job.name


def test_a_request_without_the_permission_leaves_a_row(world: World) -> None:
    login = world.person()
    client = world.app.test_client()
    from tests.web.conftest import PASSWORD, sign_in

    assert sign_in(client, PASSWORD, login).status_code == 303
    before = world.last()
    assert client.get("/destinations").status_code == 403
    assert client.get("/destinations").status_code == 403  # folded: once a minute for each page
    rows = world.rows(before)
    assert [(row["action"], row["actor"], row["subject"], row["outcome"]) for row in rows] == [
        ("access:refuse", login, "destinations.listing", "refused")
    ]
    assert rows[0]["address"] == "127.0.0.1"


def test_a_request_that_another_site_makes_leaves_a_row(world: World) -> None:
    token = csrf_of(world.owner.get("/help").get_data(as_text=True))
    before = world.last()
    for _ in range(3):
        answer = world.owner.post(
            "/sign-out", data={"csrf": token}, headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 403
    assert [row["action"] for row in world.rows(before)] == ["access:forge"]


def test_no_patient_is_named_anywhere_in_the_audit(world: World) -> None:
    """After everything above: names and numbers of patients are in no field of any row."""
    patients = world.patients
    assert len(patients) > 4
    for row in world.rows():
        for value in row.values():
            assert not [each for each in patients if each in str(value)], row["action"]
