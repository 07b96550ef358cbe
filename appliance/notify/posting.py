"""Posting to a webhook: over HTTPS that is verified, to an address that may be posted to, following nobody elsewhere.

The address is typed by a person and reached from inside the clinic's network, so a careless or malicious one could make
this box talk to itself, to a router, or to a cloud's metadata (server-side request forgery). Therefore the name is
resolved here, every address that it has must be public, and the connection is made to the very address that was
checked: a name that answers differently a moment later changes nothing. An owner may mark a webhook *on the LAN*; then
private and loopback addresses, and plain HTTP, are allowed, and public ones are not. Redirections are refused, not
followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from appliance import __version__, tls
from appliance.catalog.webhooks import Webhook
from appliance.errors import OperatorNeeded, Refused, Transient

TIMEOUT_SECONDS = 10.0
MOST_ANSWER_BYTES = 16 * 1024
_METADATA = frozenset({ipaddress.ip_address("169.254.169.254"), ipaddress.ip_address("fd00:ec2::254")})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Place:
    """Where a webhook's address points, its parts checked."""

    scheme: str
    host: str
    port: int
    path: str


def place_of(url: str, *, on_lan: bool) -> Place:
    """The parts of `url`. Raises `Refused` for what can't be a webhook's address."""
    wrong = Refused("that is not an address of a webhook", hint="write it as https://hooks.example.ca/clinic")
    if len(url) > 2000 or not url.isascii() or not url.isprintable() or " " in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.password:
        raise wrong
    if parts.scheme == "http" and not on_lan:
        raise Refused(
            "a webhook outside the clinic must be encrypted",
            hint="write the address with https://",
            field="url",
        )
    if port == 0:
        raise wrong
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), path)


def check_address(address: Address, *, on_lan: bool) -> None:
    """Raises `OperatorNeeded` unless a webhook may be at `address`."""
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    never = address in _METADATA or address.is_multicast or address.is_unspecified
    inside = address.is_private or address.is_loopback or address.is_link_local
    if never or (on_lan and not inside) or (not on_lan and (inside or not address.is_global)):
        if never:
            hint = "no webhook can be there"
        elif on_lan:
            hint = "it is outside the clinic's network: add it again without the mark 'on the LAN'"
        else:
            hint = "if it is a system inside the clinic, add it again with the mark 'on the LAN'"
        raise OperatorNeeded("the webhook points to an address that is not allowed", hint=hint)


def resolved(place: Place, *, on_lan: bool) -> str:
    """The address to connect to, once all addresses of the name are allowed. Raises `OperatorNeeded`, `Transient`."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise Transient(f"the name {place.host} is not known") from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        check_address(ipaddress.ip_address(address), on_lan=on_lan)
    return addresses[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: the status, and the beginning of the body."""

    status: int
    body: bytes


def post(hook: Webhook, body: bytes, headers: dict[str, str]) -> int:
    """Post `body`; the status of the answer, 2xx.

    Raises `Refused` when the receiver will never take it, `Transient` when it may later, `OperatorNeeded` when the
    webhook itself is wrong.
    """
    place = place_of(hook.url, on_lan=hook.on_lan)
    address = resolved(place, on_lan=hook.on_lan)
    context = _context(hook.options.get("ca", "")) if place.scheme == "https" else None
    return _judged(place, exchange(place, address, context, body, headers).status)


def exchange(
    place: Place, address: str, context: ssl.SSLContext | None, body: bytes, headers: dict[str, str]
) -> Answer:
    """Post `body` to `place` at the `address` that was checked. Raises `Transient`, `OperatorNeeded` if it is not trusted."""
    connection = _Pinned(place, address, context)
    try:
        connection.request(
            "POST",
            place.path,
            body=body,
            headers={**headers, "User-Agent": f"clinic-edge-appliance/{__version__}", "Connection": "close"},
        )
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(MOST_ANSWER_BYTES))
    except ssl.SSLCertVerificationError as error:
        raise OperatorNeeded(
            f"the certificate of {place.host} cannot be trusted ({error.verify_message})",
            hint="use the name that its certificate holds, or give the certificate of its authority",
        ) from error
    except TimeoutError as error:
        raise Transient(f"{place.host} does not answer") from error
    except http.client.HTTPException as error:
        raise Transient(f"{place.host} does not answer in HTTP") from error
    except OSError as error:
        raise Transient(
            f"{place.host} cannot be reached ({error.strerror or type(error).__name__})"
        ) from error
    finally:
        connection.close()


def _judged(place: Place, status: int) -> int:
    if 200 <= status < 300:
        return status
    if status in (408, 425, 429) or status >= 500:
        raise Transient(f"{place.host} asks to wait (status {status})")
    if status in (401, 403, 404, 410) or 300 <= status < 400:
        raise OperatorNeeded(
            f"{place.host} does not take what is posted there (status {status})",
            hint="compare the address of the webhook with what its provider says",
        )
    raise Refused(f"{place.host} refuses the message (status {status})")


def _context(ca: str) -> ssl.SSLContext:
    try:
        return trusting(ca)
    except (ssl.SSLError, ValueError) as error:
        raise OperatorNeeded(
            "the certificate given for this webhook cannot be read",
            hint="add the webhook again with the certificate of its authority",
        ) from error


def trusting(ca: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, with the authorities of this system and those of `ca` (PEM). Raises `ssl.SSLError`, `ValueError`."""
    context = tls.forward_secret(ssl.create_default_context())
    if ca:
        context.load_verify_locations(cadata=ca)
    return context


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, under the name that was asked for."""

    def __init__(self, place: Place, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(place.host, place.port, timeout=TIMEOUT_SECONDS)
        self._place = place
        self._address = address
        self._context = context
        self.default_port = 443 if context is not None else 80

    def connect(self) -> None:
        """Connect; the certificate must be of the name, not of the address."""
        plain = socket.create_connection((self._address, self._place.port), TIMEOUT_SECONDS)
        try:
            if self._context is None:
                self.sock = plain
            else:
                self.sock = self._context.wrap_socket(plain, server_hostname=self._place.host)
        except BaseException:
            plain.close()
            raise
