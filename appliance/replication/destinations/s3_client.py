"""A client of a store that speaks S3: what it may do by itself, and what is read once for the whole process.

The client's own checksums are "when required" only, since its CRC headers break some S3-compatible stores, and its own
retries are off: the courier retries, and counts. Who it is comes from the settings or from this machine, and is asked of nobody over the network.

botocore reads its descriptions of the service, 2 MB of JSON, anew for each session: a tenth of a second of a processor for each archive
that is opened, on a box that opens one for a single image. They are the same every time, so they are read once. A session itself costs half as
much again, mostly for handlers that are the same for each, so one serves every client whose key is given with it; what is this machine's is
looked for anew, since it may have changed.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Final

import boto3
import botocore.session
from botocore.config import Config as ClientConfig
from botocore.loaders import Loader

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PROVIDERS_OVER_THE_NETWORK: Final = frozenset(
    {
        "assume-role",
        "assume-role-with-web-identity",
        "sso",
        "login",
        "container-role",
        "iam-role",
        "custom-process",
    }
)


class _Descriptions(Loader):
    """Those of botocore, kept once they were read."""

    @property
    def search_paths(self) -> list[str]:
        """Where they are; a copy, since each session of boto3 adds its own folder, in which nothing of ours is."""
        return list(super().search_paths)


@cache
def _descriptions() -> _Descriptions:
    return _Descriptions()


_MAKING: Final = threading.Lock()
"""Sessions are not to be shared by threads; the clients that they make are."""


def _session() -> boto3.session.Session:
    """One that asks nobody over the network who it is."""
    session = botocore.session.Session()
    session.register_component("data_loader", _descriptions())
    providers = session.get_component("credential_provider")
    for name in _PROVIDERS_OVER_THE_NETWORK & {each.METHOD for each in providers.providers}:
        providers.remove(name)
    return boto3.session.Session(botocore_session=session)


_kept = cache(_session)


def connect(
    region: str, endpoint_url: str, key: tuple[str, str], more: ClientConfig | None = None
) -> S3Client:
    """A client, which threads may share. `key` is the access key's name and its secret, both empty for what this machine says.

    Nothing is asked yet. Raises as botocore, e.g. for an address that is none.
    """
    ours = ClientConfig(
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint_url else "virtual"},
        tcp_keepalive=True,
    )
    access_key_id, secret = key
    with _MAKING:
        session = _kept() if access_key_id and secret else _session()
        return session.client(
            "s3",
            region_name=region,
            endpoint_url=endpoint_url or None,
            aws_access_key_id=access_key_id or None,
            aws_secret_access_key=secret or None,
            config=ours if more is None else ours.merge(more),
        )
