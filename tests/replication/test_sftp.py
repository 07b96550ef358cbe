"""SFTP against OpenSSH, and against a server without its extensions."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from appliance.errors import (
    ApplianceError,
    OperatorNeeded,
    OutOfResources,
    Refused,
    Transient,
    Unreadable,
)
from appliance.model import DestinationSettings
from appliance.replication.destinations import Parcel, build, prepare, sftp
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.sftp import Room, SftpLine, SftpServer
from appliance.replication.destinations.share import ShareDestination, aside
from tests.replication.contract import DestinationContract, NamesContract, Place
from tests.replication.file_servers import (
    FileServer,
    openssh,
    private_key,
    proftpd,
    unreachable,
    with_wrong_secret,
)
from tests.replication.share_contract import ShareContract
from tests.system.test_small_disk import namespace_for


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with openssh(tmp_path_factory.mktemp("openssh")) as server:
        yield server


@pytest.fixture(scope="module", params=[openssh, proftpd], ids=lambda each: each.__name__)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with request.param(tmp_path_factory.mktemp("server")) as running:
        yield running


def built(settings: DestinationSettings) -> ShareDestination:
    found = build(settings, None)  # type: ignore[arg-type]
    assert isinstance(found, ShareDestination)
    return found


def folder_of(place: Place) -> Path:
    assert isinstance(place.destination, ShareDestination)
    assert isinstance(place.destination.server, SftpServer)
    return Path(place.destination.server.folder)


class TestSftp(DestinationContract, NamesContract):
    @pytest.fixture
    def place(self, server: FileServer) -> Place:
        settings = server.trusted()
        folder = Path(str(settings.options["folder"]))
        return Place(
            destination=built(settings),
            unreachable=built(unreachable()),
            closed_to_us=built(with_wrong_secret(settings)),
            refusing=None,
            held=lambda parcel: (folder / object_key(parcel.object_id)).read_bytes(),
            count=lambda: len([each for each in folder.glob("objects/**/*") if each.is_file()]),
        )

    def test_a_copy_that_was_altered_there_is_written_again(
        self, place: Place, parcels: list[Parcel]
    ) -> None:
        with place.destination.open(parcels) as session:
            session.send(parcels[0])
            copy = folder_of(place) / object_key(parcels[0].object_id)
            copy.write_bytes(copy.read_bytes()[:-2] + b"??")
            session.send(replace(parcels[0], tried_before=True))
        assert copy.read_bytes() == parcels[0].sealed_path.read_bytes()

    def test_what_was_cut_goes_on_where_it_stopped(
        self, place: Place, parcels: list[Parcel], server: FileServer
    ) -> None:
        large = max(parcels, key=lambda each: each.sealed_bytes)
        answers = iter([True, False])
        stopping = replace(large, keep_going=lambda: next(answers))
        with place.destination.open(parcels) as session, pytest.raises(Transient, match="stopping"):
            session.send(stopping)
        (part,) = folder_of(place).glob(f".arriving/{large.object_id}")
        assert 0 < part.stat().st_size < large.sealed_bytes
        first = part.read_bytes()
        asked: list[bool] = []

        def go_on() -> bool:
            asked.append(True)
            return True

        going_on = replace(large, tried_before=True, keep_going=go_on)
        with place.destination.open(parcels) as session:
            session.send(going_on)
        # ProFTPD, as it comes, lets nobody write in a file that is there: all of it goes again.
        left = large.sealed_bytes - (len(first) if server.login == "key" else 0)
        assert len(asked) == -(-left // (1 << 20))
        assert place.held(large) == large.sealed_path.read_bytes()
        assert not part.exists()

    def test_a_beginning_that_is_another_ones_is_not_gone_on_with_twice(
        self, place: Place, parcels: list[Parcel], server: FileServer
    ) -> None:
        place.destination.check()
        large = max(parcels, key=lambda each: each.sealed_bytes)
        (folder_of(place) / ".arriving" / large.object_id).write_bytes(b"something else")
        again = replace(large, tried_before=True)
        with place.destination.open(parcels) as session:
            if server.login == "key":
                with pytest.raises(Transient, match="did not keep"):
                    session.send(again)
            session.send(again)
        assert place.held(large) == large.sealed_path.read_bytes()


class TestSftpAsArchive(ShareContract):
    @pytest.fixture
    def settings(self, server: FileServer) -> DestinationSettings:
        return server.trusted()

    @pytest.fixture
    def archive(self, settings: DestinationSettings) -> ShareDestination:
        return built(settings)

    @pytest.fixture
    def folder(self, settings: DestinationSettings) -> Path:
        return Path(str(settings.options["folder"]))

    @pytest.fixture
    def unreachable(self) -> ShareDestination:
        return built(unreachable())


# --- who answers, and who comes in ---------------------------------------------------------------------------------


def test_nothing_is_said_of_us_before_a_person_has_compared_the_key(server: FileServer) -> None:
    settings = server.settings()
    shown = SftpServer.from_settings(settings).shown_key()
    with pytest.raises(OperatorNeeded, match="nobody has compared") as error:
        built(settings).check()
    assert shown in error.value.message
    trusted = sftp.trust(settings, shown.split()[1])
    assert built(trusted).check().endswith("can be written and read.")


@pytest.mark.parametrize("typed", ["", " ", "SHA256:AAAA", "ssh-ed25519", "MD5:00:11"])
def test_another_fingerprint_is_not_trusted(ssh: FileServer, typed: str) -> None:
    with pytest.raises(Refused, match="not the one that was typed") as error:
        sftp.trust(ssh.settings(), typed)
    assert error.value.field == "fingerprint"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"], ids=["another-key", "another-type"])
def test_a_key_that_has_changed_is_an_alarm_and_nothing_is_sent(tmp_path: Path, kind: str) -> None:
    with openssh(tmp_path / "before") as before:
        settings = before.trusted()
    with openssh(tmp_path / "after", host_key=private_key(kind)[0], port=before.port) as after:
        # The new server would let us in.
        known = replace(settings, secret=after.secret)
        for act in (built(known).check, lambda: built(known).put_document("manifests/a.sealed", b"x")):
            with pytest.raises(OperatorNeeded, match="has changed") as error:
                act()
            assert str(settings.options["host_key"]) in error.value.message
        assert list(Path(str(settings.options["folder"])).iterdir()) == []
        said = (tmp_path / "after" / "said").read_text()
        assert "Accepted" not in said
        assert "Failed" not in said


def test_the_box_comes_in_by_a_key_that_it_made_itself(tmp_path: Path) -> None:
    with openssh(tmp_path) as server:
        bare = replace(server.settings(), secret="")
        ours = prepare(bare)
        public = str(ours.options["public_key"])
        assert public.startswith("ssh-ed25519 ")
        assert "PRIVATE" in ours.secret
        assert "PRIVATE" not in repr(ours)
        assert prepare(ours) == ours
        ours = sftp.trust(ours, SftpServer.from_settings(ours).shown_key())
        with pytest.raises(OperatorNeeded, match="does not let") as error:
            built(ours).check()
        assert "public key" in error.value.hint
        (tmp_path / "let_in").write_text(public)
        built(ours).check()


def test_a_wrong_password_is_told_from_everything_else(tmp_path: Path) -> None:
    with proftpd(tmp_path) as server:
        settings = server.trusted()
        with pytest.raises(OperatorNeeded, match="does not let clinic in") as error:
            built(with_wrong_secret(settings)).check()
        assert "password" in error.value.hint
        assert "another password" not in str(error.value)


def test_a_server_that_speaks_something_else_is_not_sftp(ssh: FileServer) -> None:
    import http.server
    import threading

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
        threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        other = ssh.settings(port=web.server_address[1])
        with pytest.raises(Transient, match="does not speak SFTP"):
            built(other).check()
        web.shutdown()


# --- what is wrong there -------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_said_and_not_made(server: FileServer) -> None:
    missing = server.folder / "volume2"
    archive = built(server.trusted(missing))
    for act in (
        archive.check,
        lambda: archive.document("manifests/one.sealed"),
        lambda: list(archive.documents("manifests/")),
        lambda: archive.remove("manifests/one.sealed"),
    ):
        with pytest.raises(OperatorNeeded, match="there is no folder"):
            act()
    assert not missing.exists()


@contextmanager
def small_file_system(tmp_path: Path, change: str = "true") -> Iterator[ShareDestination | None]:
    """OpenSSH with a small file system of its own, after the command `change`; None where nobody may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    begin = namespace_for(folder)
    if begin is None:
        yield None
        return
    script = f'{change} && exec "$@"'
    with openssh(tmp_path / "home", begin=[*begin, "sh", "-c", script, "sh"], folder=folder) as server:
        yield built(server.trusted(folder))


