"""The region guard: only places that keep images in Canada, and a reason for every other one."""

from __future__ import annotations

import pytest

from appliance.errors import Refused
from appliance.replication.destinations.canada import canadian, is_aws


@pytest.mark.parametrize("region", ["ca-central-1", "ca-west-1"])
@pytest.mark.parametrize("marked", [False, True])
def test_the_canadian_regions_of_aws_are_accepted(region: str, marked: bool) -> None:
    canadian(region, "", marked)
    canadian(region, f"https://s3.{region}.amazonaws.com", marked)
    canadian(region, f"https://bucket.s3.{region}.amazonaws.com", marked)


@pytest.mark.parametrize(
    "region", ["us-east-1", "us-west-2", "eu-central-1", "ap-southeast-2", "mx-central-1", "ca-north-9", ""]
)
@pytest.mark.parametrize("marked", [False, True])
def test_any_other_region_of_aws_is_refused_whatever_the_owner_declares(region: str, marked: bool) -> None:
    with pytest.raises(Refused) as refused:
        canadian(region, "", marked)
    assert "ca-central-1" in refused.value.hint


def test_another_provider_is_refused_until_the_owner_declares_it_canadian() -> None:
    with pytest.raises(Refused, match="not known to be in Canada") as refused:
        canadian("montreal", "https://s3.example.ca", False)
    assert "--canadian" in refused.value.hint
    canadian("montreal", "https://s3.example.ca", True)


def test_a_foreign_region_is_refused_at_another_provider_too() -> None:
    with pytest.raises(Refused, match="us-east-1 is not in Canada"):
        canadian("us-east-1", "https://s3.example.ca", True)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.us-east-1.amazonaws.com",
        "https://s3.amazonaws.com",
        "https://S3.EU-WEST-1.AMAZONAWS.COM.",
        "https://s3.cn-north-1.amazonaws.com.cn",
    ],
)
def test_an_address_of_aws_elsewhere_is_refused_even_if_declared_canadian(endpoint: str) -> None:
    with pytest.raises(Refused, match="is not the one of"):
        canadian("ca-central-1", endpoint, True)


def test_a_name_that_only_looks_like_aws_is_not_aws() -> None:
    assert not is_aws("https://amazonaws.com.example.ca")
    with pytest.raises(Refused, match="not known to be in Canada"):
        canadian("ca-central-1", "https://s3.ca-central-1.amazonaws.com.example.net", False)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"])
def test_only_this_machine_may_be_spoken_to_without_encryption(endpoint: str) -> None:
    canadian("ca-central-1", endpoint, True)
    with pytest.raises(Refused, match="not be encrypted"):
        canadian("ca-central-1", "http://192.168.1.9:9000", True)


@pytest.mark.parametrize(
    "endpoint",
    [
        "s3.example.ca",
        "ftp://s3.example.ca",
        "https://",
        "https://key:secret@s3.example.ca",
        "https://s3.example.ca/?x=1",
        "https://[::1",
        "https://a:99999",
    ],
)
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(Refused):
        canadian("ca-central-1", endpoint, True)
