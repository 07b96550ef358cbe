"""A second S3 server on loopback, which has nothing in common with moto: Debian's Ceph, behind its object gateway.

A monitor, one store in memory and the gateway, each a process of its own in a folder of its own; nothing outlives it. It differs from
moto where stores in the field differ from S3: it keeps no SHA-256 of an object and refuses no wrong one, it takes a write under
a name that is taken whatever ``If-None-Match`` says (the release of Debian 12), and it asks at every request who may do what.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.replication.cloud import REGION, Cloud
from tests.replication.receivers import free_port

CLASSES = ("STANDARD_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")
PATIENCE_SECONDS = 300
_ALLOW = '\tcaps mon = "allow *"\n\tcaps osd = "allow *"\n\tcaps mgr = "allow *"\n'


@dataclass
class Gateway(Cloud):
    """The server, and what whoever runs it can do."""

    admin: Callable[..., None] = lambda *_: None

    def days_go_by(self, bucket: str) -> None:
        """Carry out the life cycle of a bucket, a second of age counting as a day."""
        self.admin("lc", "process", f"--bucket={bucket}", "--rgw_lc_debug_interval=1")


@contextmanager
def gateway() -> Iterator[Gateway]:
    """The server, ready, with the user whom every test is, who owns the buckets."""
    folder = Path(tempfile.mkdtemp(prefix="ceph-"))
    running: list[subprocess.Popen[bytes]] = []
    try:
        yield _Cluster(folder, running).start()
    finally:
        for each in reversed(running):
            each.kill()
            each.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def policies_enforced(server: Cloud, policy: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The access key of a user who has `policy`, and no bucket of its own; this server always asks who may do what.

    Debian 12's release has no word for the encryption's settings, and refuses a policy that has one: what is not granted is denied.
    """
    unknown = "s3:PutEncryptionConfiguration"
    known = [
        {**each, "Action": [act for act in each["Action"] if act != unknown]} for each in policy["Statement"]
    ]
    policy = {**policy, "Statement": known}
    iam = boto3.client(
        "iam",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
    )
    iam.put_user_policy(UserName="box", PolicyName="printed", PolicyDocument=json.dumps(policy))
    yield "box", "box"
    iam.delete_user_policy(UserName="box", PolicyName="printed")


class _Cluster:
    """What is started, in that order, and where its files are."""

    def __init__(self, folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
        self._folder, self._running = folder, running
        self._environment = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
        self._monitor, self._gateway = free_port(), free_port()

    def start(self) -> Gateway:
        cluster, disk = str(uuid.uuid4()), str(uuid.uuid4())
        for name in ("mon", "osd", "rgw", "crash"):
            (self._folder / name).mkdir()
        (self._folder / "ceph.conf").write_text(self._configuration(cluster))
        names = ("mon.", "client.admin", "osd.0", "client.rgw")
        (self._folder / "keyring").write_text(
            "".join(f"[{each}]\n\tkey = {_new_key()}\n{_ALLOW}" for each in names)
        )
        address = f"[v2:127.0.0.1:{self._monitor}/0]"
        self._do("monmaptool", "--create", "--fsid", cluster, "--addv", "a", address, "monmap")
        self._do("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        self._begin("ceph-mon", "-f", "-i", "a")
        self._do("ceph", "osd", "new", disk, "0")
        self._do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._begin("ceph-osd", "-f", "-i", "0")
        key = ("--access-key=tests", "--secret=tests")
        self._admin("user", "create", "--uid=tests", "--display-name=tests", *key)  # makes the zone, too
        key = ("--access-key=box", "--secret=box")
        self._admin("user", "create", "--uid=box", "--display-name=box", *key)  # may nothing yet
        self._admin("caps", "add", "--uid=tests", "--caps=user-policy=*")
        self._admin("zonegroup", "modify", "--rgw-zonegroup=default", f"--api-name={REGION}")
        place = ("--placement-id", "default-placement", "--storage-class")
        for each in CLASSES:
            self._admin("zonegroup", "placement", "add", "--rgw-zonegroup=default", *place, each)
            self._admin("zone", "placement", "add", *place, each, "--data-pool", "default.rgw.cold.data")
        self._begin("radosgw", "-f", "-n", "client.rgw", "--no-mon-config")
        self._wait()
        return Gateway(self._gateway, admin=self._admin)

    def _configuration(self, cluster: str) -> str:
        here = self._folder
        return f"""[global]
fsid = {cluster}
mon_host = [v2:127.0.0.1:{self._monitor}/0]
ms_bind_msgr1 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = {here}/keyring
auth_allow_insecure_global_id_reclaim = false
run_dir = {here}
crash_dir = {here}/crash
admin_socket =
pid_file =
log_file = {here}/$name.log
mon_data = {here}/mon
osd_data = {here}/osd
mon_data_avail_warn = 0
mon_data_avail_crit = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 5000
osd_objectstore = memstore
memstore_device_bytes = 2147483648
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0

[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{self._gateway}
rgw_data = {here}/rgw
rgw_run_sync_thread = false
rgw_dynamic_resharding = false
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_enable_quota_threads = false
"""

    def _admin(self, *words: str) -> None:
        self._do("radosgw-admin", "-n", "client.rgw", *words)

    def _do(self, *command: str) -> None:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr[-2000:])

    def _begin(self, *command: str) -> None:
        with (self._folder / f"{command[0]}.out").open("wb") as said:
            self._running.append(
                subprocess.Popen(
                    command,
                    cwd=self._folder,
                    env=self._environment,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._gateway}/", timeout=30).close()
            except urllib.error.HTTPError:
                return
            except OSError:
                assert all(each.poll() is None for each in self._running), self._said()
                assert time.monotonic() < deadline, self._said()
                time.sleep(0.1)
            else:
                return

    def _said(self) -> dict[str, str]:
        return {each.name: each.read_text()[-2000:] for each in self._folder.glob("*.out")}


def _new_key() -> str:
    """A key of Ceph's: kind, when it was made, how long it is, and 16 random bytes."""
    return base64.b64encode(
        struct.pack("<HIIH", 1, int(time.time()), 0, 16) + secrets.token_bytes(16)
    ).decode()
