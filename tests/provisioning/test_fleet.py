"""The fleet's playbooks with living boxes on loopback: who is in the inventory, and rings that halt."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import settings
from appliance.fleet import consent, heartbeat, pulse
from tests.boxes import box_in
from tests.fleet.outposts import Vendor, vendor
from tests.provisioning.test_playbooks import PROVISIONING, tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = PROVISIONING.parent
NEXT = "0.2.0"


@dataclass(frozen=True)
class Member:
    """A box of the fleet: its data folder, and how it is known."""

    data: Path
    name: str
    key: str


@dataclass
class Fleet:
    """Three boxes, and the vendor's side of them."""

    folder: Path
    vendor: Vendor
    members: list[Member]
    authority: Path
    versions: Path

    def play(self, book: str, **values: object) -> subprocess.CompletedProcess[str]:
        told = {"fleet_key_file": str(self.authority), "fleet_delay_seconds": 1, "fleet_retries": 60} | values
        words = [tool("ansible-playbook"), "-i", str(self.folder / "fleet.yml"), book, "-e", json.dumps(told)]
        return self._run(words)

    def inventory(self) -> tuple[list[str], str]:
        """The hosts, and what was said besides."""
        told = self._run([tool("ansible-inventory"), "-i", str(self.folder / "fleet.yml"), "--list"])
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout).get("fleet", {}).get("hosts", []), re.sub(r"\s+", " ", told.stderr)

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        places = {
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "local"),
        }
        home = os.environ | places | {"NO_COLOR": "1", "COLUMNS": "400", "PYTHONPATH": str(ROOT)}
        return subprocess.run(words, cwd=PROVISIONING, env=home, capture_output=True, text=True, check=False)

    def wanted_of(self, member: Member) -> bool:
        return (self.vendor.folder / "wanted" / f"{member.name}.json").exists()

    @contextmanager
    def alive(self, *ill: int) -> Iterator[None]:
        """The boxes live, each a process; those whose places are in `ill` fall ill when something is wanted of them."""
        words = [sys.executable, "-m", "tests.provisioning.living_box"]
        home = os.environ | {"PYTHONPATH": str(ROOT)}
        started = [
            subprocess.Popen(
                [*words, str(each.data), str(self.versions), *(["ill"] if place in ill else [])],
                cwd=self.folder,
                env=home,
            )
            for place, each in enumerate(self.members)
        ]
        try:
            yield
        finally:
            for each in started:
                each.kill()
                each.wait()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    private = Ed25519PrivateKey.generate()
    authority = folder / "fleet.key"
    authority.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    now = datetime.now(UTC)
    with vendor(folder / "board") as there:
        members = []
        for number in range(3):
            with box_in(folder / f"box-{number}") as box, box.catalog.transaction() as tx:
                key = consent.public(consent.key_of(tx, box, now))
                chosen = there.settings() | {"heartbeat.authority": public.decode()}
                settings.change(tx, box.audit_key, chosen, actor="tests", now=now, root=box.root)
                consent.agree(tx, consent.terms(tx), "tests", now)
            members.append(Member(folder / f"box-{number}", heartbeat.name_of(key), key))
        versions = folder / "versions"
        shutil.copytree(ROOT / "appliance", versions / NEXT / "appliance")
        (versions / NEXT / "tests").symlink_to(ROOT / "tests")
        package = versions / NEXT / "appliance/__init__.py"
        package.write_text(package.read_text().replace('"0.1.0"', f'"{NEXT}"'))
        register = [
            {"name": each.name, "key": each.key, "clinic": f"clinic {n}"} for n, each in enumerate(members)
        ]
        (folder / "fleet.yml").write_text(
            yaml.safe_dump({"plugin": "appliance_fleet", "board": "board", "register": register})
        )
        yield Fleet(folder, there, members, authority, versions)


@pytest.fixture(autouse=True)
def nothing_wanted(fleet: Fleet) -> None:
    for folder in ("wanted", "boxes"):
        for each in (fleet.vendor.folder / folder).glob("*"):
            each.unlink()


def heard(fleet: Fleet, member: Member) -> dict[str, Any]:
    data = (fleet.vendor.folder / "boxes" / f"{member.name}.json").read_bytes()
    return dict(heartbeat.received(data).document)


def is_heard(fleet: Fleet, member: Member) -> bool:
    path = fleet.vendor.folder / "boxes" / f"{member.name}.json"
    return path.exists() and heard(fleet, member)["state"] == "ready"


def chosen(member: Member) -> int:
    with box_in(member.data) as box, box.catalog.reading() as conn:
        return int(settings.get(conn, "health.disk_days"))


