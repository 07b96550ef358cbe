"""SMB against Samba, and against what may stand between the box and it."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from smbprotocol.exceptions import SMBException, SMBResponseException
from smbprotocol.file_info import FileDirectoryInformation
from smbprotocol.header import NtStatus, SMB2HeaderResponse

from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Transient, Unreadable
from appliance.model import DestinationSettings
from appliance.replication.destinations import Parcel, access, build, prepare, smb, smb_connection
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.share import Entry, ShareDestination, aside
from appliance.replication.destinations.smb import SmbLine, SmbServer, _entry
from tests.replication.contract import DestinationContract, NamesContract, Place
from tests.replication.file_servers import openssh
from tests.replication.share_contract import ShareContract
from tests.replication.shares import NAME, PASSWORD, ShareServer, samba, unreachable
from tests.system.test_small_disk import namespace_for

KEY = "manifests/one.sealed"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShareServer]:
    with samba(tmp_path_factory.mktemp("samba")) as running:
        yield running


def built(settings: DestinationSettings) -> ShareDestination:
    found = build(settings, None)  # type: ignore[arg-type]
    assert isinstance(found, ShareDestination)
    return found


def line_of(archive: ShareDestination) -> SmbLine:
    """The connection that is kept."""
    (line, _), *_ = archive._idle.lines
    assert isinstance(line, SmbLine)
    return line


class TestSmb(DestinationContract, NamesContract):
    @pytest.fixture
    def settings(self, server: ShareServer) -> DestinationSettings:
        return server.settings()

    @pytest.fixture
    def folder(self, server: ShareServer, settings: DestinationSettings) -> Path:
        return server.below(settings)

    @pytest.fixture
    def place(self, settings: DestinationSettings, folder: Path) -> Place:
        return Place(
            destination=built(settings),
            unreachable=built(unreachable()),
            closed_to_us=built(replace(settings, secret="another password")),
            refusing=None,
            held=lambda parcel: (folder / object_key(parcel.object_id)).read_bytes(),
            count=lambda: len([each for each in folder.glob("objects/**/*") if each.is_file()]),
        )

    def test_a_copy_that_was_altered_there_is_written_again(
        self, place: Place, parcels: list[Parcel], folder: Path
    ) -> None:
        with place.destination.open(parcels) as session:
            session.send(parcels[0])
            copy = folder / object_key(parcels[0].object_id)
            copy.write_bytes(copy.read_bytes()[:-2] + b"??")
            session.send(replace(parcels[0], tried_before=True))
        assert copy.read_bytes() == parcels[0].sealed_path.read_bytes()

    def test_what_was_cut_goes_on_where_it_stopped(
        self, place: Place, parcels: list[Parcel], folder: Path
    ) -> None:
        large = max(parcels, key=lambda each: each.sealed_bytes)
        answers = iter([True, False])
        stopping = replace(large, keep_going=lambda: next(answers))
        with place.destination.open(parcels) as session, pytest.raises(Transient, match="stopping"):
            session.send(stopping)
        (part,) = folder.glob(f".arriving/{large.object_id}")
        begun = part.stat().st_size
        assert 0 < begun < large.sealed_bytes
        assert place.count() == 0
        asked: list[bool] = []

        def go_on() -> bool:
            asked.append(True)
            return True

        with place.destination.open(parcels) as session:
            session.send(replace(large, tried_before=True, keep_going=go_on))
        assert len(asked) == -(-(large.sealed_bytes - begun) // (1 << 20))
        assert place.held(large) == large.sealed_path.read_bytes()
        assert not part.exists()

    def test_a_server_that_goes_away_in_the_middle_leaves_nothing_half_under_the_final_name(
        self, tmp_path: Path, parcels: list[Parcel]
    ) -> None:
        large = max(parcels, key=lambda each: each.sealed_bytes)
        with samba(tmp_path) as server:
            settings = server.settings()
            with between(server.port) as way:
                archive = built(replace(settings, options={**settings.options, "port": way.port}))
                pieces: list[bool] = []

                def cut_after_the_first() -> bool:
                    pieces.append(True)
                    if len(pieces) == 2:
                        way.cut()
                    return True

                cut = replace(large, keep_going=cut_after_the_first)
                with archive.open(parcels) as session, pytest.raises(Transient, match="was cut"):
                    session.send(cut)
            folder = server.below(settings)
            assert not (folder / object_key(large.object_id)).exists()
            assert (folder / ".arriving" / large.object_id).stat().st_size < large.sealed_bytes
            whole = built(settings)
            with whole.open(parcels) as session:
                session.send(replace(large, tried_before=True))
            assert (folder / object_key(large.object_id)).read_bytes() == large.sealed_path.read_bytes()


class TestSmbAsArchive(ShareContract):
    @pytest.fixture
    def settings(self, server: ShareServer) -> DestinationSettings:
        return server.settings()

    @pytest.fixture
    def archive(self, settings: DestinationSettings) -> ShareDestination:
        return built(settings)

    @pytest.fixture
    def folder(self, server: ShareServer, settings: DestinationSettings) -> Path:
        return server.below(settings)

    @pytest.fixture
    def unreachable(self) -> ShareDestination:
        return built(unreachable())


# --- who answers, and who comes in ---------------------------------------------------------------------------------


class Between:
    """Whatever stands between the box and the server: it passes on what is said, until it is told otherwise."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.change: Callable[[bytes], bytes] = lambda message: message
        self.ways: list[socket.socket] = []
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.door.getsockname()[1])
        threading.Thread(target=self._let_in, daemon=True).start()

    def cut(self) -> None:
        """Everything that is connected is cut."""
        for each in self.ways:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:  # cut already
                pass

    def _let_in(self) -> None:
        while True:
            try:
                near, _ = self.door.accept()
            except OSError:  # closed: the test is over
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            self.ways += [near, far]
            for source, drain, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pass_on, args=(source, drain, answers), daemon=True).start()

    def _pass_on(self, source: socket.socket, drain: socket.socket, answers: bool) -> None:
        try:
            with source.makefile("rb") as read:
                while len(head := read.read(4)) == 4:
                    message = read.read(struct.unpack(">I", head)[0])
                    if answers:
                        message = self.change(message)
                    drain.sendall(struct.pack(">I", len(message)) + message)
            drain.shutdown(socket.SHUT_RDWR)
        except OSError:  # cut
            pass


