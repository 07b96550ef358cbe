"""Who restores, with what was typed where, and which source a look was at: nothing of one gets into the other."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.backup import choice as engine
from appliance.backup.choice import Found
from appliance.box import Box
from appliance.errors import OperatorNeeded, Refused
from appliance.model import DestinationSettings
from appliance.replication.destinations import sftp
from appliance.store.recovery import RecoveryKey
from appliance.wizard import places
from appliance.wizard.restoring import Restorer
from tests.backup.conftest import eventually
from tests.boxes import box_in

FIRST, SECOND = "first browser", "second browser"


@pytest.fixture
def blank(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "blank") as box:
        yield box


@pytest.fixture
def restorer(blank: Box) -> Restorer:
    made = Restorer(blank)
    made.admit(FIRST)
    return made


def bucket(secret: str = "") -> DestinationSettings:
    return places.bucket(
        name="clinic",
        region="ca-central-1",
        access_key_id="AK1",
        endpoint_url="",
        canadian=False,
        secret=secret,
    )


def folder(parent: Path, name: str) -> DestinationSettings:
    (parent / name).mkdir()
    return places.disk(str(parent / name))


def test_what_one_browser_typed_is_not_for_the_next(restorer: Restorer) -> None:
    restorer.keep(FIRST, bucket("typed in the first browser"), str(RecoveryKey.generate()))
    restorer.admit(FIRST)
    assert restorer.has_secret, "the same browser has typed the code again"
    restorer.admit(SECOND)
    assert not restorer.has_secret
    assert restorer.source is None
    assert restorer.found is None
    with pytest.raises(
        OperatorNeeded, match="without its secret"
    ):  # empty does not stand for somebody else's
        restorer.keep(SECOND, bucket(), str(RecoveryKey.generate()))
    with pytest.raises(Refused):
        restorer.look()


def test_what_was_typed_before_the_code_was_typed_elsewhere_is_not_kept(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trust(place: DestinationSettings, _fingerprint: str) -> DestinationSettings:
        restorer.admit(SECOND)  # while the server is dialled
        return place

    monkeypatch.setattr(sftp, "trust", trust)
    nas = places.server(address="192.0.2.1", port=22, folder="/copies", user="box", secret="of the first")
    with pytest.raises(Refused, match="in another browser meanwhile"):
        restorer.keep(FIRST, nas, str(RecoveryKey.generate()), "SHA256:AAAA")
    assert not restorer.has_secret
    assert restorer.source is None
    restorer.keep(SECOND, bucket("of the second"), str(RecoveryKey.generate()))
    kept = restorer.source
    with pytest.raises(Refused, match="in another browser meanwhile"):
        restorer.keep(FIRST, bucket(), str(RecoveryKey.generate()))
    assert restorer.source is kept


def test_a_source_that_was_typed_during_a_look_is_looked_at_itself(
    restorer: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RecoveryKey.generate(), RecoveryKey.generate()
    of_first, of_second = Found(manifests=1), Found(manifests=2)
    entered, leave = threading.Event(), threading.Event()

    def look(_archive: object, key: RecoveryKey) -> Found:
        if key == first:
            entered.set()
            assert leave.wait(60)
            return of_first
        return of_second

    monkeypatch.setattr(engine, "look", look)
    restorer.keep(FIRST, folder(tmp_path, "one"), str(first))
    restorer.begin_look()
    assert entered.wait(60)
    restorer.keep(FIRST, folder(tmp_path, "two"), str(second))
    restorer.begin_look()
    leave.set()
    eventually(lambda: restorer.busy == "")
    assert restorer.found is of_second


def test_what_is_found_where_nobody_looks_any_more_is_dropped(
    restorer: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_archive: object, _key: RecoveryKey) -> Found:
        restorer.admit(SECOND)
        return Found(manifests=1)

    monkeypatch.setattr(engine, "look", look)
    restorer.keep(FIRST, folder(tmp_path, "one"), str(RecoveryKey.generate()))
    restorer.look()
    assert restorer.found is None