REAL_TROUBLE: list[tuple[str, type[ApplianceError], str]] = [
    ("head -c 200M /dev/zero >{0}/other 2>/dev/null; true", OutOfResources, "no room left"),
    ("mkdir {0}/.arriving && mount -o remount,ro {0}", OperatorNeeded, "read-only"),
]


@pytest.mark.parametrize(("change", "kind", "words"), REAL_TROUBLE, ids=["full", "read-only"])
def test_a_server_that_says_failure_is_asked_why(
    tmp_path: Path, change: str, kind: type[ApplianceError], words: str
) -> None:
    """On a real file system that is full, or read-only, where one may be mounted; the judgement itself everywhere."""
    full = Room(4096, is_read_only=False) if kind is OutOfResources else Room(1 << 40, is_read_only=True)
    assert isinstance(sftp.failure("backup on nas", full), kind)
    assert type(sftp.failure("backup on nas", Room(1 << 40, is_read_only=False))) is Transient
    assert type(sftp.failure("backup on nas", None)) is Transient
    with small_file_system(tmp_path, change.format(tmp_path / "small")) as archive:
        if archive is not None:
            with pytest.raises(kind, match=words):
                archive.put_document("snapshots/a/000000", b"x" * 3_000_000)


def test_a_disk_of_the_server_that_gives_nothing_back_is_told_from_a_connection_that_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object) -> Iterator[bytes]:
        raise OSError("Failure")  # all that OpenSSH says of EIO, and paramiko of a socket that is closed

    with openssh(tmp_path) as server:
        archive = built(server.trusted())
        archive.put_document(KEY, b"x")
        with monkeypatch.context() as failing:
            failing.setattr("paramiko.SFTPFile.readv", failed)
            with pytest.raises(Unreadable, match="cannot be read") as error:
                archive.document(KEY)
            assert "disks" in error.value.hint

            def cut(file: paramiko.SFTPFile, *_: object) -> Iterator[bytes]:
                file.sftp.sock.close()
                raise OSError("Socket is closed")

            failing.setattr("paramiko.SFTPFile.readv", cut)
            with pytest.raises(Transient) as broken:
                archive.document(KEY)
            assert not isinstance(broken.value, Unreadable)
        assert archive.document(KEY) == b"x"