@contextmanager
def between(port: int) -> Iterator[Between]:
    way = Between(port)
    try:
        yield way
    finally:
        way.door.close()
        way.cut()
        for each in way.ways:
            each.close()


def in_clear(message: bytes, command: int = 3, session: int = 0) -> bytes:
    """An answer of success in clear and without signature, as a stranger would say it, to the request to enter the share."""
    if message[:4] != b"\xfdSMB":
        return message
    told = struct.pack("<4sHHIHHIIQIIQ16s", b"\xfeSMB", 64, 1, 0, command, 64, 1, 0, 3, 0, 1, session, b"")
    return told + struct.pack("<HBBIII", 16, 1, 0, 0, 0, 0x1F01FF)


def in_clear_as_of_another_log_in(message: bytes) -> bytes:
    """The same, which says that it answers a log-in of a session that nobody knows."""
    return in_clear(message, command=1, session=99)


def altered(message: bytes) -> bytes:
    """An answer of which somebody has changed a bit."""
    return message[:-1] + bytes([message[-1] ^ 1]) if message[:4] == b"\xfdSMB" else message


@pytest.mark.parametrize("change", [in_clear, in_clear_as_of_another_log_in, altered])
def test_whoever_does_not_know_the_password_is_not_believed(
    server: ShareServer, change: Callable[[bytes], bytes]
) -> None:
    with between(server.port) as way:
        way.change = change
        with pytest.raises(OperatorNeeded, match="does not know the password") as error:
            built(server.settings(port=way.port)).check()
        assert "password" in error.value.hint


def test_what_a_server_signs_is_believed_and_what_lost_its_signature_is_not(tmp_path: Path) -> None:
    def without_signature(message: bytes) -> bytes:
        command, flags = struct.unpack("<H", message[12:14])[0], struct.unpack("<I", message[16:20])[0]
        if command in (0, 1) or not flags & 8:  # agreeing on how to speak, and the log-in
            return message
        return message[:16] + struct.pack("<I", flags & ~8) + message[20:48] + bytes(16) + message[64:]

    with (
        samba(tmp_path, settings="server smb encrypt = off") as server,
        between(server.port) as way,
    ):
        archive = built(server.settings(port=way.port))
        archive.put_document(KEY, b"x")
        session = line_of(archive).tree.session
        assert (session.encrypt_data, session.signing_required) == (False, True)
        way.change = without_signature
        with pytest.raises(OperatorNeeded, match="does not know the password"):
            archive.put_document(KEY, b"y")


