"""Ansible inventory: the boxes of a fleet, from the heartbeats that they have sent.

Nothing is called and nothing can be: the hosts are names, and everything that the fleet's playbooks do happens on this machine
(``ansible_connection: local``). A box is in the inventory only if the register has its key, its heartbeat is signed with it, and it is
fresh (`appliance.fleet.roll`); of every other one a warning says why it isn't, and the variables of all hosts do::

    fleet_first       the name of the register's first box
    fleet_unheard     the boxes of the register that are not in the inventory, in its order: of each box, clinic and state (`roll.Why`)
    fleet_strangers   the same of those that the register doesn't have, whose clinic is not known
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

from appliance.errors import ApplianceError
from appliance.fleet import board, roll

DOCUMENTATION = """
name: appliance_fleet
short_description: Clinic boxes, from their signed heartbeats
description: See the module's own words.
options:
  plugin: {description: The name of this plugin., type: str, required: true, choices: [appliance_fleet]}
  register: {description: The boxes in the order in which they are changed. Each has name and key; clinic is for people., type: list, elements: dict, required: true}
  board: {description: "Where heartbeats lie: a folder, seen from this file, or s3://BUCKET/PREFIX.", type: str, required: true, env: [{name: FLEET_BOARD}]}
  region: {description: The bucket's region., type: str, default: ca-central-1}
  endpoint_url: {description: Another provider's address., type: str, default: ""}
  fresh_minutes: {description: How old a heartbeat may be., type: int, default: 60}
"""


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]  # Ansible ships no types
    """The plugin."""

    NAME = "appliance_fleet"

    def verify_file(self, path: str) -> bool:
        """Whether `path` is a file of this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("fleet.yml", "fleet.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Read the register and the heartbeats, and fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        place = str(self.get_option("board"))
        if not place.startswith("s3://"):
            place = str((Path(path).parent / place).resolve())
        region, endpoint_url = self.get_option("region"), self.get_option("endpoint_url")
        try:
            there = board.board(place, region=region, endpoint_url=endpoint_url)
            found = {name: there.read(f"{board.BOXES}{name}{board.SUFFIX}") for name in there.boxes()}
        except ApplianceError as error:
            raise AnsibleParserError(f"{error}") from error
        register = {str(each["name"]): each for each in self.get_option("register")}
        keys = {name: str(each["key"]) for name, each in register.items()}
        fresh = timedelta(minutes=self.get_option("fresh_minutes"))
        called = roll.call(keys, found, datetime.now(UTC), fresh=fresh)
        self.inventory.add_group("fleet")
        self.inventory.set_variable("all", "fleet_first", next(iter(register), ""))
        for name, heard in called.present.items():
            self.inventory.add_host(name, group="fleet")
            values = {
                "ansible_connection": "local",
                "fleet_heartbeat": dict(heard.document),
                "fleet_key": keys[name],
                "fleet_clinic": str(register[name].get("clinic", "")),
                "fleet_board": place,
                "fleet_region": region,
                "fleet_endpoint_url": endpoint_url,
            }
            for variable, value in values.items():
                self.inventory.set_variable(name, variable, value)
        refused = [
            {"box": name, "clinic": str(register.get(name, {}).get("clinic", "")), "state": str(why)}
            for name, why in called.refused.items()
        ]
        unheard = [each for name in register for each in refused if each["box"] == name]
        strangers = [each for each in refused if each["box"] not in register]
        self.inventory.set_variable("all", "fleet_unheard", unheard)
        self.inventory.set_variable("all", "fleet_strangers", strangers)
        for name, why in called.refused.items():
            self.display.warning(f"{name} is not in the fleet now: {why}")
