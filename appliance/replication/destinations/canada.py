"""Is this bucket in Canada? Pure.

Images of people in Québec stay in Canada unless a privacy assessment says otherwise (P-39.1 s.17), so this product
sends to no other place. A region is taken at its word only from AWS, where its name is a fact that `check` compares
with the bucket's own; for any other address nobody here can know where the machines stand, so the owner must declare
it.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from appliance.errors import Refused

AWS_REGIONS: Final = frozenset({"ca-central-1", "ca-west-1"})
"""The Canadian regions of AWS: Montréal and Calgary."""

_ELSEWHERE: Final = ("us-", "eu-", "ap-", "sa-", "af-", "me-", "il-", "cn-", "mx-", "eusc-")
_HINT = "use ca-central-1 (Montréal) or ca-west-1 (Calgary)"


def canadian(region: str, endpoint_url: str, marked: bool) -> None:
    """Raise `Refused`, with the reason, unless objects sent there stay in Canada.

    `endpoint_url` is empty for AWS itself; `marked` says that the owner has declared that address Canadian.
    """
    if not region:
        raise Refused("no region is given", hint=_HINT, field="region")
    if region.lower().startswith(_ELSEWHERE):
        raise Refused(f"the region {region} is not in Canada", hint=_HINT, field="region")
    if not endpoint_url:
        if region not in AWS_REGIONS:
            raise Refused(f"{region} is not a Canadian region of AWS", hint=_HINT, field="region")
        return
    host = _host(endpoint_url)
    if is_aws(endpoint_url):
        if region not in AWS_REGIONS:
            raise Refused(f"{region} is not a Canadian region of AWS", hint=_HINT, field="region")
        if region not in host.split("."):
            raise Refused(
                f"the address {host} is not the one of {region}",
                hint=f"leave the address out, or use s3.{region}.amazonaws.com",
                field="endpoint_url",
            )
        return
    if not marked:
        raise Refused(
            f"the address {host} is not known to be in Canada",
            hint="if its provider keeps objects in Canada, declare it: --canadian",
            field="endpoint_url",
        )


def is_aws(endpoint_url: str) -> bool:
    """Whether requests go to AWS itself; an empty address does."""
    host = _host(endpoint_url) if endpoint_url else "amazonaws.com"
    return host == "amazonaws.com" or host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def _host(endpoint_url: str) -> str:
    """The host of an address that may be used: HTTPS, or HTTP to this machine itself."""
    try:
        parts = urlsplit(endpoint_url)
        host = (parts.hostname or "").lower().rstrip(".")
        usable = parts.scheme in {"http", "https"} and host and parts.port != 0
    except ValueError as error:
        raise Refused(
            "that is not an address", hint="write it as https://s3.example.ca", field="endpoint_url"
        ) from error
    if not usable or parts.username or parts.password or parts.query or parts.fragment:
        raise Refused(
            "that is not an address of an S3 store",
            hint="write it as https://s3.example.ca",
            field="endpoint_url",
        )
    if parts.scheme == "http" and not _is_this_machine(host):
        raise Refused(
            f"the connection to {host} would not be encrypted",
            hint="write the address with https://",
            field="endpoint_url",
        )
    return host


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