def test_what_is_said_is_encrypted_where_the_server_knows_how(server: ShareServer) -> None:
    seen: list[bytes] = []

    def overhear(message: bytes) -> bytes:
        seen.append(message)
        return message

    with between(server.port) as way:
        way.change = overhear
        archive = built(server.settings(port=way.port))
        archive.put_document(KEY, b"said in a room")
        assert archive.document(KEY) == b"said in a room"
    assert line_of(archive).tree.session.encrypt_data
    begin = next(index for index, message in enumerate(seen) if message[:4] == b"\xfdSMB")
    assert all(message[:4] == b"\xfdSMB" for message in seen[begin:])
    assert b"said in a room" not in b"".join(seen)


def test_a_server_that_speaks_only_older_smb_is_not_used(tmp_path: Path) -> None:
    with samba(tmp_path, settings="server max protocol = SMB3_02") as server:
        with pytest.raises(OperatorNeeded, match="no SMB that is still safe") as error:
            built(server.settings()).check()
        assert "3.1.1" in error.value.hint


def test_nobody_comes_in_as_a_guest(tmp_path: Path) -> None:
    with samba(tmp_path, settings="map to guest = Bad Password") as server:
        with pytest.raises(OperatorNeeded, match="for a guest") as error:
            built(replace(server.settings(), secret="another password")).check()
        assert error.value.hint
        built(server.settings()).check()


def test_a_wrong_password_is_told_from_everything_else_and_never_repeated(server: ShareServer) -> None:
    with pytest.raises(OperatorNeeded, match="does not let") as error:
        built(replace(server.settings(), secret="another password")).check()
    assert "password" in error.value.hint
    assert "another password" not in str(error.value)
    assert PASSWORD not in repr(built(server.settings()))


def test_what_the_server_calls_itself_is_kept_and_another_one_is_told_nothing(tmp_path: Path) -> None:
    with samba(tmp_path / "before") as before:
        settings = prepare(before.settings())
        assert settings.options["server_name"] == NAME
        assert prepare(settings) == settings
        built(settings).check()
    with samba(tmp_path / "after", name="OTHERNAS", port=before.port) as after:
        (after.data / str(settings.options["folder"])).mkdir()
        with pytest.raises(OperatorNeeded, match="another server answers") as error:
            built(settings).check()
        assert (NAME in error.value.message, "othernas" in error.value.message) == (True, True)
        assert list(after.below(settings).iterdir()) == []
        again = prepare(smb.anew(settings))
        assert again.options["server_name"] == "othernas"
        built(again).check()


def test_only_a_server_that_knows_the_password_is_kept(server: ShareServer) -> None:
    with pytest.raises(OperatorNeeded, match="does not let"):
        prepare(replace(server.settings(), secret="another password"))


@pytest.mark.parametrize(
    ("status", "is_the_disk"), [(0xC0000185, True), (0xC000009C, True), (0xC00000C4, False)]
)
def test_a_disk_of_the_server_that_gives_nothing_back_is_told_from_other_failures(
    server: ShareServer, monkeypatch: pytest.MonkeyPatch, status: int, *, is_the_disk: bool
) -> None:
    archive = built(server.settings())
    archive.put_document(KEY, b"x")
    header = SMB2HeaderResponse()
    header["status"] = status

    def refused(*_: object) -> bytes:
        raise SMBResponseException(header)

    with monkeypatch.context() as failing:
        failing.setattr("smbprotocol.open.Open.read", refused)
        with pytest.raises(Transient) as error:
            archive.document(KEY)
    assert isinstance(error.value, Unreadable) is is_the_disk
    assert archive.document(KEY) == b"x"


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9\r\n", b"\x00\x00\x00\x05hello", b"\xff" * 64, b""])
def test_a_server_that_speaks_something_else_is_not_smb(server: ShareServer, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer() -> None:
            way, _ = door.accept()
            with way, suppress(OSError):  # who asks may have hung up before all of this is done
                way.sendall(said)
                way.shutdown(socket.SHUT_WR)
                while way.recv(
                    1 << 16
                ):  # all that is said: to hang up on the rest would break the connection instead
                    pass

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Transient, match="does not speak SMB"):
            built(server.settings(port=door.getsockname()[1])).check()


# --- what is wrong there -------------------------------------------------------------------------------------------


