"""Which options of an archive say where it is: an archive that moves is another one, and no receipt of the first counts for it."""

import pytest

from appliance.configuration import OPTIONS
from appliance.model import DestinationKind
from appliance.replication.place import is_same_place, where

ARCHIVES = ("s3", "vault", "sftp", "smb")
NOT_A_PLACE = {"access_key_id", "canadian", "login", "host_key", "public_key", "domain", "server_name"}
"""How one comes in, and what is known of who answers; whatever else an option may be, it says where the copies are."""


@pytest.mark.parametrize(
    ("kind", "option"),
    [(kind, option) for kind in ARCHIVES for option in OPTIONS[kind]],  # type: ignore[index]
)
def test_an_archive_with_another_place_is_another_archive(kind: str, option: str) -> None:
    before = dict.fromkeys(set(OPTIONS[kind]) - ({"mark"} - {option}), "one")  # type: ignore[index]
    moved = {**before, option: "other"}
    assert is_same_place(before, moved) == (option in NOT_A_PLACE), f"{kind}: {option}"


def test_a_disk_is_known_by_its_mark_wherever_it_is_mounted() -> None:
    assert is_same_place({"path": "/one", "mark": "m"}, {"path": "/other", "mark": "m"})
    assert not is_same_place({"path": "/one", "mark": "m"}, {"path": "/one", "mark": "n"})
    assert not is_same_place({"path": "/one", "mark": ""}, {"path": "/other", "mark": ""})


def test_a_bucket_of_aws_is_one_by_whichever_address_of_aws_it_is_asked_and_another_server_is_another() -> (
    None
):
    bucket = {"bucket": "b", "region": "ca-central-1"}
    for address in (
        "https://s3.ca-central-1.amazonaws.com",
        "https://s3.dualstack.ca-central-1.amazonaws.com/",
        "https://bucket.vpce-1a2b3c4d.s3.ca-central-1.vpce.amazonaws.com",
    ):
        assert is_same_place(bucket, {**bucket, "endpoint_url": address}), address
    for address in (
        "https://s3.example.ca",
        "https://amazonaws.com.example.ca",
        "https://b-12.op-34.s3-outposts.ca-central-1.amazonaws.com",
        "https://[",
    ):
        assert not is_same_place(bucket, {**bucket, "endpoint_url": address}), address


def test_an_address_that_is_only_spelled_otherwise_is_the_same() -> None:
    one = {"bucket": "b", "endpoint_url": "https://S3.Example.ca/"}
    assert is_same_place(one, {"bucket": "b", "endpoint_url": "https://s3.example.ca"})
    assert not is_same_place(one, {"bucket": "b", "endpoint_url": "https://s3.example.ca:9000"})


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("s3", {"bucket": "b", "region": "ca-central-1"}, "b · ca-central-1"),
        ("s3", {"bucket": "b", "region": "x", "endpoint_url": "https://s3.ca"}, "b · https://s3.ca"),
        ("vault", {"path": "/media/usb", "mark": "m"}, "/media/usb"),
        ("sftp", {"address": "nas", "folder": "/copies", "user": "u"}, "nas · /copies"),
        ("smb", {"address": "nas", "share": "copies", "folder": ""}, r"\\nas\copies"),
    ],
)
def test_a_person_is_told_where_an_archive_is(
    kind: DestinationKind, options: dict[str, str], said: str
) -> None:
    assert where(kind, options) == said
