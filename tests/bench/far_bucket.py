"""A bucket far away: an archive in a folder, read by S3's protocol, that answers each request a while after it came.

It lists and gives out, which is all that a restore asks, and refuses everything else. Runs as a process of its own, so that what it
computes is not counted as the box's. Chose this over moto behind a relay because those take five milliseconds of processor for
each answer: at 100,000 studies they would be what is measured. That a real server is read alike, the tests of destinations show.
"""

import asyncio
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from appliance.model import DestinationSettings

REGION = "ca-central-1"
WITHOUT = "without-backups"
"""The same bucket under this name shows no snapshot."""

PAGE = 1000
REQUESTS, UNDER_WAY, AT_ONCE, BYTES = range(4)


@dataclass(frozen=True)
class FarBucket:
    """The bucket at a port of this machine, and what was asked of it."""

    port: int
    counts: "SynchronizedArray[int]"

    def place(self, name: str) -> DestinationSettings:
        """The destination: the bucket under a name."""
        options: dict[str, str | int | bool] = {
            "bucket": name,
            "region": REGION,
            "endpoint_url": f"http://127.0.0.1:{self.port}",
            "canadian": True,
            "access_key_id": "bench",
        }
        return DestinationSettings("cloud", "s3", "ciphertext", options, "bench")

    def forget(self) -> None:
        """Count from 0 again."""
        with self.counts.get_lock():
            for each in (REQUESTS, AT_ONCE, BYTES):
                self.counts[each] = 0

    @property
    def requests(self) -> int:
        return self.counts[REQUESTS]

    @property
    def most_at_once(self) -> int:
        return self.counts[AT_ONCE]

    @property
    def bytes_read(self) -> int:
        return self.counts[BYTES]


@contextmanager
def far_bucket(folder: Path, latency_seconds: float) -> Iterator[FarBucket]:
    """`folder`, which is laid out as an archive, as a bucket that answers after `latency_seconds`."""
    context = multiprocessing.get_context("fork")
    counts = context.Array("q", 4)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        server = _Server(folder, latency_seconds, counts)
        serving = context.Process(target=server.run, args=(listening,), daemon=True)
        serving.start()
        try:
            yield FarBucket(listening.getsockname()[1], counts)
        finally:
            serving.kill()  # it keeps nothing; to SIGTERM it has the answer of what it was forked from: that of coverage may wait for ever
            serving.join()


class _Server:
    def __init__(self, folder: Path, latency_seconds: float, counts: "SynchronizedArray[int]") -> None:
        self._folder = folder
        self._latency = latency_seconds
        self._counts = counts
        self._listed: dict[str, list[str]] = {}

    def run(self, listening: socket.socket) -> None:
        asyncio.run(self._run(listening))

    async def _run(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(self._serve, sock=listening)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
                self._begin()
                await asyncio.sleep(self._latency)
                status, body, more = self._answer(method, target)
                self._end(len(body))
                lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more, "", ""]
                writer.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else body))
                await writer.drain()
        writer.close()

    def _begin(self) -> None:
        with self._counts.get_lock():
            self._counts[REQUESTS] += 1
            self._counts[UNDER_WAY] += 1
            self._counts[AT_ONCE] = max(self._counts[AT_ONCE], self._counts[UNDER_WAY])

    def _end(self, size: int) -> None:
        with self._counts.get_lock():
            self._counts[UNDER_WAY] -= 1
            self._counts[BYTES] += size

    def _answer(self, method: str, target: str) -> tuple[str, bytes, list[str]]:
        path, _, query = target.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        hidden = bucket == WITHOUT and key.startswith("snapshots/")
        if method == "GET" and "list-type=2" in query:
            asked = {name: values[0] for name, values in parse_qs(query).items()}
            return "200 OK", self._page(bucket, asked), ["Content-Type: application/xml"]
        if method not in {"GET", "HEAD"}:
            return "403 Forbidden", _error("AccessDenied"), ["Content-Type: application/xml"]
        if not key:
            return "200 OK", b"", []
        file = self._folder / key
        if hidden or ".." in file.parts or not file.is_file():
            return "404 Not Found", _error("NoSuchKey"), ["Content-Type: application/xml"]
        return "200 OK", file.read_bytes(), ['ETag: "0"', f"Last-Modified: {_http_date(file)}"]

    def _page(self, bucket: str, asked: dict[str, str]) -> bytes:
        prefix, token = asked.get("prefix", ""), asked.get("continuation-token", "")
        if bucket == WITHOUT and prefix.startswith("snapshots/"):
            keys: list[str] = []
        else:
            if not token:
                below = (self._folder / prefix).rglob("*")
                found = (each for each in below if each.is_file())
                self._listed[prefix] = sorted(each.relative_to(self._folder).as_posix() for each in found)
            keys = self._listed[prefix]
        start = int(token or 0)
        page, is_truncated = keys[start : start + PAGE], start + PAGE < len(keys)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_iso(self._folder / key)}</LastModified><Size>1</Size></Contents>"
            for key in page
        )
        end = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if is_truncated else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{end}{contents}</ListBucketResult>"
        ).encode()


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>the bench</Message></Error>".encode()


def _iso(file: Path) -> str:
    return f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%dT%H:%M:%S.000Z}"


def _http_date(file: Path) -> str:
    return f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%a, %d %b %Y %H:%M:%S GMT}"
