"""What `tests.image.container` reads of an engine, and that it finds out a container that forgets, without one."""

from __future__ import annotations

import json
import subprocess

import pytest

from appliance.config import DicomConfig, WebConfig
from tests.image import container
from tests.image.container import Container, listening
from tests.image.test_oci import CONTAINERFILE

TABLES = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 00000000:2B68 00000000:0000 0A 00000000:00000000 00:00000000 00000000   990
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   990
   2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000   990
   3: 0A58000A:1F90 0A580001:8124 01 00000000:00000000 00:00000000 00000000   990
"""


def test_the_ports_are_read_that_hear_more_than_the_container_itself() -> None:
    assert listening(TABLES) == {WebConfig().port, DicomConfig().port}


def test_it_asks_of_a_container_what_its_file_says() -> None:
    assert f"--uid {container.ACCOUNT} " in CONTAINERFILE


@pytest.mark.parametrize(
    ("account", "mounts", "tables", "broken"),
    [
        ("0", ["/var/lib/appliance"], TABLES, "it is not root"),
        ("990", ["/var/lib/appliance", "/data"], TABLES, "it has one volume"),
        (
            "990",
            ["/var/lib/appliance"],
            TABLES.replace("0100007F:0050", "00000000:0050"),
            "and listens at two ports",
        ),
    ],
)
def test_a_container_that_is_more_than_promised_is_found_out(
    account: str,
    mounts: list[str],
    tables: str,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = json.dumps([{"Mounts": [{"Destination": each} for each in mounts]}])

    def engine(*words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        out = {"id": account, "cat": tables}.get(words[2] if len(words) > 2 else "", told)
        return subprocess.CompletedProcess(words, 0, out, "")

    monkeypatch.setattr(container, "engine", engine)
    with pytest.raises(SystemExit):
        container.is_as_promised(Container("box", {8080: 1, 11112: 2}))
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"BROKEN: {broken}")


def test_one_that_does_not_end_by_itself_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def engine(*words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 0, "137\n" if words[0] == "inspect" else "", "")

    monkeypatch.setattr(container, "engine", engine)
    with pytest.raises(SystemExit):
        container.stop(Container("box", {}))
    assert "BROKEN: it is stopped" in capsys.readouterr().out