def test_a_share_that_is_not_there_is_said(server: ShareServer) -> None:
    with pytest.raises(OperatorNeeded, match="there is no share volume2") as error:
        built(server.settings(share="volume2")).check()
    assert error.value.hint


def test_a_folder_that_is_not_there_is_said_and_not_made(server: ShareServer) -> None:
    archive = built(server.settings("volume2"))
    for act in (
        archive.check,
        lambda: archive.document(KEY),
        lambda: list(archive.documents("manifests/")),
        lambda: archive.remove(KEY),
    ):
        with pytest.raises(OperatorNeeded, match="there is no folder"):
            act()
    assert not (server.data / "volume2").exists()


def test_the_share_itself_and_folders_in_folders_will_do(tmp_path: Path) -> None:
    with samba(tmp_path) as server:
        (server.data / "a" / "b").mkdir(parents=True)
        for typed, found in (("", "."), ("/", "."), ("a/b", "a/b"), ("\\a\\b\\", "a/b")):
            archive = built(server.settings(typed))
            archive.put_document(KEY, typed.encode())
            assert (server.data / found / KEY).read_bytes() == typed.encode()
            assert archive.document(KEY) == typed.encode()


@contextmanager
def small_file_system(tmp_path: Path, change: str) -> Iterator[ShareDestination | None]:
    """Samba with a small file system of its own, after the command `change`; None where nobody may mount one."""
    data = tmp_path / "small"
    data.mkdir()
    begin = namespace_for(data)
    if begin is None:
        yield None
        return
    script = f'{change} && exec "$@"'
    with samba(tmp_path / "home", begin=[*begin, "sh", "-c", script, "sh"], data=data) as server:
        yield built(server.settings(""))


REAL_TROUBLE: list[tuple[str, int, type[ApplianceError], str]] = [
    ("head -c 200M /dev/zero >{0}/other 2>/dev/null; true", 0xC000007F, OutOfResources, "no room left"),
    ("mkdir {0}/.arriving && mount -o remount,ro {0}", 0xC00000A2, OperatorNeeded, "read-only|may not write"),
]


@pytest.mark.parametrize(("change", "status", "kind", "words"), REAL_TROUBLE, ids=["full", "read-only"])
def test_a_share_that_is_full_or_read_only_is_told_apart(
    server: ShareServer, tmp_path: Path, change: str, status: int, kind: type[ApplianceError], words: str
) -> None:
    """On a real file system where one may be mounted; the judgement itself everywhere."""
    archive = built(server.settings())
    archive.check()
    assert isinstance(line_of(archive)._failure(status), kind)
    with small_file_system(tmp_path, change.format(tmp_path / "small")) as small:
        if small is not None:
            with pytest.raises(kind, match=words):
                small.put_document("snapshots/a/000000", b"x" * 3_000_000)


def test_a_user_who_may_not_write_is_told(tmp_path: Path) -> None:
    with samba(tmp_path, of_the_share="write list = nobody") as server:
        (server.data / ".arriving").mkdir()
        with pytest.raises(OperatorNeeded, match="may not write") as error:
            built(server.settings("")).check()
        assert error.value.hint


