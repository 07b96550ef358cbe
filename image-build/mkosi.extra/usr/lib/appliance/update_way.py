"""Fetches for `update`, which has no network of its own: the way to the vendor's server, under an account that has nothing of the box.

It serves the socket that systemd hands over (update-way.socket, which root alone may open) and ends when it was idle for a while. On each
connection comes the vendor's address in a line, and then one request of HTTP (`update_bridge.py`), which is asked beneath that address:
GET or HEAD, with the range that it names. What the server answers goes back as it comes: its status, how long it is, and what lies there.

Chose it because `update` writes the disk as root: TLS and HTTP of whoever answers at an address are read here, where nobody can write
anything. It judges nothing. What came is the vendor's only if sysupdate finds it so, by its signature and its digests: so a body whose
length the server doesn't say and that breaks off is found out there. Rejected a proxy (CONNECT), for which root would speak TLS itself, and
urllib, which follows to more places than these and turns HEAD into GET. As curl did for sysupdate before, it follows redirects, but none
from https to http; and it believes the certificates that Debian does.

Whatever fails is a 502 or a 504 to who asks, and a line of the journal with what to do. A server may be slow, not silent: who asks
(`update_refusal.py`, sysupdate) gives up after 60 seconds in which nothing came, so this does a little earlier, and says why.
"""

import contextlib
import http.client
import http.server
import os
import re
import select
import socket
import socketserver
import ssl
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

HANDED_OVER = 3
"""The first descriptor that systemd hands over (sd_listen_fds(3))."""
LONGEST_ADDRESS = 2048
ASK_SECONDS = 60
CONNECT_SECONDS = 15
CONNECT_SECONDS_OF_ALL = 40
"""A name may have many addresses, and the first of them lead nowhere, as where IPv6 does: they share this."""
SILENT_SECONDS = 50
IDLE_SECONDS = 30
MOST_REDIRECTS = 10
PIECE_BYTES = 1 << 16
ADDRESS = re.compile(r"https?://[A-Za-z0-9._~-]+(?::(\d{1,5}))?(/[A-Za-z0-9:/._~-]*)?", re.ASCII)
PATH = re.compile(r"(/[A-Za-z0-9:._~^+%=@,-]+)+", re.ASCII)
PASSED_ON = {
    "Content-Length": re.compile(r"\d{1,15}", re.ASCII),
    "Content-Range": re.compile(r"bytes [\d*/-]{1,50}", re.ASCII),
    "Last-Modified": re.compile(r"[\w ,:+-]{1,50}", re.ASCII),
}
"""What is told of what lies there, and what each may be: a server could lay anything else beside it."""
REDIRECTS = (301, 302, 303, 307, 308)
REMEDIES = (
    (ssl.SSLCertVerificationError, "see that the box's clock is right, and that nobody answers in the vendor's place"),
    (socket.gaierror, "see that the network's name servers know it, and ask the vendor whether the address that came with this version is right"),
    (OSError, "see that the clinic's network lets this box out to it, and that the server is up"),
    (Exception, "ask the vendor: his server does not answer as one of updates does"),
)  # fmt: skip
"""What to do, by what came in the place of an answer."""


class Relay(http.server.BaseHTTPRequestHandler):
    """One request of `update`."""

    timeout = ASK_SECONDS
    address = ""

    def handle(self) -> None:
        """Take the address, then the request."""
        self.address = self.rfile.readline(LONGEST_ADDRESS).decode("ascii", "replace").removesuffix("\n")
        super().handle()

    def do_GET(self) -> None:
        """Ask the vendor's server, and pass on what it answers."""
        self.connection.settimeout(None)  # whoever writes it to a slow disk may take his time
        has_begun = False
        try:
            asked = beneath(self.address, self.path)
        except ValueError as error:
            say(error)
            self.send_error(403)
            return
        wanted = {"User-Agent": "appliance-update", "Accept-Encoding": "identity", "Connection": "close"}
        if "Range" in self.headers:
            wanted["Range"] = self.headers["Range"]
        try:
            with answer_of(self.command, asked, wanted) as answer:
                has_begun = True
                self.pass_on(answer)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - whatever a server may do
            remedy = next(what for kind, what in REMEDIES if isinstance(error, kind))
            where = "broke off" if has_begun else "can't be had"
            say(f"{asked} {where}: {type(error).__name__}: {error}: {remedy}")
            if not has_begun:
                self.send_error(504 if isinstance(error, TimeoutError) else 502)

    def do_HEAD(self) -> None:
        """The same, of which only how long it is comes."""
        self.do_GET()

    def pass_on(self, answer: http.client.HTTPResponse) -> None:
        """In pieces, each as it comes. Raises `Gone` if nobody wants it any more, what the connection does, and `EOFError` if it ends early."""
        self.send_response(answer.status)
        for name, may_be in PASSED_ON.items():
            value = answer.headers[name] or ""
            if may_be.fullmatch(value) and not (name == "Content-Length" and answer.chunked):
                self.send_header(name, value)
        with gone():
            self.end_headers()
        while self.command == "GET" and (piece := answer.read1(PIECE_BYTES)):
            with gone():
                self.wfile.write(piece)
        if answer.length:
            raise EOFError(f"{answer.length} bytes are missing")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Of each request that was answered nothing is said."""

    def log_error(self, format: str, *arguments: object) -> None:  # noqa: A002
        """What is no request, or not one of those that are taken; the status that is sent for what was said already has no words."""
        if arguments[:1] not in ((403,), (502,), (504,)):
            say(f"a request isn't taken: {format % arguments}")


class Gone(Exception):
    """Whoever asked doesn't listen any more."""


