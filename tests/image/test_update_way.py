"""What an update fetches, and how: real servers, the real way to them, and the real `update` in a network of its own."""

from __future__ import annotations

import http.client
import http.server
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from appliance.health import looks
from tests.image.loading import loaded
from tests.image.test_configuration import EXTRA, settings
from tests.image.update_script import update_in
from tests.image.way import BRIDGE, RELAY, SOCKET, bridge, bridge_to, relay, way
from tests.networks import apart
from tests.notify.mail_room import Authority, authority

LIES = bytes(range(256)) * 512
HUGE_BYTES = 96 << 20


@dataclass
class Vendor:
    """A server of updates, and what it was asked."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    leads_to: str = ""

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}/updates"


@contextmanager
def vendor(context: ssl.SSLContext | None = None) -> Iterator[Vendor]:
    """Serves ``/updates/file``, and other names that answer in ways of their own."""
    found = Vendor()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(f"{self.command} {self.path}")
            name = self.path.rsplit("/", 1)[1]
            if name in ("silent", "held"):
                found.gate.wait(600)
            if name == "silent":
                return
            if name == "leads":
                self.send_response(302)
                self.send_header("Location", found.leads_to)
                self.end_headers()
                return
            if name == "nonsense":
                self.wfile.write(b"SSH-2.0-\x1b[31m\r\n")
                return
            if name == "none":
                self.send_error(404)
                return
            begin = 1000 if self.headers["Range"] == "bytes=1000-" else 0
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(LIES) - 1}/{len(LIES)}")
            self.send_header("Set-Cookie", "kept=no")
            if name != "unsaid":
                length = HUGE_BYTES if name == "huge" else len(LIES) - begin
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "HEAD":
                return
            if name == "huge":
                for _ in range(HUGE_BYTES // len(LIES)):
                    self.wfile.write(LIES)
            else:
                self.wfile.write(LIES[begin : len(LIES) // 2 if name == "cut" else len(LIES)])

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Who breaks off, or believes no certificate, is no error here."""

    server = Server(("127.0.0.1", 0), Answer)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield found
    finally:
        found.gate.set()
        server.shutdown()
        server.server_close()


def fetched(
    address: str, name: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, what is said of it, and what came; as sysupdate and its companions are answered."""
    request = urllib.request.Request(f"{address}/{name}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def raw(address: str, request: str) -> bytes:
    """What is answered to that, to the byte."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as calling:
        calling.sendall(request.encode())
        return b"".join(iter(lambda: calling.recv(1 << 16), b""))


def test_what_lies_at_the_address_comes_as_it_lies_and_so_does_what_is_said_of_it() -> None:
    with vendor() as there, way(there.url()) as asked:
        status, said, came = fetched(asked, "file")
        assert (status, came) == (200, LIES)
        assert said["Content-Length"] == str(len(LIES))
        assert "Set-Cookie" not in said, "of a server nothing passes but what is known"
        status, said, came = fetched(asked, "file", "HEAD")
        assert (status, said["Content-Length"], came) == (200, str(len(LIES)), b"")
        status, said, came = fetched(asked, "file", Range="bytes=1000-")
        assert (status, came) == (206, LIES[1000:])
        assert said["Content-Range"] == f"bytes 1000-{len(LIES) - 1}/{len(LIES)}"
        assert fetched(asked, "none")[0] == 404, "and what isn't there isn't"
        assert fetched(asked, "unsaid")[2] == LIES, "however long it is"
    assert there.asked == [
        *("GET /updates/file", "HEAD /updates/file", "GET /updates/file"),
        *("GET /updates/none", "GET /updates/unsaid"),
    ]


@pytest.mark.parametrize(
    "path",
    ["/../secret", "/a/../../secret", "/%2e%2e/secret", "/%2E%2e%2Fsecret", "/file?x=1", "/./file", "/a\\..\\b", "/"],
)  # fmt: skip
def test_nothing_is_asked_but_what_lies_beneath_the_address(path: str) -> None:
    with vendor() as there, relay() as found, bridge(found.place, there.url()) as asked:
        told = raw(asked, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert told.startswith(b"HTTP/1.0 403 ")
        assert len(found.said()) == 1
    assert there.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS"])
def test_nothing_is_done_there_but_fetching(method: str) -> None:
    with vendor() as there, relay() as found, bridge(found.place, there.url()) as asked:
        told = raw(asked, f"{method} /file HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert told.startswith(b"HTTP/1.0 501 ")
        assert len(found.said()) == 1
    assert there.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://a@127.0.0.1/",
        "http://127.0.0.1/?x",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:70000",
        "",
    ],
)
def test_what_is_no_address_of_updates_is_asked_nothing(address: str) -> None:
    with relay() as found, bridge(found.place, address) as asked:
        assert fetched(asked, "file")[0] == 403
        assert len(found.said()) == 1


def trusted(folder: Path, name: str = "localhost") -> Authority:
    """An authority that says who `name` is, and the file of its certificate for whoever believes it."""
    folder.mkdir()
    made = authority(folder, name)
    (folder / "believed.pem").write_text(made.ca)
    return made


def believing(folder: Path) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(folder / "believed.pem")}


