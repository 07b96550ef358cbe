"""Where keys are to be made, and a machine that has a credential of systemd."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys"


@pytest.fixture
def credential(tmp_path: Path) -> dict[str, str]:
    """An environment as systemd gives it: readable by the group, since it grants access by ACL."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "machine-seal").write_bytes(hashlib.sha512(b"machine").digest())
    (folder / "machine-seal").chmod(0o440)
    return {"CREDENTIALS_DIRECTORY": str(folder)}
