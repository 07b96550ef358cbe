"""DCMTK's storescu, and which of its options proposes which transfer syntax."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

OPTION_OF = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}
PATIENCE_SECONDS = 100


def storescu_command(port: int, *options: str, calling: str, called: str, files: Sequence[Path]) -> list[str]:
    """The command line of DCMTK's own storescu, not of the script of that name that pynetdicom installs."""
    found = shutil.which("storescu", path="/usr/local/bin:/usr/bin:/bin")
    assert found is not None, "storescu is not installed: apt-get install dcmtk"
    return [
        *(found, "-aet", calling, "-aec", called, "-to", "30", *options),
        *("127.0.0.1", str(port), *map(str, files)),
    ]


def storescu(
    port: int, *options: str, calling: str, called: str = "CLINICBOX", files: Sequence[Path]
) -> subprocess.CompletedProcess[str]:
    """Send `files` on one association."""
    return subprocess.run(
        storescu_command(port, *options, calling=calling, called=called, files=files),
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_SECONDS,
        check=False,
    )