@pytest.mark.parametrize("wrong", ["", "authority", "name"])
def test_a_certificate_is_believed_by_its_authority_and_for_its_name_alone(
    wrong: str, tmp_path: Path
) -> None:
    known = trusted(tmp_path / "known", "updates.example" if wrong == "name" else "localhost")
    trusted(tmp_path / "strange")
    believes = believing(tmp_path / ("strange" if wrong == "authority" else "known"))
    with vendor(known.context()) as there, relay(environment=believes) as found:
        with bridge(found.place, there.url("https", "localhost")) as asked:
            status, _, came = fetched(asked, "file")
        if wrong:
            assert status == 502
            (line,) = found.said()
            assert "see that the box's clock is right" in line
        else:
            assert came == LIES
            assert found.said() == []


def test_a_redirect_is_followed_but_never_from_https_to_http(tmp_path: Path) -> None:
    known = trusted(tmp_path / "known")
    with vendor(known.context()) as safe, vendor() as plain, relay(environment=believing(tmp_path / "known")) as found:  # fmt: skip
        plain.leads_to = f"{safe.url('https', 'localhost')}/file"
        with bridge(found.place, plain.url()) as asked:
            assert fetched(asked, "leads")[2] == LIES
            assert fetched(asked, "leads", "HEAD")[1]["Content-Length"] == str(len(LIES))
            assert fetched(asked, "leads", Range="bytes=1000-")[2] == LIES[1000:]
        assert safe.asked == ["GET /updates/file", "HEAD /updates/file", "GET /updates/file"]
        assert found.said() == []
        safe.leads_to = f"{plain.url()}/file"
        with bridge(found.place, safe.url("https", "localhost")) as asked:
            assert fetched(asked, "leads")[0] == 502
        assert plain.asked == ["GET /updates/leads", "HEAD /updates/leads", "GET /updates/leads"]
        for leads in (
            "/updates/leads",
            "file:///etc/passwd",
            "http://",
            "http://127.0.0.1:many/",
            "http://\x01/",
            "",
        ):
            plain.leads_to = leads
            with bridge(found.place, plain.url()) as asked:
                assert fetched(asked, "leads")[0] == 502, leads
        assert len(found.said()) == 7, found.said()


def test_a_server_that_breaks_off_is_told_from_one_that_has_said_all() -> None:
    with vendor() as there, relay() as found, bridge(found.place, there.url()) as asked:
        with pytest.raises(http.client.IncompleteRead):
            fetched(asked, "cut")
        until(lambda: len(found.said()) == 1, "it is said")
        assert "broke off" in found.said()[0]
        assert fetched(asked, "file")[2] == LIES, "the next one is answered"


def test_a_server_that_stops_speaking_is_not_waited_for_and_nobody_there_is_said() -> None:
    with vendor() as there, relay({"SILENT_SECONDS": 0.3}) as found:
        with bridge(found.place, there.url()) as asked:
            assert fetched(asked, "silent")[0] == 504
        (silent,) = found.said()
    hasty = {"RES_OPTIONS": "timeout:1 attempts:1"}  # however this machine's name servers answer, or don't
    with vendor() as there, socket.socket() as nobody, relay(environment=hasty) as found:
        nobody.bind(("127.0.0.1", 0))
        for at, name in (
            (there.url(), "nonsense"),
            (f"http://127.0.0.1:{nobody.getsockname()[1]}", "file"),
            ("http://nobody.invalid", "file"),
        ):
            with bridge(found.place, at) as asked:
                assert fetched(asked, name)[0] == 502
        nonsense, refused, unknown = found.said()
    for line, remedy in (
        (silent, "lets this box out"),
        (nonsense, "ask the vendor"),
        (refused, "lets this box out"),
        (unknown, "name servers"),
    ):
        assert remedy in line
        assert line.isprintable(), "whatever a server says"


