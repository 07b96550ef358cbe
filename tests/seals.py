"""The machine seal as a unit hands it to its process, sealed with each key that systemd knows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from appliance.store import keys

SEALED: Final[dict[str, str]] = json.loads(
    (Path(__file__).parent / "store/vectors/credentials.json").read_text()
)
"""A credential of each key type, as ``systemd-creds encrypt --with-key=`` of systemd 252 made it: those with a TPM2 by swtpm, and
``null`` as ``tpm2-absent``."""


def sealed_with(key: str | None, folder: Path) -> dict[str, str]:
    """An environment as systemd gives it, in `folder`, where `key` is of `SEALED`; None: nothing says which key it was."""
    folder.mkdir(exist_ok=True)
    for name, data in (
        (keys.CREDENTIAL, hashlib.sha512(b"machine").digest()),
        ("machine-seal.cred", (SEALED[key] if key else "").encode()),
    ):
        (folder / name).unlink(missing_ok=True)
        if data:
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o440)
    return {"CREDENTIALS_DIRECTORY": str(folder)}
