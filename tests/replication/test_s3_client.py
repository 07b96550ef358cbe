"""What a client of a store is made of, and that it is read once."""

from typing import Any

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
