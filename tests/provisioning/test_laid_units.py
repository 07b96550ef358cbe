"""Whatever of ours lies on the disk is what runs when a play has ended: which unit is started anew for which file, and that no other is."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.provisioning.test_playbooks import PROVISIONING, played_here, tasks

UNITS = PROVISIONING.parent / "systemd"
ROLE = PROVISIONING / "roles/appliance"
SERVICES = {f"appliance-{name}.service" for name in ("dicom", "courier", "jobs", "web")}
SAID: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())
SEALED = SERVICES | {"machine-seal.service"}
_NAMED = {"{{ appliance_services }}": SERVICES, "{{ appliance_sealed }}": SEALED}
UNIT_NEEDS, SCRIPT_NEEDS = (
    {name: set(_NAMED[needs] if isinstance(needs, str) else needs) for name, needs in SAID[kind].items()}
    for kind in ("appliance_unit_needs", "appliance_script_needs")
)
"""What is started anew for each file."""
READ_LATER = {
    "appliance.slice",
    "appliance.target",
    "nftables.service.d/appliance.conf",
    "support-line.service",
}
"""Limits of a slice are taken with `daemon-reload`, as is what a target wants and what is done at a stop; a live session is let be."""


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def section(path: Path, name: str) -> dict[str, str]:
    said = configparser.RawConfigParser(strict=False)
    said.read(path)
    return dict(said[name]) if said.has_section(name) else {}


def test_every_file_for_systemd_is_laid_down_and_said_what_it_needs() -> None:
    assert set(UNIT_NEEDS) == files(UNITS / "system"), "the list is what is laid down"
    assert set(SCRIPT_NEEDS) == files(UNITS / "libexec")
    for name, loop in (
        ("The units", "appliance_unit_needs"),
        ("The scripts of the units", "appliance_script_needs"),
    ):
        task = tasks("appliance")[name]
        assert task["loop"] == f"{{{{ {loop} | list }}}}"
        assert task["notify"] == "Restart the appliance"
    places = set(tasks("appliance")["Its folders"]["loop"])
    folders = {Path("/etc/systemd/system", name).parent for name in UNIT_NEEDS}
    assert {str(each) for each in folders} - {"/etc/systemd/system"} <= places


def test_a_unit_that_changes_is_started_anew_itself_and_none_that_is_not_there() -> None:
    for name, needs in UNIT_NEEDS.items():
        if name in READ_LATER or "/" in name:
            continue
        assert name in needs, name
    assert {name for name, needs in UNIT_NEEDS.items() if not needs} == READ_LATER
    listed = {each for needs in (*UNIT_NEEDS.values(), *SCRIPT_NEEDS.values()) for each in needs}
    assert listed <= set(UNIT_NEEDS)
    assert "support-line.service" not in listed, "a session of support is not ended for a file"


def test_a_socket_is_started_anew_with_the_service_that_holds_it() -> None:
    """systemd refuses to start a socket whose service runs, and a service that is not started anew keeps the port of before."""
    for socket in UNIT_NEEDS:
        if socket.endswith(".socket"):
            assert UNIT_NEEDS[socket] == {socket, socket.replace(".socket", ".service")}


def test_what_a_script_is_of_is_started_anew_for_it() -> None:
    for script, needs in SCRIPT_NEEDS.items():
        run_by = {
            path.name
            for path in (UNITS / "system").glob("*.service")
            if section(path, "Service").get("execstart", "").split()[0].endswith(f"/libexec/{script}")
        }
        assert needs - SERVICES == run_by, script


def test_what_ends_by_itself_is_started_and_not_restarted() -> None:
    """A restart would be handed on to who needs it: the front would be ended for its certificate."""
    once = {
        path.name
        for path in (UNITS / "system").glob("*.service")
        if (of_it := section(path, "Service")).get("type") == "oneshot" and "remainafterexit" not in of_it
    }
    assert set(SAID["appliance_once"]) == once


# --- by Ansible itself -----------------------------------------------------------------------------------------------

EVERYTHING = (
    SERVICES
    | {"appliance-dicom.socket", "clock-state.timer", "machine-seal.service"}
    | {"support-line.path", "tls-front.path"},
    {"clock-state.service", "tls-front.service"},
)
"""What lasts is restarted, and what ends by itself is started."""
SOCKET = {"appliance-dicom.socket", "appliance-dicom.service"}
CASES: list[tuple[dict[str, Any], tuple[set[str], set[str]]]] = [
    ({}, (set(), set())),
    ({"appliance_unit_files": ["appliance-dicom.socket"]}, (SOCKET, set())),
    ({"appliance_unit_files": ["clock-state.timer"]}, ({"clock-state.timer"}, set())),
    ({"appliance_unit_files": ["support-line.path"]}, ({"support-line.path"}, set())),
    ({"appliance_unit_files": ["support-line.service", "appliance.slice"]}, (set(), set())),
    ({"appliance_unit_files": ["tls-front.service"]}, (set(), {"tls-front.service"})),
    ({"appliance_unit_files": ["appliance-.service.d/50-common.conf"]}, (SERVICES, set())),
    ({"appliance_scripts": ["machine-seal", "appliance"]}, (SEALED, set())),
    ({"appliance_unit_files": list(UNIT_NEEDS), "appliance_scripts": list(SCRIPT_NEEDS)}, EVERYTHING),
    ({"appliance_unit_left": True}, ({"appliance-jobs.service"}, set())),
    ({"appliance_made": True}, (SERVICES, set())),
    ({"appliance_told": True}, (SERVICES, set())),
    ({"base_zone": True}, (SERVICES, set())),
    ({"site_cut": True}, EVERYTHING),
]
"""What a run has found changed, and what is started anew for it."""


def registered(changed: object, known: Iterable[str]) -> dict[str, Any]:
    """What Ansible keeps of a task that has, or has not, changed something."""
    if isinstance(changed, list):
        return {"changed": True, "results": [{"item": each, "changed": each in changed} for each in known]}
    return {"changed": changed, "stat": {"exists": changed}}


def started(told: Iterable[Sequence[str]]) -> tuple[set[str], set[str]]:
    """What was restarted, each but once, and what was started."""
    found = {
        verb: [unit for first, *units in told if first == verb for unit in units]
        for verb in ("restart", "start")
    }
    for units in found.values():
        assert len(units) == len(set(units)), told
    return set(found["restart"]), set(found["start"])


def handler() -> dict[str, Any]:
    (found,) = [
        each
        for each in yaml.safe_load((ROLE / "handlers/main.yml").read_text())
        if each["name"] == "Restart the appliance"
    ]
    return dict(found)


def played(folder: Path, *more: str, path: str = "") -> str:
    done = played_here(folder, *more, PATH=f"{path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PLAY = {"hosts": "localhost", "connection": "local", "gather_facts": False}


def test_what_is_asked_for_changes_is_what_the_tasks_say() -> None:
    registered_there = {
        each.get("register") for role in ("base", "appliance") for each in tasks(role).values()
    }
    assert {name for found, _ in CASES for name in found} - {"site_cut"} <= registered_there


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_for_each_change_that_is_started_anew_which_needs_it_and_nothing_else(tmp_path: Path) -> None:
    names = sorted({name for found, _ in CASES for name in found})
    known = {"appliance_unit_files": UNIT_NEEDS, "appliance_scripts": SCRIPT_NEEDS}
    says = {
        "name": "What the handler would do",
        "ansible.builtin.debug": {"msg": f"does {handler()['ansible.builtin.shell']} done"},
        "vars": handler()["vars"],
    }
    each_case = {
        "loop": [
            {name: registered(found.get(name, False), known.get(name, ())) for name in names}
            for found, _ in CASES
        ],
        "vars": handler()["vars"] | {name: f"{{{{ item.{name} }}}}" for name in names},
    }
    # Last, a run that failed before it came to any of them: it has registered nothing.
    whole = PLAY | {"vars_files": [str(ROLE / "vars/main.yml")], "tasks": [says | each_case, says]}
    (tmp_path / "site.yml").write_text(yaml.safe_dump([whole], sort_keys=False))
    said = [each.split(" && ") for each in re.findall(r'"msg": "does (.*) done"', played(tmp_path))]
    assert len(said) == len(CASES) + 1
    for (found, wanted), told in zip([*CASES, ({}, (set(), set()))], said, strict=True):
        assert told[0].strip() == "systemctl daemon-reload", "before anything is started by it"
        assert started([each.split()[1:] for each in told if each != "true"]) == wanted, found
        # Whoever brings others with it comes before them, or they would begin twice.
        restarts = told[1].split()[2:]
        first = [each for each in ("machine-seal.service", "appliance-dicom.socket") if each in restarts]
        assert restarts[: len(first)] == first, found


SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>{said}
"""
LAID = ("The scripts of the units", "The units", "What a unit of an earlier version was let do", "Know them")