def test_a_connection_that_was_cut_is_not_used_again(tmp_path: Path) -> None:
    with samba(tmp_path) as first:
        archive = built(first.settings())
        archive.put_document(KEY, b"one")
    with pytest.raises(Transient):
        archive.document(KEY)
    with samba(tmp_path, port=first.port):
        assert archive.document(KEY) == b"one"


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(
    server: ShareServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with between(server.port) as way:
        archive = built(server.settings(port=way.port))
        archive.put_document(KEY, b"x")
        way.change = lambda _: b""
        monkeypatch.setattr(smb_connection, "ANSWER_SECONDS", 1)
        with pytest.raises(Transient, match="was cut"):
            archive.document(KEY)
        way.change = lambda message: message
        monkeypatch.undo()
        assert archive.document(KEY) == b"x"


def test_many_documents_cost_one_connection(server: ShareServer) -> None:
    with between(server.port) as way:
        archive = built(server.settings(port=way.port))
        for number in range(12):
            archive.put_document(f"manifests/{number}.sealed", b"x")
        assert len(list(archive.documents("manifests/"))) == 12
        assert len(way.ways) == 2


def test_connections_end_with_their_destination(server: ShareServer) -> None:
    archive = built(server.settings())
    archive.check()
    line = line_of(archive)
    assert line.is_up()
    del archive
    assert not line.is_up()


def test_what_a_crash_left_is_cleared_away_a_day_later_and_what_waits_aside_is_put_back(
    server: ShareServer,
) -> None:
    settings = server.settings()
    archive, folder = built(settings), server.below(settings)
    archive.put_document("manifests/two.sealed", b"its successor")
    old, new = folder / ".arriving" / "old", folder / ".arriving" / "new"
    waiting = {key: folder / aside(key) for key in (KEY, "manifests/two.sealed")}
    for each in (old, new, *waiting.values()):
        each.write_bytes(b"what was there")
    for each in (old, *waiting.values()):
        os.utime(each, (time.time() - 90_000,) * 2)
    archive.check()
    assert archive.document(KEY) == b"what was there"
    assert archive.document("manifests/two.sealed") == b"its successor"
    assert [each.exists() for each in (old, new, *waiting.values())] == [False, True, False, False]


def test_a_long_list_is_whole(server: ShareServer) -> None:
    settings = server.settings()
    archive = built(settings)
    archive.put_document("objects/ab/0", b"x")
    for number in range(1, 3000):
        (server.below(settings) / "objects" / "ab" / str(number)).touch()
    assert len(list(archive.documents("objects/"))) == 3000


def test_a_folder_that_served_by_sftp_serves_by_smb(tmp_path: Path, server: ShareServer) -> None:
    settings = server.settings()
    with openssh(tmp_path) as nas:
        built(nas.trusted(server.below(settings))).put_document(KEY, b"written by SFTP")
    assert built(settings).document(KEY) == b"written by SFTP"


@pytest.mark.parametrize(
    "options",
    [
        {"address": ""},
        {"address": "\\\\nas\\backup"},
        {"share": ""},
        {"share": "backup/clinic"},
        {"folder": "../other"},
        {"user": ""},
        {"port": 0},
        {"port": 70_000},
    ],
)
def test_options_that_cannot_be_right_need_a_person(
    server: ShareServer, options: dict[str, str | int | bool]
) -> None:
    whole = server.settings()
    with pytest.raises(OperatorNeeded):
        built(replace(whole, options={**whole.options, **options}))
    with pytest.raises(OperatorNeeded):
        built(replace(whole, secret=""))


def test_a_user_of_a_domain_comes_in_by_it(server: ShareServer) -> None:
    assert SmbServer.from_settings(server.settings(domain=NAME)).domain == NAME
    built(server.settings(domain=NAME)).check()


def test_a_file_that_windows_keeps_elsewhere_is_listed_and_a_folder_that_leads_away_is_not() -> None:
    """Deduplicated and tiered files carry the mark of links; without them a list of backups would be a part of it."""

    def listed(attributes: int) -> Entry | None:
        found = FileDirectoryInformation()
        found["file_name"] = "index".encode("utf-16-le")
        found["file_attributes"] = attributes
        found["last_write_time"] = datetime(2026, 1, 1)  # noqa: DTZ001 - as the library gives it
        return _entry(found)

    archive, folder, link = 0x20, 0x10, 0x400
    assert listed(archive | link) == Entry("index", False, datetime(2026, 1, 1, tzinfo=UTC))
    assert listed(folder) is not None
    assert listed(folder | link) is None


def test_a_password_is_not_for_a_server_that_nobody_knows_any_more() -> None:
    """Who forgets what the server calls itself types its password again, and it is recorded anew."""
    known = DestinationSettings("nas", "smb", "ciphertext", {"address": "192.0.2.7", "server_name": "GUID"})
    assert access.is_same(known, known)
    assert not access.is_same(known, replace(known, options={"address": "192.0.2.7"}))


def test_a_server_that_only_says_that_an_answer_is_on_its_way_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever stands in between can say that without a key, and each time the library begins to wait anew."""
    connection = smb_connection.SmbConnection("192.0.2.7", 445)

    def says(status: int, number: int) -> None:
        header = SMB2HeaderResponse()
        header["status"], header["message_id"] = status, number
        connection.verify_signature(header, 0)

    monkeypatch.setattr(smb_connection, "PENDING_SECONDS", 0)
    says(NtStatus.STATUS_PENDING, 7)
    says(NtStatus.STATUS_PENDING, 8)  # of another request, which has just begun
    with pytest.raises(SMBException, match="never comes"):
        says(NtStatus.STATUS_PENDING, 7)
    says(NtStatus.STATUS_SUCCESS, 7)
    says(NtStatus.STATUS_PENDING, 7)
