"""Schemathesis asks a running console what nobody thought of: examples, bounds, wrong shapes, sequences, all checks.

`make campaign ARGS="interface --examples N"` is the long form.
"""

import re
from pathlib import Path

import pytest

from tests.web.api.serving import ask_everything, served

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]

EXAMPLES = 4
SEED = 20260302


def test_the_interface_keeps_what_its_document_says(tmp_path: Path) -> None:
    with served(tmp_path / "data") as there:
        asked = ask_everything(there, examples=EXAMPLES, seed=SEED)
    assert asked.returncode == 0, asked.stdout[-20_000:] + asked.stderr[-4_000:]
    tested = re.search(r"Tested:\s+(\d+)", asked.stdout)
    assert tested is not None
    assert int(tested[1]) >= 42