@pytest.mark.slow
@pytest.mark.timeout(600)  # three runs of Ansible, which a machine that is busy takes minutes for
def test_a_play_that_finds_a_socket_and_a_timer_changed_starts_them_anew(tmp_path: Path) -> None:
    """The role's tasks that lay files down, as they are, and its handler, with a `systemctl` that writes down what it is told."""
    said, laid, path = tmp_path / "said", tmp_path / "laid", tmp_path / "bin"
    shutil.copytree(UNITS, tmp_path / "systemd")
    path.mkdir()
    (path / "systemctl").write_text(SYSTEMCTL.format(said=said))
    (path / "systemctl").chmod(0o755)
    for name in ("etc/systemd/system", "home/libexec"):
        (laid / name).mkdir(parents=True)
    done = [tasks("appliance")[name] for name in (*LAID, "By whom they are wanted")]
    role = tmp_path / "roles/appliance"
    for part, content in (("tasks", done), ("handlers", [handler()]), ("vars", SAID)):
        (role / part).mkdir(parents=True)
        words = yaml.safe_dump(content, sort_keys=False)
        (role / part / "main.yml").write_text(words.replace(": /etc/systemd/", f": {laid}/etc/systemd/"))
    few = ("appliance-dicom.socket", "appliance-web.service", "clock-state.timer")
    play = PLAY | {
        "vars": {
            "appliance_units": str(tmp_path / "systemd"),
            "appliance_home": str(laid / "home"),
            "ansible_python_interpreter": sys.executable,
        },
        "roles": ["appliance"],
    }
    (tmp_path / "site.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    told = json.dumps(
        {
            "appliance_unit_needs": {name: sorted(UNIT_NEEDS[name]) for name in few},
            "appliance_script_needs": {},
        }
    )

    def again() -> tuple[str, list[list[str]]]:
        said.unlink(missing_ok=True)
        recap = played(tmp_path, "-e", told, path=str(path)).split("PLAY RECAP")[1]
        return recap, [each.split() for each in said.read_text().splitlines()] if said.exists() else []

    _, heard = again()
    assert started(heard) == (SOCKET | {"appliance-web.service", "clock-state.timer"}, set())
    for name in ("appliance-dicom.socket", "clock-state.timer"):
        with (tmp_path / "systemd/system" / name).open("a") as file:
            file.write("# another version\n")
    _, heard = again()
    assert started(heard) == (SOCKET | {"clock-state.timer"}, set()), "and the console is not interrupted"
    verbs = [first for first, *_ in heard]
    assert verbs[0] == "daemon-reload"
    assert verbs.index("reenable") < verbs.index("restart")
    assert "another version" in (laid / "etc/systemd/system/appliance-dicom.socket").read_text()
    recap, heard = again()
    assert "changed=0" in recap
    assert heard == []


