"""A runbook of the help, walked as it stands: every line of a section in its order, at any machine where it can be typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from typing import Protocol

from tests.cli.conftest import Outcome, Say
from tests.cli.machine import ROOT


class Typist(Protocol):
    """A machine that was provisioned, and somebody before it."""

    def placed(self, line: str) -> str:
        """The line with what stands there in the place of the help's folders."""

    def type(self, line: str, *more: object) -> str:
        """Type `line`, and `more` where it leaves off; what it printed. It must come to a good end."""

    def keep(self, into: str, text: str) -> None:
        """Write what a command has printed into a file, as its line says."""


HELP = ROOT / "web-ui/help/en/runbooks.html"
ELSEWHERE = {
    "ansible-playbook site.yml --limit BOX -e appliance_wheel=…": "tests/provisioning/test_inventory.py, and `make test-machine` plays it",
    "inventory/hosts.yml": "whom it names",
    "provisioning/": "where it is played",
    "changed=0": "what it says",
    "image-build/oci/": "tests/image/test_oci.py",
    "podman run": "tests/image/test_oci.py",
    "docker run": "tests/image/test_oci.py",
    "/var/lib/appliance": "what the next line copies",
}
"""What stands among what is to be typed, and is not typed here."""

STOP = "systemctl stop appliance.target 'appliance-*'"
KEY = re.compile(r"\b[A-Z0-9]{5}(?:-[A-Z0-9]{5}){6,}\b")


SECTIONS = re.findall(r'<h2 id="([^"]+)"', HELP.read_text("utf-8"))


def lines(section: str) -> list[str]:
    """What the section says to type at a machine that was provisioned, in order."""
    (text,) = re.findall(rf'<h2 id="{section}">.*?(?=<h2|\Z)', HELP.read_text("utf-8"), re.DOTALL)
    return [unescape(each) for each in re.findall(r"<code>(.*?)</code>", text.split("<h3>")[-1])]


def commands(section: str) -> list[str]:
    """Those of them that are for the appliance."""
    return [line.removeprefix("appliance ") for line in lines(section) if line.startswith("appliance ")]


def walk(
    say: Say,
    section: str,
    machine: Typist,
    *,
    typed: Mapping[str, str | Callable[[], str]] | None = None,
    after: Mapping[str, Callable[[Outcome], None]] | None = None,
    instead: Mapping[str, Sequence[object]] | None = None,
    without: Sequence[str] = (),
) -> list[Outcome]:
    """Type every line of `section` but the appliance's that begin with a word of `without`; each must come to a good end.

    `typed` is what a command is answered, by its first words; `instead` says what stands for the placeholders of a line, and `after`
    what happens then. What the appliance's commands came to.
    """
    told = []
    for entire in lines(section):
        line = entire.removeprefix("appliance ")
        if entire in ELSEWHERE or line.startswith(tuple(without)):
            continue
        if line == entire:
            out = machine.type(line, *(instead or {}).get(line, ()))
            (after or {}).get(line, lambda _: None)(Outcome(0, out, ""))
            continue
        line, _, into = machine.placed(line).partition(" >")
        words = [*line.split(), *(instead or {}).get(line, ())]
        answer = (typed or {}).get(line.split(" --")[0].removesuffix(" folder"), "")
        outcome = say(*words, typed=answer() if callable(answer) else answer)
        assert outcome.code == 0, f"{line}: {outcome.err}"
        (after or {}).get(line, lambda _: None)(outcome)
        if into:
            machine.keep(into, outcome.out)
        told.append(outcome)
    return told


def paper(outcome: Outcome) -> str:
    """The recovery key that a command has printed."""
    found = KEY.search(outcome.out)
    assert found is not None, outcome.out
    return found[0] + "\n"