@contextlib.contextmanager
def gone() -> Iterator[None]:
    """What fails in it, fails at the end of who asked."""
    try:
        yield
    except OSError as error:
        raise Gone from error


def beneath(address: str, path: str) -> str:
    """The address of `path` beneath `address`; `ValueError` if either is none, or leads elsewhere."""
    found = ADDRESS.fullmatch(address)
    if found is None or int(found[1] or 0) >= 1 << 16:
        raise ValueError(
            f"{address!r} is no address of updates: ask the vendor for a version that brings another"
        )
    if not PATH.fullmatch(path) or {".", ".."} & set(re.split(r"[/\\]", urllib.parse.unquote(path))):
        raise ValueError(f"{path!r} doesn't lie beneath {address}")
    return address.rstrip("/") + path


@contextlib.contextmanager
def answer_of(method: str, address: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
    """What is answered there, or where that leads; `OSError`, `HTTPException` or `ValueError` if nothing is."""
    for _ in range(MOST_REDIRECTS + 1):
        parts = urllib.parse.urlsplit(address)
        with contextlib.closing(connected(parts)) as connection:
            target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request(method, target, headers=headers)
            answer = connection.getresponse()
            if answer.status not in REDIRECTS:
                if answer.status < 200 or 300 <= answer.status < 400:
                    raise ValueError(f"{answer.status} is no answer to that")
                yield answer
                return
            address = urllib.parse.urljoin(address, answer.headers["Location"] or "")
        to = urllib.parse.urlsplit(address).scheme
        if to != "https" and (to != "http" or parts.scheme == "https"):
            raise ValueError(f"it leads from {parts.scheme} to {address!r}")
    raise ValueError(f"it leads on and on, lastly to {address!r}")


def connected(parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    """A connection to the server, whose certificate is believed where it has one."""
    if not parts.hostname:
        raise ValueError("it names no server")
    addresses = socket.getaddrinfo(parts.hostname, None, type=socket.SOCK_STREAM)
    seconds = min(CONNECT_SECONDS, CONNECT_SECONDS_OF_ALL / len(addresses))
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        trusted = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=seconds, context=trusted)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
    connection.connect()
    connection.sock.settimeout(SILENT_SECONDS)
    return connection


def say(what: object) -> None:
    """A line of the journal, whatever a server has written into it."""
    with contextlib.suppress(OSError):
        os.write(2, f"{str(what).encode('unicode_escape').decode()[:1000]}\n".encode())


def has_gone(asking: socket.socket) -> bool:
    """Whether nobody is at the other end."""
    ends = select.poll()
    try:
        ends.register(asking, 0)
    except ValueError:  # it was closed this moment
        return True
    return bool(ends.poll(0))


class Way(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves until nobody has asked for a while; systemd holds the socket, and starts it again with the next."""

    daemon_threads = True
    timeout = IDLE_SECONDS
    is_idle = False

    def __init__(self, listening: socket.socket) -> None:
        super().__init__("", Relay, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.asking: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Keep in mind who asks, until he has been answered."""
        self.asking.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.asking.discard(request)
        super().shutdown_request(request)

    def handle_timeout(self) -> None:
        """Nobody came; who came before may still listen. For whom nobody listens any more a server speaks in vain: that ends with this, for
        it could speak for ever, a letter now and then, before it has answered."""
        self.is_idle = all(has_gone(each) for each in tuple(self.asking))

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """What fails beside an answer: mostly, who asked has ended."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            say(f"a request came to nothing: {type(error).__name__}: {error}: start update.service again")


def main() -> int:
    """Serve."""
    with socket.socket(fileno=HANDED_OVER) as listening, Way(listening) as way:
        while not way.is_idle:
            way.handle_request()
    return 0


if __name__ == "__main__":
    sys.exit(main())