def test_two_are_fetched_at_once() -> None:
    with vendor() as there, way(there.url()) as asked:
        came: list[bytes] = []
        first = threading.Thread(target=lambda: came.append(fetched(asked, "held")[2]), daemon=True)
        first.start()
        until(lambda: there.asked == ["GET /updates/held"], "the first has begun")
        assert fetched(asked, "file")[2] == LIES
        assert came == []
        there.gate.set()
        first.join(60)
        assert came == [LIES]


def test_a_root_is_never_held_in_memory() -> None:
    with vendor() as there, relay() as found, bridge(found.place, there.url()) as asked:
        fetched(asked, "file")
        before = found.most_bytes()
        with urllib.request.urlopen(f"{asked}/huge", timeout=60) as answer:
            came = sum(len(piece) for piece in iter(lambda: answer.read(1 << 20), b""))
        assert came == HUGE_BYTES
        assert found.most_bytes() - before < 8 << 20


def test_who_breaks_off_ends_nothing_else() -> None:
    with vendor() as there, relay() as found, bridge(found.place, there.url()) as asked:
        with urllib.request.urlopen(f"{asked}/huge", timeout=60) as answer:
            answer.read(1)
        assert fetched(asked, "file")[2] == LIES
        assert found.said() == []


def test_it_ends_once_nobody_asks_and_not_while_something_comes() -> None:
    with vendor() as there:
        asks = f"{there.url()}\nGET /held HTTP/1.0\r\n\r\n"
        with relay({"IDLE_SECONDS": 0.2}, asks=asks) as found:
            until(lambda: there.asked, "it was asked for")
            time.sleep(1)
            assert found.process.poll() is None
            there.gate.set()
            assert b"".join(iter(lambda: found.first.recv(1 << 16), b"")).endswith(LIES)
            assert found.process.wait(60) == 0
            assert found.said() == []


def test_a_server_that_speaks_for_nobody_any_more_does_not_keep_it() -> None:
    """As one does that says a letter now and then, for ever: each night's would stay beside the next, until none could be begun."""
    with vendor() as there:
        asks = f"{there.url()}\nGET /silent HTTP/1.0\r\n\r\n"
        with relay({"IDLE_SECONDS": 0.2, "SILENT_SECONDS": 3600}, asks=asks) as found:
            until(lambda: there.asked, "it was asked for")
            found.first.close()
            assert found.process.wait(60) == 0
            assert found.said() == []


@pytest.mark.parametrize("addresses", [1, 2, 8, 16])
def test_each_address_of_a_name_is_tried_while_somebody_waits(
    addresses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a network of delivery has, eight of IPv6 first, where the clinic's way out by IPv6 leads nowhere."""
    tried: list[float] = []

    def nobody(at: tuple[str, int], timeout: float, source: object) -> socket.socket:
        tried.append(timeout)
        raise TimeoutError

    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 443, 0, 0))] * addresses
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", nobody)
    with pytest.raises(TimeoutError):
        loaded(RELAY).connected(urllib.parse.urlsplit("https://updates.example/"))
    (each,) = tried
    assert each * addresses < 50, "who asks gives up after 60"
    assert each >= 2, "and a far server is not a dead one"


def test_without_a_way_it_is_said_and_what_asks_is_told_that_nobody_is_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with bridge(tmp_path / "none", "http://127.0.0.1:1") as asked:
        assert fetched(asked, "file")[0] == 502
        why = loaded(EXTRA / "usr/lib/appliance/update_refusal.py").why
        assert why(asked) == looks.Came.UNREACHABLE
    assert "systemctl status update-way.socket" in capfd.readouterr().err


def test_the_bridge_lives_no_longer_than_who_asked_for_it_however_that_ends(tmp_path: Path) -> None:
    """By kill -9 of `update`: its lock is free then, and nothing listens any more."""
    lock = tmp_path / "lock"
    program = f"exec 9>{lock}; flock 9; asked=$({sys.executable} -I {BRIDGE} http://127.0.0.1:1 $$ 9>&-); echo $asked; exec sleep 600"
    with subprocess.Popen(["sh", "-c", program], stdout=subprocess.PIPE, text=True) as update:
        assert update.stdout is not None
        try:
            asked = update.stdout.readline().strip()
            assert fetched(asked, "file")[0] == 502
        finally:
            update.kill()
        update.wait()
        until(lambda: is_gone(asked), "nothing listens")
        subprocess.run(["flock", "--nonblock", lock, "true"], check=True)


