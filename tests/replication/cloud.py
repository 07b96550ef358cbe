"""An S3 server (moto), on loopback if not said otherwise, and the bad line in front of it.

`Line` is an HTTP relay that counts requests and breaks them on purpose: it stands where the Internet stands.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, unquote

from botocore.config import Config as ClientConfig
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api import state_manager
from moto.s3.models import FakeKey, s3_backends
from moto.server import ThreadedMotoServer

from appliance.model import DestinationSettings
from appliance.replication.destinations import s3_client

REGION = "ca-central-1"
_BUCKETS = count(1)


@dataclass
class Cloud:
    """A running S3 server."""

    port: int
    _clients: dict[str, Any] = field(default_factory=dict)
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def client(self):
        """One, for as long as the server is the same."""
        if self.url not in self._clients:
            self._clients[self.url] = s3_client.connect(
                REGION, self.url, ("tests", "tests"), ClientConfig(retries={"total_max_attempts": 5})
            )
        return self._clients[self.url]

    def new_name(self, begins: str) -> str:
        """For a bucket: all servers of a process have theirs in one place, and one may come to the port of one that is gone."""
        return f"{begins}-{self.port}-{next(_BUCKETS)}"

    def new_bucket(self, *, versioned: bool = False) -> str:
        name = self.new_name("clinic")
        client = self.client()
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def get(self, bucket: str, key: str) -> bytes:
        return self.client().get_object(Bucket=bucket, Key=key)["Body"].read()

    def uploads(self, bucket: str) -> list[str]:
        return [
            each["Key"] for each in self.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        ]


def sink(cloud: Cloud, bucket: str, key: str, storage_class: str = "DEEP_ARCHIVE") -> None:
    """What a life cycle does: an object lies deep, and takes hours to come up once it is asked for, that is until `come_up`.

    moto moves nothing by itself: the object is copied over itself, and its state is set where the server keeps it.
    """
    cloud.client().copy_object(
        Bucket=bucket,
        Key=key,
        CopySource={"Bucket": bucket, "Key": key},
        StorageClass=storage_class,
        MetadataDirective="COPY",
    )
    state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": 1_000_000})
    _in_moto(bucket, key).status = "IN_PROGRESS"


def sink_version(bucket: str, key: str, version_id: str, storage_class: str = "DEEP_ARCHIVE") -> None:
    """Likewise for one version of an object, which stays that version."""
    state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": 1_000_000})
    found = _in_moto(bucket, key, version_id)
    found.set_storage_class(storage_class)
    found.status = "IN_PROGRESS"


def come_up(bucket: str, *keys: str, version_id: str | None = None) -> None:
    """The hours are over: what was asked for can be read."""
    for each in keys:
        _in_moto(bucket, each, version_id).status = "RESTORED"


def fill(bucket: str, *keys: str) -> None:
    """Lay small objects there without asking by HTTP for each: a thousand of them took fifteen seconds."""
    for each in keys:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, each, b"x")


def _in_moto(bucket: str, key: str, version_id: str | None = None) -> FakeKey:
    found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key, version_id=version_id)
    assert isinstance(found, FakeKey)
    return found


def _restore_version(path: str, version_id: str) -> tuple[int, str]:
    """What S3 answers who asks for a version to be fetched: moto takes no notice of the version, and fetches the newest."""
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key, version_id=version_id)
    if not isinstance(found, FakeKey):
        return 404, "NoSuchVersion"
    if found.storage_class not in {"GLACIER", "DEEP_ARCHIVE"}:
        return 403, "InvalidObjectState"
    if 'ongoing-request="true"' in found.response_dict.get("x-amz-restore", ""):
        return 409, "RestoreAlreadyInProgress"
    found.restore(7)
    return 202, ""


def age(bucket: str, by: timedelta) -> None:
    """Let time go by since everything in a bucket was written: whoever says a moment in the console says it to the minute."""
    kept = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys
    for key in list(kept):
        for each in kept.getlist(key, []):
            each.last_modified -= by


@contextmanager
def cloud(port: int = 0, host: str = "127.0.0.1") -> Iterator[Cloud]:
    """A server at a free port, or at `port`, of this machine or of its address `host`; of all servers of a process each has what lies in the others."""
    server = ThreadedMotoServer(host, port=port, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        yield Cloud(port, host=host)
    finally:
        server.stop()


def settings(url: str, bucket: str, **options: str | int | bool) -> DestinationSettings:
    """A destination at `url`, declared Canadian."""
    all_options: dict[str, str | int | bool] = {
        "bucket": bucket,
        "region": REGION,
        "endpoint_url": url,
        "canadian": True,
        "access_key_id": "tests",
        **options,
    }
    return DestinationSettings("cloud", "s3", "ciphertext", all_options, "tests")


class Fault(Enum):
    """What happens to a request."""

    HANG_UP = "the connection is cut before anything is sent on"
    CUT = "the connection is cut in the middle of the body"
    RESET = "the connection is reset in the middle of the body"
    CUT_ANSWER = "the request arrives, and the connection is cut in the middle of the answer"
    RESET_ANSWER = "the request arrives, and the connection is reset in the middle of the answer"
    SHORT_ANSWER = "the request arrives, and half of the answer comes as if it were all of it"
    LOSE_ANSWER = "the request arrives, the answer does not"
    ERROR_IN_200 = "nothing is done, and what is said after 200 is that it failed"
    PAGE = "somebody else answers 200, with a page for people"
    ABSENT_PAGE = "somebody else answers 404, with a page for people"
    UNAVAILABLE = "503 SlowDown"
    BROKEN = "500 InternalError"
    FORBIDDEN = "403 AccessDenied"
    BAD_REQUEST = "400 InvalidRequest"
    ASKED_ALREADY = "409 RestoreAlreadyInProgress"
    SKEWED = "403 RequestTimeTooSkewed"
    NOT_ALLOWED = "405 MethodNotAllowed"
    NOT_IMPLEMENTED = "501 NotImplemented"
    NOT_THERE = "404 NoSuchKey"
    NO_BUCKET = "404 NoSuchBucket"


_FOR_PEOPLE = b"<!doctype html><html><head><title>Maintenance<body><p>We are back soon."
_ANSWERS = {
    Fault.UNAVAILABLE: (503, "SlowDown"),
    Fault.BROKEN: (500, "InternalError"),
    Fault.FORBIDDEN: (403, "AccessDenied"),
    Fault.BAD_REQUEST: (400, "InvalidRequest"),
    Fault.ASKED_ALREADY: (409, "RestoreAlreadyInProgress"),
    Fault.SKEWED: (403, "RequestTimeTooSkewed"),
    Fault.NOT_ALLOWED: (405, "MethodNotAllowed"),
    Fault.NOT_IMPLEMENTED: (501, "NotImplemented"),
    Fault.NOT_THERE: (404, "NoSuchKey"),
    Fault.NO_BUCKET: (404, "NoSuchBucket"),
    Fault.ERROR_IN_200: (200, "InternalError"),
}


@dataclass(frozen=True)
class Request:
    """One request that reached the line."""

    method: str
    path: str
    query: str
    at: float
    length: int
    key_id: str = ""
    """Of the access key that signed it."""

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and "partNumber" in self.query


@dataclass
class Uplink:
    """So many bytes a second, for everything that goes up at once: whoever sends next waits for those before.

    `carried_bytes` went through since `began_at`, by the monotonic clock.
    """

    bytes_per_second: float
    carried_bytes: int = 0
    began_at: float = 0.0
    _free_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def carry(self, count: int) -> None:
        """Return when `count` more bytes are through."""
        with self._lock:
            now = time.monotonic()
            self.began_at = self.began_at or now
            self._free_at = max(now, self._free_at) + count / self.bytes_per_second
            wait = self._free_at - now
        time.sleep(max(0.0, wait))
        with self._lock:
            self.carried_bytes += count


@dataclass
class Line:
    """The relay. `fault` is asked about every request, and `answered` is told once the server has done it, before the answer goes back;
    `down` hangs up on everything; `bytes_per_second` slows each body and each answer, `uplink` all bodies together.
    """

    to: int
    fault: Callable[[Request], Fault | None] = lambda _: None
    answered: Callable[[Request], None] = lambda _: None
    down: bool = False
    bytes_per_second: float = 0.0
    uplink: Uplink | None = None
    requests: list[Request] = field(default_factory=list)
    fetched_by: list[bytes] = field(default_factory=list)
    """What was said when objects were asked for that lie deep."""
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, fragment: str = "") -> int:
        with self.lock:
            return sum(each.method == method and fragment in each.path for each in self.requests)

    def per_object(self) -> Counter[str]:
        """How many requests named each sealed object."""
        with self.lock:
            return Counter(each.path for each in self.requests if "/objects/" in each.path)


@contextmanager
def line(to: int) -> Iterator[Line]:
    """A line to the server at port `to` of this machine."""
    the_line = Line(to)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Relay,), {"line": the_line}))
    server.daemon_threads = True
    the_line.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield the_line
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    line: Line

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def handle(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            super().handle()

    def handle_expect_100(self) -> bool:
        return True if self.line.down else super().handle_expect_100()

    def relay(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        signed = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization") or "")
        request = Request(
            self.command, path, query, time.monotonic(), length, signed[1] if signed is not None else ""
        )
        with self.line.lock:
            self.line.requests.append(request)
        fault = Fault.HANG_UP if self.line.down else self.line.fault(request)
        if fault is Fault.HANG_UP:
            return self.hang_up()
        if fault in {Fault.CUT, Fault.RESET}:
            self.rfile.read(length // 2)
            return self.hang_up() if fault is Fault.CUT else self.reset()
        body = self.body(length)
        if request.method == "POST" and "restore" in query:
            self.line.fetched_by.append(body)
        if fault in _ANSWERS:
            return self.answer_error(*_ANSWERS[fault])
        if fault in {Fault.PAGE, Fault.ABSENT_PAGE}:
            return self.answer(200 if fault is Fault.PAGE else 404, "text/html", _FOR_PEOPLE)
        asked = parse_qs(query, keep_blank_values=True)
        if request.method == "POST" and "restore" in asked and "versionId" in asked:
            status, code = _restore_version(path, asked["versionId"][0])
            return self.answer_error(status, code) if code else self.answer(status, "application/xml", b"")
        onward = http.client.HTTPConnection("127.0.0.1", self.line.to, timeout=60)
        try:
            onward.request(self.command, self.path, body, dict(self.headers.items()))
            answer = onward.getresponse()
            content = answer.read()
        finally:
            onward.close()
        self.line.answered(request)
        if fault is Fault.LOSE_ANSWER:
            return self.hang_up()
        is_whole = fault not in {Fault.CUT_ANSWER, Fault.RESET_ANSWER}
        if fault is Fault.SHORT_ANSWER:
            content = content[: len(content) // 2]
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        own = answer.getheader("Content-Length")
        self.send_header("Content-Length", own if self.command == "HEAD" and own else str(len(content)))
        self.end_headers()
        self.give(content if is_whole else content[: len(content) // 2])
        if not is_whole:
            return self.hang_up() if fault is Fault.CUT_ANSWER else self.reset()
        return None

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay  # noqa: N815

    def body(self, length: int) -> bytes:
        rate, uplink = self.line.bytes_per_second, self.line.uplink
        if not rate and uplink is None:
            return self.rfile.read(length)
        pieces = []
        while length:
            piece = self.rfile.read(min(length, 64 << 10))
            if not piece:
                break
            pieces.append(piece)
            length -= len(piece)
            if rate:
                time.sleep(len(piece) / rate)
            if uplink is not None:
                uplink.carry(len(piece))
        return b"".join(pieces)

    def give(self, content: bytes) -> None:
        rate = self.line.bytes_per_second
        for start in range(0, len(content), 64 << 10):
            piece = content[start : start + (64 << 10)]
            self.wfile.write(piece)
            if rate:
                time.sleep(len(piece) / rate)

    def reset(self) -> None:
        """What a machine does that has forgotten the connection."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def answer_error(self, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
        self.answer(status, "application/xml", content)

    def answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