def test_a_fleet_is_configured_ring_by_ring_and_a_second_run_changes_nothing(
    fleet: Fleet, eventually: Callable[..., object]
) -> None:
    with fleet.alive():
        eventually(lambda: all(is_heard(fleet, each) for each in fleet.members), within_seconds=120)
        told = fleet.play("fleet-configure.yml", fleet_settings={"health.disk_days": 45})
        assert told.returncode == 0, told.stdout + told.stderr
        assert told.stdout.count("PLAY [Choose limits") == 3, "three rings of one box each"
        again = fleet.play("fleet-configure.yml", fleet_settings={"health.disk_days": 45})
        assert re.findall(r"changed=(\d+)", again.stdout) == ["0"] * 4, again.stdout
        healthy = fleet.play("fleet-health.yml", fleet_report=str(fleet.folder / "report.json"))
        assert healthy.returncode == 0, healthy.stdout
    assert [chosen(each) for each in fleet.members] == [45] * 3
    report = json.loads((fleet.folder / "report.json").read_text())
    assert [each["box"] for each in report] == [each.name for each in fleet.members]


def test_an_update_goes_on_ring_by_ring_and_halts_where_a_box_is_not_well_afterwards(
    fleet: Fleet, eventually: Callable[..., object]
) -> None:
    first, ill, last = fleet.members
    with fleet.alive(1):
        eventually(lambda: all(is_heard(fleet, each) for each in fleet.members), within_seconds=120)
        told = fleet.play("fleet-update.yml", fleet_software=NEXT, fleet_retries=8)
        assert told.returncode != 0
        assert (heard(fleet, first)["software"], heard(fleet, first)["state"]) == (NEXT, "ready")
        assert heard(fleet, ill)["state"] == "not-ready"
        health = fleet.play("fleet-health.yml", fleet_report=str(fleet.folder / "report.json"))
        assert health.returncode != 0
        assert re.search(r"clinic 1: \S", health.stdout), "whoever is needed is named, and by what"
        assert "clinic 0:" not in health.stdout
    assert not fleet.wanted_of(last), "the last ring heard nothing of it"


def test_of_a_hundred_boxes_one_is_told_first_then_five_then_twenty_five_then_all(tmp_path: Path) -> None:
    """By Ansible itself, which makes the rings: the plays' own words, on hosts that only say that they were reached."""
    books = ("fleet-configure.yml", "fleet-update.yml")
    play, other = (yaml.safe_load((PROVISIONING / book).read_text())[-1] for book in books)
    for word in ("serial", "order", "any_errors_fatal"):
        assert play[word] == other[word], word
    assert play["any_errors_fatal"] is True
    assert play["order"] == "inventory"
    reached = {"name": "Reached", "ansible.builtin.debug": {"msg": "reached"}}
    alone = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "order": play["order"],
        "serial": play["serial"],
        "tasks": [reached],
    }
    (tmp_path / "rings.yml").write_text(yaml.safe_dump([alone]))
    boxes = ",".join(f"box-{number:03}" for number in range(100))
    told = subprocess.run(
        [tool("ansible-playbook"), "-f", "50", "-i", f"{boxes},", str(tmp_path / "rings.yml")],
        env=os.environ | {"ANSIBLE_HOME": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("PLAY RECAP")[0]
    rings = [re.findall(r"^ok: \[(box-\d+)\]", ring, re.MULTILINE) for ring in told.split("PLAY [")[1:]]
    assert [sum(map(len, rings[: place + 1])) for place in range(len(rings))] == [1, 5, 25, 100]
    assert rings[0] == ["box-000"], "the register's first one is the canary"


def sent(member: Member, at: datetime) -> bytes:
    with box_in(member.data) as box:
        told = pulse.document(box, at)
        with box.catalog.transaction() as tx:
            return heartbeat.signed(told, consent.key_of(tx, box, at))


@pytest.mark.parametrize("heard_places", [(1, 2), ()])
def test_nothing_is_said_to_any_box_while_the_first_of_the_register_is_not_heard(
    fleet: Fleet, heard_places: tuple[int, ...]
) -> None:
    for place in heard_places:
        member = fleet.members[place]
        path = fleet.vendor.folder / "boxes" / f"{member.name}.json"
        path.write_bytes(sent(member, datetime.now(UTC)))
    told = fleet.play("fleet-configure.yml", fleet_settings={"health.disk_days": 50}, fleet_retries=1)
    assert told.returncode != 0, told.stdout
    assert f"{fleet.members[0].name} is the first of the register" in told.stdout
    assert not any(map(fleet.wanted_of, fleet.members))


def test_only_signed_fresh_heartbeats_of_registered_boxes_are_in_the_inventory(fleet: Fleet) -> None:
    boxes = fleet.vendor.folder / "boxes"
    stale, forged, good = fleet.members

    now = datetime.now(UTC)
    (boxes / f"{stale.name}.json").write_bytes(sent(stale, now - timedelta(hours=2)))
    (boxes / f"{forged.name}.json").write_bytes(sent(good, now))
    (boxes / f"{good.name}.json").write_bytes(sent(good, now))
    (boxes / "0123456789abcdef.json").write_bytes(sent(good, now))
    hosts, said = fleet.inventory()
    assert hosts == [good.name]
    assert f"{stale.name} is not in the fleet now: stale" in said
    assert f"{forged.name} is not in the fleet now: stranger" in said
    assert "0123456789abcdef is not in the fleet now: stranger" in said
    altered = (boxes / f"{good.name}.json").read_text().replace("ready", "reedy")
    (boxes / f"{good.name}.json").write_text(altered)
    assert fleet.inventory()[0] == []