def test_a_connection_that_was_cut_is_not_used_again(tmp_path: Path) -> None:
    with openssh(tmp_path) as first:
        archive = built(first.trusted())
        archive.put_document("manifests/one.sealed", b"one")
        host_key = (tmp_path / "host_key").read_text()
        let_in = (tmp_path / "let_in").read_text()
    with pytest.raises(Transient):
        archive.document("manifests/one.sealed")
    with openssh(tmp_path, host_key=host_key, port=first.port):
        (tmp_path / "let_in").write_text(let_in)
        assert archive.document("manifests/one.sealed") == b"one"


def test_a_thousand_documents_cost_one_connection(tmp_path: Path) -> None:
    with openssh(tmp_path) as server:
        archive = built(server.trusted())
        for number in range(50):
            archive.put_document(f"manifests/{number}.sealed", b"x")
        assert len(list(archive.documents("manifests/"))) == 50
    assert (tmp_path / "said").read_text().count("Accepted publickey") == 1


def test_connections_end_with_their_destination(tmp_path: Path) -> None:
    with openssh(tmp_path) as server:
        archive = built(server.trusted())
        archive.check()
        (line, _), *_ = archive._idle.lines
        assert line.is_up()
        del archive
        assert not line.is_up()


def test_what_a_crash_left_is_cleared_away_a_day_later(server: FileServer) -> None:
    settings = server.trusted()
    arriving = Path(str(settings.options["folder"])) / ".arriving"
    built(settings).check()
    old, new = arriving / "old", arriving / "new"
    for each in (old, new):
        each.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    built(settings).check()
    assert (old.exists(), new.exists()) == (False, True)