@pytest.mark.slow
def test_what_systemd_starts_by_itself_is_what_its_files_say(tmp_path: Path) -> None:
    asks = {"name": "Which", "ansible.builtin.debug": {"msg": "{{ appliance_enabled | join(' ') }}"}}
    play = PLAY | {"vars_files": [str(ROLE / "vars/main.yml")], "tasks": [asks]}
    (tmp_path / "site.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    (enabled,) = re.findall(r'"msg": "(.*)"', played(tmp_path))
    wanted = {
        path.name for path in (UNITS / "system").iterdir() if path.is_file() and section(path, "Install")
    }
    assert set(enabled.split()) == wanted


def test_a_disk_that_takes_the_place_of_another_is_the_one_that_is_mounted() -> None:
    order = list(tasks("appliance"))
    goes, comes, mounted = (order.index(each) for each in ("It goes first", "The backup disk", "Mount it"))
    assert goes < comes < mounted, "cut in between, the next run finds none mounted"
    asks = tasks("appliance")["Whether another one was mounted there, or otherwise"]
    assert asks["check_mode"] is True
    assert (
        asks["ansible.builtin.lineinfile"]
        == tasks("appliance")["The backup disk"]["ansible.builtin.lineinfile"]
    )
    assert "appliance_backup_other is changed" in tasks("appliance")["It goes first"]["when"]
    assert "appliance_backup_gone is changed" in tasks("appliance")["Mount it"]["when"]
