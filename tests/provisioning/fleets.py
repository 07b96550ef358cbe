"""A fleet on loopback: boxes that live, each a process, what their vendor has of them, and the playbooks that are for them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import settings
from appliance.fleet import consent, heartbeat
from tests.boxes import box_in
from tests.fleet.outposts import Vendor

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "provisioning"


@dataclass(frozen=True)
class Member:
    """A box of the fleet: its data folder, and how it is known."""

    data: Path
    name: str
    key: str


@dataclass(frozen=True)
class Play:
    """A playbook that was begun."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    @property
    def said(self) -> str:
        return self.log.read_text()


@dataclass
class Fleet:
    """Boxes, and the vendor's side of them: `authority` is the file of its key, `versions` a folder with the software by version."""

    folder: Path
    vendor: Vendor
    members: list[Member] = field(default_factory=list)
    public: str = ""

    def __post_init__(self) -> None:
        private = Ed25519PrivateKey.generate()
        self.authority.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
        )
        public = private.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        self.public = public.decode()

    @property
    def authority(self) -> Path:
        return self.folder / "fleet.key"

    @property
    def versions(self) -> Path:
        return self.folder / "versions"

    def enrol(self, name: str) -> Member:
        """A new box in a folder of that name, whose clinic has agreed."""
        now = datetime.now(UTC)
        with box_in(self.folder / name) as box, box.catalog.transaction() as tx:
            key = consent.public(consent.key_of(tx, box, now))
            chosen = self.vendor.settings(self.vendor.here) | {"heartbeat.authority": self.public}
            settings.change(tx, box.audit_key, chosen, actor="tests", now=now, root=box.root)
            consent.agree(tx, consent.terms(tx), "tests", now)
        made = Member(self.folder / name, heartbeat.name_of(key), key)
        self.members.append(made)
        return made

    def make_version(self, version: str) -> None:
        """The software of this tree once more, under another version."""
        shutil.copytree(ROOT / "appliance", self.versions / version / "appliance")
        (self.versions / version / "tests").symlink_to(ROOT / "tests")
        package = self.versions / version / "appliance/__init__.py"
        package.write_text(
            re.sub(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', package.read_text())
        )

    def register(self, *known: tuple[str, str]) -> None:
        """Name and key of each box, in the order in which they are changed."""
        rows = [{"name": name, "key": key, "clinic": f"clinic {at}"} for at, (name, key) in enumerate(known)]
        board = os.path.relpath(self.vendor.folder, self.folder)
        told = {"plugin": "appliance_fleet", "board": board, "register": rows}
        (self.folder / "fleet.yml").write_text(yaml.safe_dump(told))

    def play(self, book: str, **values: object) -> subprocess.CompletedProcess[str]:
        return self._run(self._words(book, values))

    def rehearse(self, book: str, **values: object) -> subprocess.CompletedProcess[str]:
        return self._run([*self._words(book, values), "--check"])

    @contextmanager
    def playing(self, book: str, **values: object) -> Iterator[Play]:
        """A playbook that goes on meanwhile, and is ended if it hasn't come to its end by then."""
        with (self.folder / "playing.log").open("w+") as said:
            words = self._words(book, values)
            begun = subprocess.Popen(words, cwd=PROVISIONING, env=self._environment, stdout=said, stderr=said)
            try:
                yield Play(begun, self.folder / "playing.log")
            finally:
                begun.terminate()
                begun.wait()

    def _words(self, book: str, values: dict[str, object]) -> list[str]:
        told = {"fleet_key_file": str(self.authority), "fleet_delay_seconds": 3, "fleet_retries": 40} | values
        player = str(Path(sys.executable).parent / "ansible-playbook")
        return [player, "-i", str(self.folder / "fleet.yml"), book, "-e", json.dumps(told)]

    def inventory(self) -> tuple[list[str], str]:
        """The hosts, and what was said besides."""
        inventory = str(Path(sys.executable).parent / "ansible-inventory")
        told = self._run([inventory, "-i", str(self.folder / "fleet.yml"), "--list"])
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout).get("fleet", {}).get("hosts", []), re.sub(r"\s+", " ", told.stderr)

    @property
    def _environment(self) -> dict[str, str]:
        places = {
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "local"),
        }
        return os.environ | places | {"NO_COLOR": "1", "COLUMNS": "400", "PYTHONPATH": str(ROOT)}

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=PROVISIONING, env=self._environment, capture_output=True, text=True, check=False
        )

    def wanted_of(self, name: str) -> bytes:
        """What lies there for a box, which it fetches with its next heartbeat; nothing if nothing does."""
        path = self.vendor.folder / "wanted" / f"{name}.json"
        return path.read_bytes() if path.exists() else b""

    def heard(self, name: str) -> dict[str, Any]:
        """The last heartbeat of a box; empty if there is none."""
        path = self.vendor.folder / "boxes" / f"{name}.json"
        return dict(heartbeat.received(path.read_bytes()).document) if path.exists() else {}

    def is_well(self, name: str) -> bool:
        return self.heard(name).get("state") == "ready"

    @contextmanager
    def alive(self, *ill: int, manners: Mapping[int, str] = MappingProxyType({})) -> Iterator[None]:
        """The boxes live, each a process; those whose places are in `ill` fall ill with the first version that is wanted of them, and
        `manners` says by place what else one does then."""
        words = [sys.executable, "-m", "tests.provisioning.living_box"]
        home = os.environ | {"PYTHONPATH": str(ROOT)}
        started = [
            subprocess.Popen(
                [
                    *words,
                    str(each.data),
                    str(self.versions),
                    "ill" if place in ill else manners.get(place, ""),
                ],
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
