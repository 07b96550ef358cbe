"""Restoring in the browser, page by page, without one: who may, what is told apart, and that a blank box only is replaced."""

import re
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, identity, local_time
from appliance.backup import snapshot
from appliance.box import Box
from appliance.catalog import erasure, studies
from appliance.errors import Transient
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare, sftp
from appliance.store import succession
from appliance.store.recovery import RecoveryKey
from appliance.web.application import create_app
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic_in, contents, eventually
from tests.backup.test_newer_software import lay_later
from tests.backup.test_past import SEALED, a_moment, write_over
from tests.backup.test_restoring import bring_home
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.replication import cloud as clouds
from tests.replication.file_servers import proftpd
from tests.replication.shares import PASSWORD as SHARE_PASSWORD
from tests.replication.shares import SHARE, samba
from tests.web.conftest import PASSWORD, csrf_of, kept_clinic

pytestmark = pytest.mark.slow
PAGE = "/setup/restore"
BY_THE_RUNBOOK = ("See what is there", "Somebody has written over or removed the copies")
"""What the runbook for an attack says to press and to open on the page that looks."""


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A box with an owner, three images and a backup on its USB disk: before the fire."""
    with kept_clinic(tmp_path_factory.mktemp("lost"), images=3) as clinic:
        clinic.back_up()
        yield clinic


@pytest.fixture
def blank(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "blank") as box:
        yield box


@pytest.fixture
def app(blank: Box) -> Iterator[Flask]:
    app = create_app(blank)
    yield app
    app.extensions["console"].darkroom.close()


@pytest.fixture
def visitor(app: Flask) -> FlaskClient:
    return app.test_client()


def send(client: FlaskClient, act: str, **data: str):
    token = csrf_of(client.get("/claim").get_data(as_text=True))
    return client.post(f"{PAGE}/{act}", data={"csrf": token, **data}, headers={"Accept-Language": "en"})


def page_of(client: FlaskClient, language: str = "en") -> str:
    return client.get(PAGE, headers={"Accept-Language": language}).get_data(as_text=True)


def stage(client: FlaskClient) -> str:
    found = re.search(r'data-stage="(\w+)"', page_of(client))
    assert found is not None
    return found[1]


def at_the_box(client: FlaskClient, box: Box) -> None:
    code = identity.claim_code(box)
    assert code is not None
    assert send(client, "code", code=code).status_code == 303


def path_of(lost: Clinic) -> str:
    return str(lost.place.options["path"])


def look(client: FlaskClient, lost: Clinic, *, key: str = "") -> None:
    answer = send(client, "look", kind="disk", path=path_of(lost), key=key or str(lost.paper))
    assert answer.status_code == 303
    eventually(lambda: stage(client) != "looking")


def exported(box: Box) -> list[dict[str, Any]]:
    with box.catalog.reading() as conn:
        return list(audit.export(conn))


def actions(box: Box) -> list[str]:
    return [row["action"] for row in exported(box)]


def test_nobody_restores_without_the_claim_code_and_wrong_ones_use_up_the_tries_of_the_claim(
    visitor: FlaskClient, app: Flask, blank: Box, lost: Clinic
) -> None:
    assert stage(visitor) == "code"
    for act in ("look", "start", "elsewhere"):
        assert send(visitor, act, kind="disk", path=path_of(lost), key=str(lost.paper)).status_code == 303
    assert stage(visitor) == "code"
    code = identity.claim_code(blank)
    wrong = send(visitor, "code", code="0000-0000")
    assert (wrong.status_code, "4" in wrong.get_data(as_text=True)) == (422, True)
    assert send(visitor, "code", code=code or "").status_code == 303
    assert stage(visitor) == "source"
    assert stage(app.test_client()) == "code", "another browser types it too"
    for _ in range(4):
        send(visitor, "code", code="0000-0000")
    assert send(visitor, "code", code=code or "").status_code == 422, "five wrong tries end the code"
    assert identity.claim_code(blank) != code
    assert [each for each in actions(blank) if each != "restore:admit"] == ["user:claim-fail"] * 5


def test_the_code_that_lets_one_restore_still_claims(visitor: FlaskClient, blank: Box) -> None:
    code = identity.claim_code(blank) or ""
    at_the_box(visitor, blank)
    token = csrf_of(visitor.get("/claim").get_data(as_text=True))
    claim = {"code": code, "name": "Marie", "login": "marie", "password": PASSWORD, "again": PASSWORD}
    assert visitor.post("/claim", data={"csrf": token, **claim}).headers["Location"] == "/setup"
    assert stage(visitor) == "closed"


def test_a_mistyped_key_is_told_from_another_box_s_and_from_an_empty_disk(
    visitor: FlaskClient, blank: Box, lost: Clinic, tmp_path: Path
) -> None:
    at_the_box(visitor, blank)
    printed = str(lost.paper)
    mistyped = printed[:7] + ("2" if printed[7] != "2" else "3") + printed[8:]
    answer = send(visitor, "look", kind="disk", path=path_of(lost), key=mistyped)
    assert answer.status_code == 422
    assert "Group 2 of the recovery key is mistyped" in answer.get_data(as_text=True)
    look(visitor, lost, key=str(RecoveryKey.generate()))
    assert stage(visitor) == "source"
    assert "but none that opens this archive" in page_of(visitor)
    for language, said in (
        ("fr", "aucune qui ouvre cette archive"),
        ("es", "ninguna que abra este archivo"),
        ("zh", "打不开此归档"),
    ):
        assert said in page_of(visitor, language)
    (tmp_path / "empty").mkdir()
    send(visitor, "look", kind="disk", path=str(tmp_path / "empty"), key=printed)
    eventually(lambda: stage(visitor) != "looking")
    assert "holds nothing of a box" in page_of(visitor)
    abroad = send(visitor, "look", kind="bucket", bucket="b", region="us-east-1", key=printed)
    assert abroad.status_code == 422
    assert "us-east-1 is not in Canada" in abroad.get_data(as_text=True)
    assert not (blank.config.data / "arriving").exists()


def test_a_file_server_is_told_nothing_before_its_key_was_compared(
    visitor: FlaskClient, blank: Box, lost: Clinic, tmp_path: Path
) -> None:
    with proftpd(tmp_path) as server:
        copies = server.folder / "copies"
        shutil.copytree(path_of(lost), copies)
        at_the_box(visitor, blank)
        typed = {
            "kind": "server",
            "address": "127.0.0.1",
            "port": str(server.port),
            "folder": str(copies),
            "user": server.user,
            "password": server.secret,
            "key": str(lost.paper),
        }
        assert send(visitor, "look", **typed).status_code == 303
        eventually(lambda: stage(visitor) != "looking")
        assert stage(visitor) == "source"
        shown = re.search(r"shows the key (\S+ SHA256:[\w+/]+)", page_of(visitor))
        assert shown is not None
        wrong = send(visitor, "look", **typed, fingerprint="SHA256:AAAA")
        assert (wrong.status_code, "not the one that was typed" in wrong.get_data(as_text=True)) == (
            422,
            True,
        )
        typed["password"] = ""  # the one that was typed before, at the same server
        assert send(visitor, "look", **typed, fingerprint=shown[1]).status_code == 303
        eventually(lambda: stage(visitor) != "looking")
        assert stage(visitor) == "found"
        assert server.secret not in page_of(visitor)
    with blank.catalog.reading() as conn:
        assert not any(server.secret in str(dict(row)) for row in audit.export(conn))


def test_what_was_typed_stays_when_it_cannot_be_right_and_no_secret_of_it(
    visitor: FlaskClient, blank: Box, lost: Clinic
) -> None:
    at_the_box(visitor, blank)
    typed = {
        "kind": "server",
        "address": "nas.clinic.example",
        "folder": "/copies",
        "fingerprint": "SHA256:AAAA",
    }
    answer = send(visitor, "look", **typed, user="", password="do-not-keep-me", key=str(lost.paper))
    assert answer.status_code == 422
    for page in (answer.get_data(as_text=True), page_of(visitor)):
        assert re.search(r'value="server"\s+checked', page)
        for text in ("nas.clinic.example", "/copies", "SHA256:AAAA"):
            assert f'value="{text}"' in page
        assert "do-not-keep-me" not in page
        assert str(lost.paper) not in page
    assert "restore:look" not in actions(blank), "nothing was looked at"


def test_what_one_browser_typed_is_dropped_when_the_code_is_typed_in_another_meanwhile(
    visitor: FlaskClient, app: Flask, blank: Box, lost: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_box(visitor, blank)
    other = app.test_client()

    def trust(place: DestinationSettings, _fingerprint: str) -> DestinationSettings:
        at_the_box(other, blank)  # while the server is dialled
        return place

    monkeypatch.setattr(sftp, "trust", trust)
    typed = {"kind": "server", "address": "127.0.0.1", "folder": "/copies", "user": "box"}
    answer = send(
        visitor, "look", **typed, fingerprint="SHA256:AAAA", password="of-the-first", key=str(lost.paper)
    )
    assert answer.status_code == 422
    page = answer.get_data(as_text=True)
    assert "typed in another browser meanwhile" in page
    assert 'data-stage="code"' in page
    assert stage(other) == "source"
    assert "A secret was typed" not in page_of(other)
    restorer = app.extensions["console"].restorer
    assert (restorer.source, restorer.has_secret) == (None, False)


def test_a_share_is_looked_at_with_its_password(
    visitor: FlaskClient, blank: Box, lost: Clinic, tmp_path: Path
) -> None:
    with samba(tmp_path / "nas") as server:
        shutil.copytree(path_of(lost), server.data / "copies")
        at_the_box(visitor, blank)
        typed = {
            "kind": "share",
            "share_address": "127.0.0.1",
            "share_port": str(server.port),
            "share": SHARE,
            "share_folder": "copies",
            "share_user": server.user,
            "key": str(lost.paper),
        }
        assert send(visitor, "look", **typed, share_password="another").status_code == 303
        eventually(lambda: stage(visitor) != "looking")
        assert stage(visitor) == "source"
        assert "does not let" in page_of(visitor)
        assert "ne laisse pas entrer" in page_of(visitor, "fr")
        assert send(visitor, "look", **typed, share_password=SHARE_PASSWORD).status_code == 303
        eventually(lambda: stage(visitor) != "looking")
        assert stage(visitor) == "found"
        assert SHARE_PASSWORD not in page_of(visitor)
    with blank.catalog.reading() as conn:
        assert not any(SHARE_PASSWORD in str(dict(row)) for row in audit.export(conn))


@pytest.mark.parametrize("what", ["tables", "format"])
def test_backups_of_newer_software_are_refused_with_the_version_to_install(
    visitor: FlaskClient, blank: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (tmp_path / "usb").mkdir()
    place = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
    with clinic_in(tmp_path / "newer", place) as clinic, monkeypatch.context() as patched:
        now = datetime.now(UTC)
        clinic.back_up(now - timedelta(minutes=1))  # names are in order of seconds
        patched.setattr("appliance.backup.making.__version__", "7.1.0")
        if what == "tables":
            patched.setattr("appliance.backup.making.REVISION", "r9999")
        made = clinic.back_up(now)
        if what == "format":
            lay_later(clinic, made.name, reads=False)
        at_the_box(visitor, blank)
        look(visitor, clinic)
    page = page_of(visitor)
    assert "needs version 7.1.0" in page
    assert "nstall version 7.1.0 or a newer one" in page
    assert "older" in page, "the one that this version could read is shown too"
    assert f"{PAGE}/start" not in page
    send(visitor, "start")
    assert stage(visitor) == "found"


def test_the_backup_that_is_taken_is_named_so_whatever_clock_has_named_the_others(
    visitor: FlaskClient, blank: Box, tmp_path: Path
) -> None:
    (tmp_path / "usb").mkdir()
    place = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
    with clinic_in(tmp_path / "ahead", place) as clinic:
        now = datetime.now(UTC)
        ahead = clinic.back_up(now + timedelta(days=3650))
        clinic.receive(*IMAGES[:2])
        clinic.deliver()
        made = clinic.back_up(now)
        assert ahead.name > made.name, "the name of the older one sorts after that of the newer one"
        at_the_box(visitor, blank)
        look(visitor, clinic)
        lines = re.findall(r"<tr><td>(.*?)</tr>", page_of(visitor), re.DOTALL)
        assert (
            ["the newest" in each for each in lines] == ["checked" in each for each in lines] == [True, False]
        )
        assert "2 images" in lines[0]
        send(visitor, "start")
        eventually(lambda: stage(visitor) == "leaving")


def test_the_bar_is_as_far_as_the_index_has_come_and_waits_with_a_held_line(
    visitor: FlaskClient, blank: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.wizard.restoring._TOLD_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(snapshot, "PIECE_BYTES", 32 << 10)
    index_may_come, manifests_may_come = threading.Event(), threading.Event()
    manifests: list[str] = []

    def hold(asked: clouds.Request) -> None:
        """The fourth piece and those after it, and later the last manifest."""
        name = asked.path.rpartition("/")[2]
        if asked.method == "GET" and name.isdecimal() and int(name) >= 3:
            index_may_come.wait(60)
        if asked.method == "GET" and asked.path.endswith(manifests[-1]):
            manifests_may_come.wait(60)

    with clouds.cloud() as cloud, clouds.line(cloud.port) as line:
        place = clouds.settings(line.url, cloud.new_bucket(versioned=True))
        with clinic_in(tmp_path / "before", place) as clinic:
            clinic.receive(*IMAGES[:6])
            clinic.deliver()
            made = clinic.back_up()
            manifests += sorted(cloud.keys(str(place.options["bucket"]), "manifests/"))
            assert len(manifests) == 2
            at_the_box(visitor, blank)
            send(visitor, "look", **of_bucket(place), key=str(clinic.paper))
            eventually(lambda: stage(visitor) == "found")
        assert bar(visitor) is None, "nothing runs yet"
        line.fault = hold
        try:
            send(visitor, "start")
            come = 3 * (32 << 10)
            assert 0 < 90 * come // made.size_bytes < 90
            eventually(lambda: bar(visitor) == 90 * come // made.size_bytes)
            page = page_of(visitor)
            assert 'data-stage="running"' in page
            assert "<strong>The index: " in page
            index_may_come.set()
            eventually(lambda: bar(visitor) == 95)
            assert stage(visitor) == "running"
        finally:
            index_may_come.set()
            manifests_may_come.set()
        eventually(lambda: stage(visitor) == "leaving")
    assert bar(visitor) is None


def bar(client: FlaskClient) -> int | None:
    """How far the bar on the page is; None without one, -1 for one that does not say."""
    found = re.search(r"<progress max=\"100\"( value=\"(\d+)\")?", page_of(client))
    return None if found is None else int(found[2] or -1)


def of_bucket(place: DestinationSettings) -> dict[str, str]:
    """What is typed for a bucket."""
    options = {name: str(value) for name, value in place.options.items() if name != "canadian"}
    return {"kind": "bucket", **options, "canadian": "1", "secret": place.secret}


def test_nobody_restores_what_may_be_an_emptied_box_without_having_chosen_it(
    visitor: FlaskClient, app: Flask, blank: Box, tmp_path: Path
) -> None:
    (tmp_path / "usb").mkdir()
    place = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
    with clinic_in(tmp_path / "before", place) as clinic:
        many = [Instance(each, study=each, pixel_bytes=300) for each in range(22)]
        now = datetime.now(UTC)
        clinic.receive(*many)
        clinic.deliver()
        good = clinic.back_up(now - timedelta(hours=1)).name
        with clinic.box.catalog.transaction() as tx:
            for each in studies.find(tx, limit=20):
                erasure.erase(tx, each.id, now)
        emptied = clinic.back_up(now).name
        at_the_box(visitor, blank)
        look(visitor, clinic)
        page = page_of(visitor)
        assert "holds 2 studies" in page
        assert "holds 22 studies" in page
        assert "checked" not in page
        assert "contient 22 examens" in page_of(visitor, "fr")
        assert send(visitor, "start").status_code == 422
        assert send(visitor, "start", backup="20260101T000000Z-00000000").status_code == 303
        assert stage(visitor) == "found", "neither without a choice, nor by a name that is not there"
        assert f'value="{emptied}"' in page
        send(visitor, "start", backup=good)
        eventually(lambda: stage(visitor) == "leaving")
    (started,) = [row for row in exported(blank) if row["action"] == "restore:start"]
    assert good in str(started)
    app.extensions["console"].watcher.close()
    blank.close()
    with box_in(tmp_path / "blank") as box:
        assert len(recorded(box)) == 22


def test_a_bucket_in_which_a_thief_has_written_is_restored_as_it_was(
    visitor: FlaskClient, app: Flask, blank: Box, tmp_path: Path
) -> None:
    with clouds.cloud() as cloud:
        place = clouds.settings(cloud.url, cloud.new_bucket(versioned=True))
        with clinic_in(tmp_path / "before", place) as clinic:
            clinic.receive(*IMAGES[:3])
            clinic.deliver()
            clinic.back_up()
            moment = local_time.here(a_moment())
            write_over(cloud, place, *SEALED)
            typed = {**of_bucket(place), "key": str(clinic.paper)}
            at_the_box(visitor, blank)
            send(visitor, "look", **typed)
            eventually(lambda: stage(visitor) != "looking")
            for said in ("restore it as it was before", *BY_THE_RUNBOOK):
                assert said in page_of(visitor)
            assert "restaurez-le tel qu’il était" in page_of(visitor, "fr")
            for nonsense in ("before lunch", "9999-12-31", "0001-01-01T00:00+14:00"):
                assert send(visitor, "look", **typed, as_of=nonsense).status_code == 422, nonsense
            send(visitor, "look", **typed, as_of=f"{moment:%Y-%m-%dT%H:%M:%S}")
            eventually(lambda: stage(visitor) != "looking")
            page = page_of(visitor)
            assert stage(visitor) == "found"
            assert "The bucket as it was on" in page
            assert "3 images" in page
            send(visitor, "start")
            eventually(lambda: stage(visitor) == "leaving")
        app.extensions["console"].watcher.close()
        blank.close()
        with box_in(tmp_path / "blank") as box:
            bring_home(box)
            assert contents(box) == as_sent(*IMAGES[:3])


def test_a_blank_box_becomes_the_lost_one(
    visitor: FlaskClient, app: Flask, blank: Box, lost: Clinic, tmp_path: Path
) -> None:
    at_the_box(visitor, blank)
    look(visitor, lost)
    page = page_of(visitor)
    assert "3 images" in page
    assert "the newest" in page
    assert send(visitor, "start").status_code == 303
    eventually(lambda: stage(visitor) == "leaving")
    assert "Your box is back" in page_of(visitor)
    assert {"restore:admit", "restore:look", "restore:start"} <= set(actions(blank))
    with pytest.raises(Transient, match="taking the place"), box_in(tmp_path / "blank"):
        pass
    app.extensions["console"].watcher.close()
    blank.close()  # the process comes to its end, and another begins
    with box_in(tmp_path / "blank") as box:
        assert len(recorded(box)) == 3
        assert box.root == lost.box.root
        with box.catalog.reading() as conn:
            row = next(row for row in audit.export(conn) if row["action"] == "backup:restore")
        assert row["actor"] == "visitor"
        again = create_app(box).test_client()
        assert again.get(PAGE).headers["Location"] == "/sign-in"


def test_a_failure_is_told_and_tried_again_from_where_it_was(
    visitor: FlaskClient, blank: Box, lost: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_box(visitor, blank)
    look(visitor, lost)
    usb = Path(path_of(lost))
    usb.rename(usb.with_name("pulled out"))
    send(visitor, "start")
    eventually(lambda: "Try again" in page_of(visitor))
    assert stage(visitor) == "found"
    assert "What has been fetched is kept" in page_of(visitor)
    usb.with_name("pulled out").rename(usb)
    send(visitor, "start")
    eventually(lambda: stage(visitor) == "leaving")
    assert succession.is_announced(blank.config.data)


def test_after_a_power_cut_the_source_is_there_and_its_secrets_are_not(
    visitor: FlaskClient, blank: Box, lost: Clinic
) -> None:
    at_the_box(visitor, blank)
    usb = Path(path_of(lost))
    look(visitor, lost)
    usb.rename(usb.with_name("pulled out"))
    send(visitor, "start")
    eventually(lambda: "Try again" in page_of(visitor))
    usb.with_name("pulled out").rename(usb)
    restarted = create_app(blank)
    again = restarted.test_client()
    at_the_box(again, blank)
    page = page_of(again)
    assert stage(again) == "source"
    assert "A restore was interrupted" in page
    assert str(usb) in page
    assert str(lost.paper) not in page
    assert send(again, "start").status_code == 303
    assert stage(again) == "source", "nothing starts without the key"
    restarted.extensions["console"].darkroom.close()


def test_no_secret_of_a_restore_is_written_down(visitor: FlaskClient, blank: Box, lost: Clinic) -> None:
    at_the_box(visitor, blank)
    look(visitor, lost)
    send(visitor, "look", kind="bucket", bucket="b", region="ca-central-1", access_key_id="AK",
         secret="do-not-keep-me", endpoint_url="http://127.0.0.1:9", canadian="1", key=str(lost.paper))  # fmt: skip
    eventually(lambda: stage(visitor) != "looking")
    assert blank.config.data.is_dir()
    with blank.catalog.reading() as conn:
        kept = str(list(conn.exec_driver_sql("SELECT value FROM settings"))) + str(list(audit.export(conn)))
    for secret in ("do-not-keep-me", str(lost.paper), str(lost.paper).split("-")[3]):
        assert secret not in kept
        assert secret not in page_of(visitor)
