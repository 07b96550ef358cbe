"""What is read out of nmap's words: which ports answer, and not which may."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.image import afar
from tests.image.afar import Lan
from tests.image.machine import tap

ROOT = Path(__file__).parents[2]
TOLD = """<?xml version="1.0"?><nmaprun><host><ports><extraports state="filtered" count="65532"/>
<port protocol="tcp" portid="443"><state state="open" reason="syn-ack"/></port>
<port protocol="tcp" portid="22"><state state="closed" reason="reset"/></port>
<port protocol="udp" portid="5353"><state state="open|filtered" reason="no-response"/></port>
<port protocol="udp" portid="161"><state state="open" reason="udp-response"/></port></ports></host></nmaprun>"""


def test_what_answers_is_open_and_what_says_nothing_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []

    def run(_: Lan, *words: str) -> str:
        asked.append(words)
        return TOLD

    monkeypatch.setattr(Lan, "run", run)
    assert Lan(tmp_path).open_at("192.168.77.50", *afar.ALL_PORTS) == {("tcp", 443), ("udp", 161)}
    assert asked[0][-1] == "192.168.77.50" and "-p-" in asked[0]


def test_the_address_is_that_of_the_lease(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leases = tmp_path / "leases"
    leases.write_text("1764260000 52:54:00:12:34:56 192.168.77.61 * 01:52:54\nduid 00:01\n")
    assert Lan(leases).address() == "192.168.77.61"
    leases.write_text("duid 00:01\n")
    ticks = iter((0.0, 1.0, afar.LEASE_SECONDS + 1))

    class Time:
        monotonic = staticmethod(lambda: next(ticks))
        sleep = staticmethod(lambda _: None)

    monkeypatch.setattr(afar, "time", Time)
    with pytest.raises(SystemExit, match="no address"):
        Lan(leases).address()


def test_what_is_asked_for_by_ipv6_is_what_listens_there() -> None:
    listens = re.findall(
        r"^ListenStream=(.*)$", (ROOT / "systemd/system/appliance-dicom.socket").read_text(), re.MULTILINE
    )
    assert listens == ["0.0.0.0:11112"], "by IPv4 alone: else `PORTS_BY_IPV6` has to name it"
    front = (ROOT / "provisioning/roles/front/templates/nginx.conf.j2").read_text()
    assert "listen [::]:{{ front_port }} ssl" in front
    assert afar.PORTS_BY_IPV6 == (443,)


def test_a_cable_to_a_tap_leads_nowhere_else() -> None:
    words: list[Any] = tap("lan0")
    assert "tap,id=cable,ifname=lan0,script=no,downscript=no" in words
    assert not any("user," in each for each in words)
