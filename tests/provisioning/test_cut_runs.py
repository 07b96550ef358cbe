"""A run of `site.yml` that was cut is made up for by the next one: by Ansible itself, with the play's own words around roles that only say what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.provisioning.test_playbooks import PROVISIONING, ROLES, played_here

pytestmark = pytest.mark.slow

LOST = {
    "name": "The line drops",
    "ansible.builtin.set_fact": {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": 1,
        "ansible_ssh_common_args": "-o BatchMode=yes -o ConnectTimeout=5",
    },
    "when": "is_cut",
}
NEVER = {"name": "Nobody hears this", "ansible.builtin.command": "true", "changed_when": False}


class Machine:
    """A play that is `site.yml`, without what it does to a machine: each role copies a file, and its handlers say so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = folder / "said"
        (play,) = yaml.safe_load((PROVISIONING / "site.yml").read_text())
        play |= {"hosts": "localhost", "connection": "local", "become": False, "gather_facts": False}
        play["vars"] |= {
            "site_unfinished": str(folder / "unfinished"),
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        play["pre_tasks"] = [each for each in _of_its_own(play["pre_tasks"]) if "Debian" not in each["name"]]
        play["post_tasks"] = _of_its_own(play["post_tasks"])
        (folder / "site.yml").write_text(yaml.safe_dump([play], sort_keys=False))
        for role in ROLES:
            self._make(role)

    def _make(self, role: str) -> None:
        begun, *_ = yaml.safe_load((PROVISIONING / "roles" / role / "tasks/main.yml").read_text())
        handlers = yaml.safe_load((PROVISIONING / "roles" / role / "handlers/main.yml").read_text())
        changes: dict[str, Any] = {
            "name": "What changes",
            "ansible.builtin.copy": {
                "content": role,
                "dest": str(self.folder / f"made-{role}"),
                "mode": "0644",
            },
            "notify": begun["notify"],
        }
        cut: list[dict[str, Any]] = [LOST, NEVER] if role == ROLES[-1] else []
        self._write(role, "tasks", [begun, changes, *cut])
        self._write(
            role,
            "handlers",
            [
                {
                    "name": each["name"],
                    "ansible.builtin.shell": f"echo '{each['name']}' >> {self.said}",
                    "changed_when": True,
                }
                for each in handlers
            ],
        )

    def _write(self, role: str, kind: str, tasks: list[dict[str, Any]]) -> None:
        folder = self.folder / "roles" / role / kind
        folder.mkdir(parents=True)
        (folder / "main.yml").write_text(yaml.safe_dump(tasks, sort_keys=False))

    def run(self, *, is_cut: bool = False) -> tuple[str, set[str]]:
        """The last line of what Ansible said, and what was restarted."""
        self.said.unlink(missing_ok=True)
        told = played_here(self.folder, "-e", f'{{"is_cut": {str(is_cut).lower()}}}')
        assert (told.returncode == 0) is not is_cut, told.stdout + told.stderr
        assert "PLAY RECAP" in told.stdout, told.stdout + told.stderr
        recap = told.stdout.split("PLAY RECAP")[1]
        return recap, set(self.said.read_text().splitlines()) if self.said.exists() else set()


def _of_its_own(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What stands in the play itself."""
    brought = {"ansible.builtin.import_tasks", "ansible.builtin.include_role"}
    return [each for each in tasks if not brought & set(each)]


def test_what_a_run_that_was_cut_has_not_restarted_the_next_one_does(tmp_path: Path) -> None:
    everything = {
        each["name"]
        for role in ROLES
        for each in yaml.safe_load((PROVISIONING / "roles" / role / "handlers/main.yml").read_text())
    }
    machine = Machine(tmp_path)
    recap, restarted = machine.run(is_cut=True)
    assert "unreachable=1" in recap
    assert "Restart the appliance" not in restarted, "handlers wait for the end, which did not come"
    _, restarted = machine.run()
    assert restarted == everything, "nothing of the files was changed, and all of it is done"
    recap, restarted = machine.run()
    assert "changed=0" in recap
    assert restarted == set()
