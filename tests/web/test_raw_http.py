"""Bytes that are no HTTP, or hardly: the server answers 4xx or closes, and goes on serving. Seeded."""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.api.serving import Served, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SEED = 20260302
MUTANTS = 150

CRAFTED = {
    "no method": b" / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method of another world": b"BREW /coffee HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method with controls": b"G\x00T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a version of another world": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /settings HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "another host": b"GET /sign-in HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a host that is none": b"GET /sign-in HTTP/1.1\r\nHost: [::\r\n\r\n",
    "an address outside": b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n",
    "a header with a blank in its name": b"GET / HTTP/1.1\r\nHost: localhost\r\nA B: x\r\n\r\n",
    "a folded header": b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
    "a header with a zero": b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nA: b\x00c\r\n\r\n",
    "a bare carriage return": b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nA: b\rc\r\n\r\n",
    "huge headers": b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 300_000 + b"\r\n\r\n",
    "many headers": b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 60_000 + b"\r\n",
    "a huge address": b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two lengths": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "a negative length": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "a length with a sign": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nabcde",
    "a length that is no number": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x5\r\n\r\nabcde",
    "an absurd length": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "chunks of no size": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    "a chunk of negative size": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nab\r\n0\r\n\r\n",
    "chunks and a length": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 4\r\n\r\n0\r\n\r\nGET /settings HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another transfer coding": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an obscured transfer coding": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a path upwards": b"GET /static/../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an encoded path upwards": b"GET /static/%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a doubly encoded path": b"GET /static/%252e%252e%252fapplication.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a zero in the path": b"GET /static/a%00.js HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no UTF-8 in the path": b"GET /help/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "raw bytes in the path": b"GET /help/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no UTF-8 in the query": b"GET /api/v1/studies?limit=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a cookie of garbage": b"GET /settings HTTP/1.1\r\nHost: localhost\r\nCookie: \xff=\xfe; console_session=\x80\r\nX: y\r\n\r\n",
    "a token of garbage": b"GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "a form of garbage": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data\r\nContent-Length: 4\r\n\r\nabcd",
    "a boundary of garbage": b'POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary="\xff\r\n'
    b"Content-Length: 4\r\n\r\nabcd",
    "TLS on the wrong port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/2 by surprise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "nothing but line ends": b"\r\n" * 500 + b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a trace": b"TRACE / HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 0\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
}
PLAIN = (
    b"POST /api/v1/studies/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'X-CSRF-Token: abc\r\nContent-Length: 15\r\n\r\n{"text": "cote"}'
)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("raw")
    with served(folder / "data", threads=8) as running:
        yield running


def ask(port: int, sent: bytes, *, silence_seconds: float = 0.4) -> bytes:
    """What comes back for `sent`, until the other side closes or is silent: it may wait for the rest of a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        received = b""
        try:
            line.sendall(sent)
        except OSError:
            pass  # it closed before it had heard everything: an answer too
        line.settimeout(silence_seconds)
        try:
            while piece := line.recv(65536):
                received += piece
        except OSError:
            pass
        return received


def is_clean(answer: bytes) -> bool:
    """No answer, or one that is not the server's fault and says nothing of its inside.

    501 is what RFC 9112 section 6.1 wants for a transfer coding that is not understood.
    """
    return not answer or (
        answer.startswith(
            (
                b"HTTP/1.1 501",
                b"HTTP/1.1 4",
                b"HTTP/1.0 4",
                b"HTTP/1.1 30",
                b"HTTP/1.0 30",
                b"HTTP/1.1 200",
                b"HTTP/1.0 200",
            )
        )
        and b"Traceback" not in answer
        and b"root:" not in answer
    )


def serves(there: Served) -> bool:
    live = b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n"
    return b" 200 OK" in ask(there.port, live, silence_seconds=20)


@pytest.mark.parametrize("what", CRAFTED)
def test_what_is_no_http_gets_a_clean_answer_or_none(there: Served, what: str) -> None:
    answer = ask(there.port, CRAFTED[what])
    assert is_clean(answer), answer[:300]
    assert serves(there)


def test_a_request_inside_another_is_never_answered_as_one(there: Served) -> None:
    answer = ask(there.port, CRAFTED["chunks and a length"])
    assert b"/settings" not in answer
    assert answer.count(b"HTTP/1.1 ") <= 2  # a second, without a session, says nothing


def test_mutants_of_a_request_get_a_clean_answer_or_none(there: Served) -> None:
    draw = random.Random(SEED)
    for number in range(MUTANTS):
        sent = bytearray(PLAIN)
        for _ in range(draw.randrange(1, 8)):
            place = draw.randrange(len(sent))
            match draw.randrange(4):
                case 0:
                    sent[place] = draw.randrange(256)
                case 1:
                    del sent[place : place + draw.randrange(1, 6)]
                case 2:
                    sent[place:place] = draw.randbytes(draw.randrange(1, 6))
                case _:
                    sent[place:place] = draw.choice((b"\r\n", b"\x00", b": ", b"%", b"HTTP/1.1", b"\xff\xfe"))
        answer = ask(there.port, bytes(sent))
        assert is_clean(answer), (number, bytes(sent), answer[:300])
    assert serves(there)


def test_slow_callers_hold_no_thread(there: Served) -> None:
    """Many connections that send a letter and then nothing: they wait in the listener, and pages are served."""
    slow = [socket.create_connection(("127.0.0.1", there.port), timeout=20) for _ in range(60)]
    try:
        for line in slow:
            line.sendall(b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\na")
        for _ in range(10):
            assert serves(there)
    finally:
        for line in slow:
            line.close()
    assert serves(there)
