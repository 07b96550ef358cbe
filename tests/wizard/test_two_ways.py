"""The pages of setting up and a file of answers come to the same box: each setting, person, machine, copy and rule."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance import certificates, health, settings
from appliance.box import Box, open_box
from appliance.catalog import destinations, devices, people, rules
from appliance.config import Config, DicomConfig
from appliance.identity.passwords import verify_password
from appliance.store import keys
from appliance.web import create_app
from appliance.wizard import answers, checks, headless, progress
from appliance.wizard.steps import Step
from tests.replication.cloud import cloud
from tests.replication.file_servers import proftpd
from tests.replication.shares import PASSWORD as SHARE_PASSWORD
from tests.replication.shares import SHARE, samba
from tests.web.conftest import PASSWORD
from tests.web.test_setup import CLINIC, claimed, copied, send
from tests.wizard.test_checks import NOWHERE

pytestmark = pytest.mark.slow

ANSWERED = (Step.CLAIM, Step.CLINIC, Step.NETWORK, Step.RECOVERY, Step.STORAGE, Step.DEVICES)
FOUND_OUT = ("mark",)
"""What a place is given when it is made ready: another each time."""


@dataclass(frozen=True)
class Places:
    """Where the copies go. Each box finds them empty."""

    disk: Path
    server: Mapping[str, Any]
    server_folder: Path
    server_password: str
    fingerprint: str
    share: Mapping[str, Any]
    share_folder: Path
    bucket: Mapping[str, Any]
    empty_bucket: Callable[[], None]

    def empty(self) -> None:
        """As before anybody was there."""
        for folder in (self.disk, self.server_folder, self.share_folder):
            for each in folder.iterdir():
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        self.empty_bucket()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Places]:
    disk = tmp_path / "usb"
    disk.mkdir()
    with cloud() as store, proftpd(tmp_path / "nas") as nas, samba(tmp_path / "shares") as shares:
        bucket, client = store.new_bucket(), store.client()

        def empty_bucket() -> None:
            for key in store.keys(bucket):
                client.delete_object(Bucket=bucket, Key=key)

        yield Places(
            disk=disk,
            server={"address": "127.0.0.1", "port": nas.port, "folder": str(nas.folder), "user": nas.user},
            server_folder=Path(nas.folder),
            server_password=nas.secret,
            fingerprint=str(nas.trusted(nas.folder).options["host_key"]).rpartition(" ")[2],
            share={"address": "127.0.0.1", "port": shares.port, "share": SHARE, "user": shares.user},
            share_folder=shares.data,
            bucket={
                "bucket": bucket,
                "region": "ca-central-1",
                "access_key_id": "tests",
                "endpoint_url": store.url,
            },
            empty_bucket=empty_bucket,
        )


@contextmanager
def blank(folder: Path) -> Iterator[Box]:
    box = open_box(Config(data=folder, dicom=DicomConfig(bind="127.0.0.1", port=1)))
    try:
        yield box
    finally:
        box.close()


DEVICES: tuple[dict[str, Any], ...] = (
    {"ae_title": "PANO1", "address": "192.168.1.40", "name": "Panoramique,  salle 2 "},
    {"ae_title": "CBCT", "address": "192.168.1.41", "name": ""},
)


def by_answers(box: Box, there: Places) -> None:
    secrets = {
        "owner": PASSWORD,
        "key": str(keys.show_recovery(health.keys_folder(box), box.root)),
        "cloud": "tests",
        "nas": there.server_password,
        "share": SHARE_PASSWORD,
    }

    def section(name: str, values: Mapping[str, Any]) -> str:
        lines = [
            f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
            for key, value in values.items()
        ]
        return "\n".join([name, *lines, ""])

    text = "\n".join(
        (
            section(
                "[owner]",
                {"login": "marie", "name": "Marie Tremblay", "language": "fr", "password_file": "owner"},
            ),
            section("[clinic]", CLINIC),
            section("[network]", {"host_name": "Imagerie"}),
            section("[recovery]", {"key_file": "key"}),
            section("[cloud]", {**there.bucket, "canadian": True, "secret_file": "cloud"}),
            section("[disk]", {"path": str(there.disk)}),
            section("[server]", {**there.server, "password_file": "nas", "fingerprint": there.fingerprint}),
            section("[share]", {**there.share, "password_file": "share"}),
            *(section("[[devices]]", each) for each in DEVICES),
        )
    )
    outcomes = list(
        headless.run(box, answers.parse(text), lambda _, name: secrets[name], lambda *_: None, "tests")  # type: ignore[arg-type]
    )
    wrong = [each for each in outcomes if each.ending is headless.Ending.FAILED]
    assert wrong == []


def by_the_pages(box: Box, there: Places, eventually: Callable[..., Any]) -> None:
    app = create_app(box)
    app.extensions["console"].checks._around = checks.Surroundings(way_out=NOWHERE)
    try:
        owner = claimed(app, box, "fr")

        def sent(address: str, /, **typed: str) -> None:
            answer = send(owner, f"/setup/{address}", **typed)
            assert answer.status_code == 303, (address, answer.get_data(as_text=True))

        sent("clinic", **CLINIC)
        sent("network", host_name="Imagerie")
        sent("account/later")
        sent("recovery", key=str(keys.show_recovery(health.keys_folder(box), box.root)))
        typed = {name: str(value) for name, value in there.bucket.items()}
        sent("storage/cloud", kind="bucket", canadian="1", secret="tests", **typed)
        eventually(lambda: copied(box, "s3"))
        sent("storage/cloud", kind="disk", path=str(there.disk))
        eventually(lambda: copied(box, "vault"))
        typed = {name: str(value) for name, value in there.server.items()}
        sent(
            "storage/cloud",
            kind="server",
            password=there.server_password,
            fingerprint=there.fingerprint,
            **typed,
        )
        eventually(lambda: copied(box, "sftp"))
        typed = {
            name if name == "share" else f"share_{name}": str(value) for name, value in there.share.items()
        }
        sent("storage/cloud", kind="share", share_password=SHARE_PASSWORD, **typed)
        eventually(lambda: copied(box, "smb"))
        for device in DEVICES:
            sent("devices/admit", port="", **device)
    finally:
        app.extensions["console"].watcher.close()
        app.extensions["console"].darkroom.close()


def told(box: Box) -> dict[str, Any]:
    """All that setting up decides, in words and numbers that are the same on two boxes set up alike."""
    with box.catalog.reading() as conn:
        certificate = certificates.installed(conn)
        assert certificate is not None
        plan = progress.plan_of(box, conn)
        return {
            "settings": {
                key: settings.secret(conn, box.root, key) if each.is_secret else settings.get(conn, key)
                for key, each in settings.SETTINGS.items()
            },
            "people": {
                (each.login, each.name, each.role, each.language, each.state)
                for each in people.people(conn)
                if verify_password(people.password_hash(conn, each.id), PASSWORD)
            },
            "devices": {
                (each.ae_title, each.address, each.name, each.port) for each in devices.devices(conn)
            },
            "destinations": {
                each.name: {
                    "kind": each.kind,
                    "takes": each.takes,
                    "secret": each.secret,
                    "paused": each.paused,
                    "options": {
                        key: "is there" if key in FOUND_OUT else value for key, value in each.options.items()
                    },
                }
                for each in destinations.destinations(conn)
            },
            "rules": {
                (each.destination, each.takes, each.device, each.modality, each.priority)
                for each in rules.rules(conn)
            },
            "certificate": (certificate.host_name, certificate.names, certificate.addresses),
            "recovery": keys.recovery_confirmed(health.keys_folder(box)),
            "steps": {step: plan.place(step).state for step in ANSWERED},
        }


def test_the_pages_and_the_answers_come_to_the_same_box(
    tmp_path: Path, there: Places, eventually: Callable[..., Any]
) -> None:
    with blank(tmp_path / "answers") as box:
        by_answers(box, there)
        answered = told(box)
    there.empty()
    with blank(tmp_path / "pages") as box:
        by_the_pages(box, there, eventually)
        clicked = told(box)
    for subject in clicked:
        assert answered[subject] == clicked[subject], subject
    assert len(answered["settings"]) > 40
    assert {each["kind"] for each in answered["destinations"].values()} == {"s3", "vault", "sftp", "smb"}
    assert len(answered["people"]) == 1
    assert len(answered["devices"]) == 2
    assert {str(each) for each in answered["steps"].values()} == {"done"}
