"""What `site.yml` asks before it changes anything: a box whose firewall stands is hard to come back to after a run that failed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance import __version__
from tests.provisioning.test_playbooks import PROVISIONING, defaults, played_here

HERE, BOX = "192.0.2.7", "198.51.100.2"


def shut_out(connection: str, *networks: str, shut: bool = False, by: str = "ssh") -> str:
    spec = importlib.util.spec_from_file_location("ssh_door", PROVISIONING / "library" / "ssh_door.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.shut_out(connection, networks, shut=shut, by=by))


@pytest.mark.parametrize(
    ("came", "networks"),
    [
        ("192.0.2.7", ["192.0.2.0/24"]),
        ("192.0.2.7", ["10.0.0.0/8", "192.0.2.7"]),
        ("::ffff:192.0.2.7", ["192.0.2.7/32"]),
        ("2001:db8::7", ["192.0.2.0/24", "2001:db8::/32"]),
        ("fe80::1%eth0", ["fe80::/10"]),
    ],
)
def test_who_comes_from_a_network_that_is_let_in_may_go_on(came: str, networks: list[str]) -> None:
    assert shut_out(f"{came} 50112 {BOX} 22", *networks) == ""


@pytest.mark.parametrize(
    ("connection", "networks", "words"),
    [
        (f"203.0.113.9 50112 {BOX} 22", ["192.0.2.0/24"], "you come from 203.0.113.9"),
        (f"2001:db8::7 50112 {BOX} 22", ["192.0.2.0/24"], "you come from 2001:db8::7"),
        (f"{HERE} 50112 {BOX} 2222", ["192.0.2.0/24"], "you come in at port 2222"),
        (f"{HERE} 50112 {BOX} 22", [], "firewall_shut_ssh=true"),
        (f"{HERE} 50112 {BOX} 22", ["192.0.2"], "192.0.2 is no network"),
    ],
)
def test_who_would_shut_himself_out_is_told_so(connection: str, networks: list[str], words: str) -> None:
    assert words in shut_out(connection, *networks)


def test_nobody_comes_in_only_where_that_was_said() -> None:
    assert shut_out(f"{HERE} 50112 {BOX} 22", shut=True) == ""
    assert shut_out("", shut=True) == ""
    assert defaults("firewall")["firewall_shut_ssh"] is False
    assert shut_out(f"{HERE} 50112 {BOX} 22", "10.0.0.0/8", shut=True) != "", (
        "where somebody is, it is by mistake"
    )


@pytest.mark.parametrize("by", ["ssh", "smart", "ansible.builtin.ssh", "ansible.netcommon.libssh"])
def test_who_comes_by_ssh_and_is_not_said_to_is_asked_to_come_plainly(by: str) -> None:
    for networks in ([], ["192.0.2.0/24"]):
        assert "does not say from where you come" in shut_out("", *networks, by=by), "sudo takes that away"
        assert shut_out("", *networks, by="local") == "", "at the machine itself"


def test_it_is_asked_before_anything_is_changed_and_the_door_is_shut_last() -> None:
    (play,) = yaml.safe_load((PROVISIONING / "site.yml").read_text())
    before = [each.get("ansible.builtin.import_tasks") or each["name"] for each in play["pre_tasks"]]
    assert before.index("tasks/site-first.yml") < before.index("A run begins")
    *_, last, ended = play["post_tasks"]
    assert ended["name"] == "It has come to its end", "cut before, the rules would be on the disk alone"
    assert last["ansible.builtin.include_role"] == {"name": "firewall", "tasks_from": "rules.yml"}
    assert last["when"] == "firewall_ssh_from | length == 0"
    read = yaml.safe_load((PROVISIONING / "roles/firewall/tasks/main.yml").read_text())
    meanwhile, loads = [each for each in read if "rules.yml" in str(each)]
    assert "firewall_ssh_from | length == 0" in meanwhile["when"]
    assert loads["when"] == "firewall_ssh_from | length > 0"
    assert "flush_handlers" not in str(read), "only with the rules"


WHEEL = f"clinic_edge_appliance-{__version__}-py3-none-any.whl"


@pytest.fixture
def play(tmp_path: Path) -> Path:
    """The tasks, in a play on this machine, with a checkout around it as `site.yml` has."""
    folder = tmp_path / "provisioning"
    (folder / "tasks").mkdir(parents=True)
    (folder / "library").symlink_to(PROVISIONING / "library")
    (folder / "tasks/first.yml").write_text((PROVISIONING / "tasks/site-first.yml").read_text())
    (tmp_path / "pyproject.toml").write_text((PROVISIONING.parent / "pyproject.toml").read_text())
    (tmp_path / "lock").write_text("")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / WHEEL).write_text("")
    (tmp_path / "dist" / WHEEL.replace(__version__, "0.0.9")).write_text("")
    told: dict[str, Any] = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "become": False,
        "vars": {
            **{name: defaults("appliance")[name] for name in ("appliance_wheel", "appliance_wheelhouse")},
            "appliance_lock": "{{ playbook_dir }}/../lock",
            "appliance_units": "{{ playbook_dir }}",
            "firewall_ssh_from": ["192.0.2.0/24"],
            "firewall_shut_ssh": False,
        },
        "tasks": [
            {"name": "Asked first", "ansible.builtin.import_tasks": "tasks/first.yml"},
            {"name": "Go on", "ansible.builtin.debug": {"msg": "it goes on"}},
        ],
    }
    (folder / "site.yml").write_text(yaml.safe_dump([told], sort_keys=False))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_would_fail_later_fails_first(play: Path) -> None:
    good = f"appliance_wheel=../dist/{WHEEL}"
    (play / "becomes").write_text(
        "localhost ansible_connection=local ansible_become=true ansible_become_exe=/bin/false\n"
    )
    for words, connection, said in (
        ((), HERE, "Say which wheel to install"),
        (("-e", "appliance_wheel=../dist/mistyped.whl"), HERE, "There is no ../dist/mistyped.whl here"),
        (("-e", good, "-e", "appliance_wheelhouse=/nowhere"), HERE, "There is no /nowhere here"),
        (("-e", good, "-e", "appliance_lock=/nowhere/lock"), HERE, "There is no /nowhere/lock here"),
        (
            ("-e", f"appliance_wheel=../dist/{WHEEL.replace(__version__, '0.0.9')}"),
            HERE,
            f"This playbook is that of version {__version__}",
        ),
        (("-e", good), "203.0.113.9", "you come from 203.0.113.9"),
        (("-e", good), HERE, "it goes on"),
        (("-e", good), "", "it goes on"),
        (("-e", good, "-i", "becomes"), "203.0.113.9", "you come from 203.0.113.9"),
    ):
        came = f"{connection} 50112 {BOX} 22" if connection else ""
        done = played_here(play, *words, SSH_CONNECTION=came)
        assert said in " ".join(done.stdout.split()), done.stdout + done.stderr
        assert (done.returncode == 0) is ("it goes on" in done.stdout), words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("networks", "stands", "came", "rules"),
    [
        ([], False, HERE, [[HERE]]),
        ([], False, "", [[]]),
        ([], True, HERE, []),
        (["192.0.2.0/24"], False, HERE, [["192.0.2.0/24"]]),
        (["192.0.2.0/24"], True, HERE, [["192.0.2.0/24"]]),
    ],
    ids=["shut", "shut, at the machine", "shut again", "let in", "let in again"],
)
def test_rules_stand_before_anything_listens_also_where_the_door_is_shut_last(
    tmp_path: Path, networks: list[str], stands: bool, came: str, rules: list[list[str]]
) -> None:
    """The last tasks of the role as they are, with rules that only say whom they let in, and an `nft` that says whether ours are loaded."""
    read = yaml.safe_load((PROVISIONING / "roles/firewall/tasks/main.yml").read_text())
    begins = [each["name"] for each in read].index("Whether rules of ours stand")
    (tmp_path / "tasks.yml").write_text(yaml.safe_dump(read[begins:], sort_keys=False))
    told = {
        "ansible.builtin.debug": {"msg": "rules {{ (firewall_ssh_from + firewall_ssh_meanwhile) | to_json }}"}
    }
    (tmp_path / "rules.yml").write_text(yaml.safe_dump([{"name": "Its rules", **told}]))
    play: dict[str, Any] = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": defaults("firewall") | {"firewall_door": {"came": came}},
        "tasks": [{"name": "The role", "ansible.builtin.import_tasks": "tasks.yml"}],
    }
    (tmp_path / "site.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    (tmp_path / "nft").write_text(f"#!/bin/sh\nexit {0 if stands else 1}\n")
    (tmp_path / "nft").chmod(0o755)
    words = ("-e", json.dumps({"firewall_ssh_from": networks}))
    done = played_here(tmp_path, *words, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stdout + done.stderr
    said = [json.loads(each.replace('\\"', '"')) for each in re.findall(r'"rules (.*)"', done.stdout)]
    assert said == rules, done.stdout
    assert "changed=0" in done.stdout