KEY = "manifests/one.sealed"


@pytest.mark.parametrize("cut", [False, True], ids=["refused", "cut"])
def test_what_was_there_is_there_again_where_its_successor_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    with proftpd(tmp_path) as server:
        archive = built(server.trusted(server.folder))
        archive.put_document(KEY, b"first")
        (line, _), *_ = archive._idle.lines
        assert isinstance(line, SftpLine)
        rename = line.client.rename

        def fails(source: str, final: str) -> None:
            if source.startswith(f"{server.folder}/.arriving/one.sealed"):
                if cut:
                    line.close()
                raise OSError("Failure")
            rename(source, final)

        monkeypatch.setattr(line.client, "rename", fails)
        with pytest.raises(Transient):
            archive.put_document(KEY, b"second")
        assert (server.folder / KEY).read_bytes() == b"first"
        assert archive.document(KEY) == b"first"


def test_what_waits_aside_is_put_back_by_the_connection_test_and_over_nothing(server: FileServer) -> None:
    settings = server.trusted()
    archive, folder = built(settings), Path(str(settings.options["folder"]))
    archive.put_document("manifests/two.sealed", b"its successor")
    waiting = {key: folder / aside(key) for key in (KEY, "manifests/two.sealed", "gone/three.sealed")}
    for each in waiting.values():
        each.write_bytes(b"what was there")
        os.utime(each, (time.time() - 90_000,) * 2)
    (folder / ".arriving" / "aside-..%2F..%2Foutside-12345678").write_bytes(b"not ours")
    archive.check()
    assert archive.document(KEY) == b"what was there"
    assert archive.document("manifests/two.sealed") == b"its successor"
    assert [each.exists() for each in waiting.values()] == [False, False, True]


@pytest.mark.parametrize("answer", [paramiko.SFTPError("Garbage packet received"), struct.error("too short")])
def test_an_answer_that_is_none_is_tried_again_on_another_connection(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, answer: Exception
) -> None:
    archive = built(server.trusted())
    archive.put_document(KEY, b"x")
    (line, _), *_ = archive._idle.lines
    assert isinstance(line, SftpLine)

    def broken(*_: object) -> None:
        raise answer

    monkeypatch.setattr(line.client, "_read_packet", broken)
    with pytest.raises(Transient):
        archive.document(KEY)
    assert not line.is_up()
    assert archive.document(KEY) == b"x"


@pytest.mark.parametrize(
    "options",
    [
        {"address": ""},
        {"user": ""},
        {"folder": ""},
        {"port": 0},
        {"port": 70_000},
        {"login": "rlogin"},
        {"host_key": "SHA256:x"},
        {"host_key": f"ssh-dss SHA256:{'x' * 43}"},
        {"host_key": "ssh-ed25519 SHA256:short"},
    ],
)
def test_options_that_cannot_be_right_need_a_person(
    ssh: FileServer, options: dict[str, str | int | bool]
) -> None:
    with pytest.raises(OperatorNeeded):
        built(replace(ssh.settings(), options={**ssh.settings().options, **options}))
    with pytest.raises(OperatorNeeded):
        built(replace(ssh.settings(), secret=""))
