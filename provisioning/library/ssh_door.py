#!/usr/bin/python
"""Ansible module: whether the one who runs the playbook could come back by SSH once the firewall's rules are loaded. Changes nothing.

Run without `become`, which would take away what sshd says of the connection.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: ssh_door
short_description: Whether this run could come back by SSH once the firewall's rules are loaded
options:
  networks: {description: Those that the rules let in., type: list, elements: str, required: true}
  shut: {description: "Nobody is to come in: said by whoever leaves networks empty.", type: bool, default: false}
author: [the appliance's engineers]
"""

PORT = 22
"""The only one that the rules open (roles/firewall/templates/nftables.conf.j2)."""


def shut_out(connection: str, networks: Sequence[str], *, shut: bool) -> str:
    """Why this run would be the last, in words for the operator; empty if it would not.

    `connection` is sshd's own word (SSH_CONNECTION): address and port of who came, address and port at which.
    """
    known = []
    for each in networks:
        try:
            known.append(ip_network(each, strict=False))
        except ValueError:
            return f"firewall_ssh_from: {each} is no network"
    if not connection or (shut and not known):
        return ""
    if not known:
        return (
            "firewall_ssh_from is empty, so nobody could come in by SSH any more. Name the network of those who look after the box;"
            " if nobody is to come in, say -e firewall_shut_ssh=true: SSH is then shut when all else is done"
        )
    came, _, _, port = connection.split()
    address = ip_address(came.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if not any(address in each for each in known):
        return f"you come from {address}, which none of firewall_ssh_from ({', '.join(networks)}) lets in: this would be your last run"
    if int(port) != PORT:
        return f"you come in at port {port}, and the rules open {PORT} alone: let sshd listen there first"
    return ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "networks": {"type": "list", "elements": "str", "required": True},
            "shut": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    told = module.params
    if why := shut_out(os.environ.get("SSH_CONNECTION", ""), told["networks"], shut=told["shut"]):
        module.fail_json(msg=f"{why}. Nothing was changed.")
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