def is_gone(asked: str) -> bool:
    try:
        fetched(asked, "file")
    except OSError:
        return True
    return False


def until(looked: Callable[[], Any], what: str) -> None:
    for _ in range(1200):
        if looked():
            return
        time.sleep(0.05)
    raise AssertionError(what)


# --- an update -------------------------------------------------------------------------------------------------------

SYSUPDATE = """#!/bin/sh
umask >{folder}/umask
cat {folder}/fetching >{folder}/while
stat -c %a {folder}/fetching >{folder}/mode
exec {python} -c '
import glob, re, sys, urllib.request
for each in glob.glob("{folder}/sysupdate.d/*"):
    (path,) = re.findall("^Path=(http.*)", open(each).read(), re.MULTILINE)
    with urllib.request.urlopen(path + "/file") as answer:
        open("{folder}/came", "wb").write(answer.read())
'
"""


def update(folder: Path, place: Path) -> str:
    """The text of `update`, with `folder` in the place of the box's own and the way at `place`."""
    programs = {
        "/usr/bin/appliance": ":",
        "/usr/lib/systemd/systemd-sysupdate": SYSUPDATE.format(
            folder=folder, python=sys.executable
        ).removeprefix("#!/bin/sh\n"),
        "/usr/lib/appliance/libexec/update-outcome": ":",
    }
    bridging = folder / BRIDGE.name
    bridging.write_text(bridge_to(place))
    return update_in(folder, programs).replace(str(EXTRA / "usr/lib/appliance" / BRIDGE.name), str(bridging))


@pytest.mark.parametrize("is_there", [True, False])
def test_an_update_in_a_network_of_its_own_has_what_the_way_fetches(is_there: bool, tmp_path: Path) -> None:
    """As its unit has it: no way out but that socket, and what it writes is root's alone but for what the appliance reads."""
    with vendor() as there, relay() as found:
        at = f"http://localhost:{there.port}/updates" if is_there else "http://localhost:1/updates"
        (tmp_path / "source").write_text(f"{at}\n")
        program = update(tmp_path, found.place)
        done = subprocess.run(
            [*apart(), "sh", "-euc", 'ip link set lo up; umask 0077; exec sh -c "$0"', program],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == is_there, done.stderr
        assert (found.said() == []) == is_there
    told = looks.told((tmp_path / "looked").read_text())
    assert told is not None
    assert told[1] is (looks.Came.NONE if is_there else looks.Came.UNREACHABLE), done.stderr
    assert (tmp_path / "looked").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "umask").read_text() == "0077\n"
    assert (tmp_path / "mode").read_text() == "644\n"
    if is_there:
        assert (tmp_path / "came").read_bytes() == LIES


def test_what_the_units_say_of_the_way_is_what_its_programs_do() -> None:
    units = EXTRA / "usr/lib/systemd/system"
    listening, fetching = settings(units / "update-way.socket"), settings(units / "update-way.service")
    assert (listening["ListenStream"], listening["SocketMode"]) == ([SOCKET], ["0600"])
    assert not {"SocketUser", "SocketGroup", "Accept"} & listening.keys(), "root alone may ask"
    assert f'WAY = "{SOCKET}"\n' in BRIDGE.read_text()
    assert fetching["ExecStart"][0].endswith(f" -I /usr/lib/appliance/{RELAY.name}")
    assert (fetching["User"], fetching["CapabilityBoundingSet"]) == (["update-way"], [])
    accounts = (EXTRA / "usr/lib/sysusers.d/00-image.conf").read_text()
    assert "\nu update-way " in accounts
    for unit in ("update.service", "update-from-stick.service"):
        walls = settings(units / unit)
        assert walls["PrivateNetwork"] == ["yes"], unit
        assert walls["IPAddressAllow"] == ["localhost"], unit
    assert "update-way.socket" in settings(units / "update.service")["Wants"][0].split()
    assert f"  {SOCKET} rw,\n" in (EXTRA / "etc/apparmor.d/update-way").read_text()


def test_the_account_of_the_way_writes_nowhere() -> None:
    text = (EXTRA / "etc/apparmor.d/update-way").read_text()
    assert "capability" not in text
    for place in ("/etc/appliance/", "/var/lib/", "/var/log/", "/etc/shadow"):
        assert f"  deny {place}" in text
    writes = [line.split()[0] for line in text.splitlines() if line.endswith((" rw,", " w,", " rwk,"))]
    assert writes == [SOCKET, "/run/systemd/journal/{socket,dev-log,stdout}"]
