"""What a client of a store is made of, and that it is read once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import botocore.session
import pytest
from botocore.loaders import JSONFileLoader

from appliance.replication.destinations import s3_client


def test_the_descriptions_of_the_service_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    s3_client.connect("ca-central-1", "http://127.0.0.1:1", ("key", "secret"))
    read: list[str] = []
    load = JSONFileLoader.load_file

    def counted(self: JSONFileLoader, file_path: str) -> object:
        read.append(file_path)
        return load(self, file_path)

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    folders = s3_client._descriptions().search_paths
    for key in ("one", "another"):
        client = s3_client.connect("ca-west-1", "", (key, "secret"))
        assert client.meta.region_name == "ca-west-1"
    assert not read
    assert s3_client._descriptions().search_paths == folders, "no folder more with each client"


def test_it_tries_once_and_keeps_its_checksums_to_itself() -> None:
    ours: Any = s3_client.connect("ca-central-1", "http://127.0.0.1:1", ("key", "secret")).meta.config
    assert ours.retries["total_max_attempts"] == 1
    assert (ours.request_checksum_calculation, ours.s3["addressing_style"]) == ("when_required", "path")


@contextmanager
def sessions_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    made: list[str] = []
    make = botocore.session.Session.__init__

    def counted(self: botocore.session.Session, *args: Any, **more: Any) -> None:
        made.append("one")
        make(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(botocore.session.Session, "__init__", counted)
        yield made


def signer_of(client: Any) -> tuple[str, str]:
    credentials = client._request_signer._credentials
    return credentials.access_key, credentials.secret_key


def test_clients_of_a_given_key_share_one_session_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    first: Any = s3_client.connect("ca-central-1", "http://127.0.0.1:1", ("one", "secret of one"))
    with sessions_counted(monkeypatch) as made:
        other: Any = s3_client.connect("ca-west-1", "http://127.0.0.1:2", ("other", "secret of the other"))
    assert not made
    assert (first.meta.region_name, first.meta.endpoint_url) == ("ca-central-1", "http://127.0.0.1:1")
    assert (other.meta.region_name, other.meta.endpoint_url) == ("ca-west-1", "http://127.0.0.1:2")
    assert (signer_of(first), signer_of(other)) == (
        ("one", "secret of one"),
        ("other", "secret of the other"),
    )
    heard: list[str] = []
    first.meta.events.register("tests.said", lambda **_: heard.append("first"))
    other.meta.events.emit("tests.said")
    assert not heard
    first.meta.events.emit("tests.said")
    assert heard == ["first"]


def test_threads_make_clients_side_by_side() -> None:
    def make(number: int) -> tuple[str, str]:
        return signer_of(
            s3_client.connect("ca-central-1", f"http://127.0.0.1:{number}", (f"key{number}", "x"))
        )

    with ThreadPoolExecutor(8) as pool:
        assert [name for name, _ in pool.map(make, range(1, 25))] == [f"key{each}" for each in range(1, 25)]


def test_who_this_machine_says_it_is_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        assert signer_of(s3_client.connect("ca-central-1", "", ("", ""))) == (name, "secret")
